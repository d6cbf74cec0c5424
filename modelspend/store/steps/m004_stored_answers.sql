CREATE TABLE stored_answers (
  tenant TEXT NOT NULL,
  answer_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (tenant, answer_id)
) WITHOUT ROWID;

CREATE INDEX stored_answers_age ON stored_answers (at)
