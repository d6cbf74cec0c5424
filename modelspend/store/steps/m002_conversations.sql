CREATE TABLE conversations (
  tenant TEXT NOT NULL,
  session TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  turns INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  segments BLOB NOT NULL,
  PRIMARY KEY (tenant, session)
);

CREATE TABLE cache_misses (
  seq INTEGER PRIMARY KEY REFERENCES receipts (seq),
  session TEXT NOT NULL,
  kind TEXT NOT NULL,
  segment TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  cost_pico INTEGER
);

CREATE TABLE answer_cache (
  key BLOB PRIMARY KEY,
  tenant TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  dialect TEXT NOT NULL,
  stream INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  status INTEGER NOT NULL,
  size INTEGER NOT NULL,
  digest BLOB NOT NULL,
  head TEXT NOT NULL,
  body BLOB NOT NULL
);

CREATE INDEX answer_cache_age ON answer_cache (created_at, size);

CREATE INDEX answer_cache_end ON answer_cache (expires_at)
