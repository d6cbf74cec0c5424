"""Questions asked of the ledger: one file each, drawn by every surface."""
