CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value
) WITHOUT ROWID;

CREATE TABLE head (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL,
  receipts INTEGER NOT NULL,
  hash BLOB NOT NULL
);

INSERT INTO head (id, seq, receipts, hash) VALUES (1, 0, 0, zeroblob(32));

CREATE TABLE facets (
  id INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  workflow TEXT,
  model TEXT,
  provider TEXT,
  category TEXT,
  status TEXT NOT NULL,
  unpriced INTEGER NOT NULL,
  max_cost_pico INTEGER NOT NULL DEFAULT 0,
  max_latency_ms INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX facets_tenant ON facets (tenant, workflow, model);

CREATE TABLE receipts (
  seq INTEGER PRIMARY KEY,
  receipt_id TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  workflow TEXT,
  session_id TEXT,
  category TEXT,
  tier TEXT,
  provider TEXT,
  model TEXT,
  model_asked TEXT NOT NULL,
  dialect TEXT NOT NULL,
  status TEXT NOT NULL,
  stream INTEGER NOT NULL,
  cost_pico INTEGER,
  charged_pico INTEGER NOT NULL,
  exact INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,
  ttft_ms INTEGER,
  input_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  usage_source TEXT NOT NULL,
  price_id TEXT,
  key_id TEXT,
  replay_of TEXT,
  trace_id TEXT,
  facet_id INTEGER NOT NULL REFERENCES facets (id),
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL,
  detail BLOB NOT NULL
);

CREATE INDEX receipts_time ON receipts (created_at, facet_id, cost_pico, latency_ms);

CREATE INDEX receipts_facet ON receipts (facet_id, created_at, cost_pico, charged_pico, latency_ms);

CREATE INDEX receipts_session ON receipts (session_id, created_at) WHERE session_id IS NOT NULL;

CREATE INDEX receipts_replay ON receipts (replay_of) WHERE replay_of IS NOT NULL;

CREATE TABLE attempts (
  seq INTEGER NOT NULL REFERENCES receipts (seq),
  n INTEGER NOT NULL,
  provider TEXT NOT NULL,
  region TEXT,
  model_id TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  status TEXT NOT NULL,
  delivery TEXT NOT NULL,
  http_status INTEGER,
  failure_class TEXT,
  latency_ms INTEGER NOT NULL,
  ttft_ms INTEGER,
  cost_pico INTEGER,
  charged_pico INTEGER NOT NULL,
  PRIMARY KEY (seq, n)
) WITHOUT ROWID;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  created_at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  level TEXT NOT NULL,
  tenant TEXT,
  receipt_id TEXT,
  data TEXT NOT NULL
);

CREATE TABLE bodies (
  seq INTEGER PRIMARY KEY REFERENCES receipts (seq),
  request_size INTEGER,
  answer_size INTEGER,
  data BLOB NOT NULL
);

CREATE TABLE expired (
  facet_id INTEGER PRIMARY KEY REFERENCES facets (id),
  created_at INTEGER NOT NULL,
  seq INTEGER NOT NULL
);

CREATE TABLE tags (
  tag TEXT NOT NULL,
  seq INTEGER NOT NULL REFERENCES receipts (seq),
  PRIMARY KEY (tag, seq)
) WITHOUT ROWID;

CREATE TABLE intents (
  receipt_id TEXT PRIMARY KEY,
  boot_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  hold_pico INTEGER NOT NULL,
  detail TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE intent_attempts (
  receipt_id TEXT NOT NULL,
  n INTEGER NOT NULL,
  provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  PRIMARY KEY (receipt_id, n)
) WITHOUT ROWID;

CREATE TABLE prices (
  price_id TEXT PRIMARY KEY,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  tier TEXT NOT NULL,
  source TEXT NOT NULL,
  valid_from INTEGER,
  valid_until INTEGER,
  bands TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE price_overrides (
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  tier TEXT NOT NULL,
  valid_from INTEGER NOT NULL,
  price_id TEXT NOT NULL REFERENCES prices (price_id),
  set_at INTEGER NOT NULL,
  PRIMARY KEY (provider, model, tier, valid_from)
) WITHOUT ROWID;

CREATE TABLE ratios (
  key TEXT PRIMARY KEY,
  samples INTEGER NOT NULL,
  chars INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  error_sum REAL NOT NULL
) WITHOUT ROWID
