"""The sidecar's HTTP face: aiohttp lives here (and in the simulator) and nowhere else."""
