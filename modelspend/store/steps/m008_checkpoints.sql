CREATE TABLE checkpoints (
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  said TEXT NOT NULL,
  PRIMARY KEY (seq, at)
) WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES ('ledger.id', 'lgr_' || lower(hex(randomblob(8))));

ALTER TABLE events ADD COLUMN digest BLOB;

ALTER TABLE v3_failover_decisions ADD COLUMN digest BLOB
