CREATE TABLE evidence (
  evidence_id TEXT PRIMARY KEY,
  model TEXT NOT NULL,
  category TEXT NOT NULL,
  source TEXT NOT NULL,
  suite TEXT NOT NULL,
  task TEXT NOT NULL,
  item TEXT NOT NULL,
  subject TEXT,
  score REAL NOT NULL CHECK (score BETWEEN 0 AND 1),
  n INTEGER NOT NULL CHECK (n > 0),
  receipt_id TEXT,
  at INTEGER NOT NULL,
  superseded INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE INDEX evidence_subject ON evidence (subject, at) WHERE subject IS NOT NULL;

CREATE INDEX evidence_counted ON evidence (category, model, source, suite, task, n, score)
  WHERE superseded = 0;

CREATE TABLE eval_results (
  item_key TEXT NOT NULL,
  model TEXT NOT NULL,
  suite TEXT NOT NULL,
  item TEXT NOT NULL,
  category TEXT NOT NULL,
  outcome TEXT NOT NULL,
  score REAL,
  why TEXT NOT NULL,
  receipt_id TEXT,
  cost_pico INTEGER,
  judge_receipt_id TEXT,
  judge_cost_pico INTEGER,
  latency_ms REAL NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (item_key, model)
) WITHOUT ROWID
