CREATE TABLE alarms (
  rule TEXT NOT NULL,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  period TEXT NOT NULL,
  level TEXT NOT NULL,
  message TEXT NOT NULL,
  value REAL,
  threshold REAL,
  see TEXT,
  window_start INTEGER NOT NULL,
  window_end INTEGER,
  since INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  quiet_since INTEGER,
  resolved_at INTEGER,
  told TEXT,
  is_open INTEGER NOT NULL,
  PRIMARY KEY (rule, scope, name, period)
) WITHOUT ROWID;

CREATE TABLE alarm_silences (
  rule TEXT NOT NULL,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  silenced_at INTEGER NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (rule, scope, name)
) WITHOUT ROWID;

CREATE INDEX attempts_drill ON attempts (seq) WHERE drill IS NOT NULL;

ALTER TABLE sinks ADD COLUMN levels TEXT NOT NULL DEFAULT '';

ALTER TABLE sinks ADD COLUMN rules TEXT NOT NULL DEFAULT ''
