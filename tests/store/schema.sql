CREATE TABLE alarm_silences (
  rule TEXT NOT NULL,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  silenced_at INTEGER NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (rule, scope, name)
) WITHOUT ROWID;

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
  charged_pico INTEGER NOT NULL, drill TEXT,
  PRIMARY KEY (seq, n)
) WITHOUT ROWID;

CREATE TABLE bodies (
  seq INTEGER PRIMARY KEY REFERENCES receipts (seq),
  request_size INTEGER,
  answer_size INTEGER,
  data BLOB NOT NULL
);

CREATE TABLE budget_firings (
  budget TEXT NOT NULL,
  start INTEGER NOT NULL,
  rule TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (budget, start, rule)
) WITHOUT ROWID;

CREATE TABLE budget_overrides (
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  window_text TEXT NOT NULL,
  zone TEXT NOT NULL,
  cap_pico INTEGER,
  hard INTEGER NOT NULL,
  set_at INTEGER NOT NULL,
  PRIMARY KEY (scope, name, window_text, zone)
) WITHOUT ROWID;

CREATE TABLE budget_sums (
  budget INTEGER NOT NULL REFERENCES budgets (id),
  start INTEGER NOT NULL,
  spent_pico INTEGER NOT NULL,
  held_pico INTEGER NOT NULL,
  PRIMARY KEY (budget, start)
) WITHOUT ROWID;

CREATE TABLE budgets (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  window_name TEXT NOT NULL,
  opened_at INTEGER
);

CREATE TABLE cache_misses (
  seq INTEGER PRIMARY KEY REFERENCES receipts (seq),
  session TEXT NOT NULL,
  kind TEXT NOT NULL,
  segment TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  cost_pico INTEGER
);

CREATE TABLE checkpoints (
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  said TEXT NOT NULL,
  PRIMARY KEY (seq, at)
) WITHOUT ROWID;

CREATE TABLE circuit_orders (
  order_id INTEGER PRIMARY KEY AUTOINCREMENT,
  act TEXT NOT NULL,
  provider TEXT NOT NULL,
  model_id TEXT,
  ordered_at INTEGER NOT NULL,
  until INTEGER
);

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

CREATE TABLE days (
  day INTEGER NOT NULL,
  facet_id INTEGER NOT NULL REFERENCES facets (id),
  receipts INTEGER NOT NULL,
  cost_high INTEGER NOT NULL,
  cost_low INTEGER NOT NULL,
  saved INTEGER NOT NULL,
  unknown INTEGER NOT NULL,
  routing_high INTEGER NOT NULL,
  routing_low INTEGER NOT NULL,
  caching_high INTEGER NOT NULL,
  caching_low INTEGER NOT NULL,
  compression_high INTEGER NOT NULL,
  compression_low INTEGER NOT NULL,
  failover_high INTEGER NOT NULL,
  failover_low INTEGER NOT NULL,
  retry_high INTEGER NOT NULL,
  retry_low INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  PRIMARY KEY (day, facet_id)
) WITHOUT ROWID;

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
;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  created_at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  level TEXT NOT NULL,
  tenant TEXT,
  receipt_id TEXT,
  data TEXT NOT NULL
, digest BLOB);

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

CREATE TABLE expired (
  facet_id INTEGER PRIMARY KEY REFERENCES facets (id),
  created_at INTEGER NOT NULL,
  seq INTEGER NOT NULL
);

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
, region TEXT);

CREATE TABLE head (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL,
  receipts INTEGER NOT NULL,
  hash BLOB NOT NULL
);

CREATE TABLE health_samples (
  minute INTEGER NOT NULL,
  provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  calls INTEGER NOT NULL,
  failures TEXT NOT NULL,
  latency TEXT NOT NULL,
  ttft TEXT NOT NULL,
  PRIMARY KEY (minute, provider, model_id)
) WITHOUT ROWID;

CREATE TABLE incidents (
  incident_id TEXT PRIMARY KEY,
  provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  opened_at INTEGER NOT NULL,
  resolved_at INTEGER,
  reason TEXT NOT NULL,
  failure_class TEXT,
  resolution TEXT,
  opens INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  calls_affected INTEGER NOT NULL,
  unpriced INTEGER NOT NULL,
  extra_cost_pico INTEGER NOT NULL
, drill TEXT) WITHOUT ROWID;

CREATE TABLE intent_attempts (
  receipt_id TEXT NOT NULL,
  n INTEGER NOT NULL,
  provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  started_at INTEGER NOT NULL, hold_pico INTEGER NOT NULL DEFAULT 0, holds TEXT,
  PRIMARY KEY (receipt_id, n)
) WITHOUT ROWID;

CREATE TABLE intents (
  receipt_id TEXT PRIMARY KEY,
  boot_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  hold_pico INTEGER NOT NULL,
  detail TEXT NOT NULL
, holds TEXT) WITHOUT ROWID;

CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value
) WITHOUT ROWID;

CREATE TABLE otel_traces (
  trace_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  parent_id TEXT,
  name TEXT NOT NULL,
  kind INTEGER NOT NULL,
  start_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL,
  status INTEGER NOT NULL,
  attrs TEXT NOT NULL,
  receipt_id TEXT NOT NULL,
  tenant TEXT NOT NULL,
  exported_at INTEGER,
  export_error TEXT,
  PRIMARY KEY (trace_id, span_id)
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

CREATE TABLE ratios (
  key TEXT PRIMARY KEY,
  samples INTEGER NOT NULL,
  chars INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  error_sum REAL NOT NULL
) WITHOUT ROWID
;

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

CREATE TABLE rolled (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL
);

CREATE TABLE savings (
  seq INTEGER PRIMARY KEY REFERENCES receipts (seq),
  routing_pico INTEGER,
  caching_pico INTEGER,
  compression_pico INTEGER,
  failover_pico INTEGER,
  retry_pico INTEGER
);

CREATE TABLE sinks (
  name TEXT PRIMARY KEY,
  kinds TEXT NOT NULL,
  tenant TEXT,
  receipts INTEGER NOT NULL,
  started INTEGER NOT NULL,
  cursor INTEGER NOT NULL,
  sent INTEGER NOT NULL DEFAULT 0,
  dropped INTEGER NOT NULL DEFAULT 0,
  filed INTEGER NOT NULL DEFAULT 0,
  sent_at INTEGER,
  error TEXT,
  error_at INTEGER
, levels TEXT NOT NULL DEFAULT '', rules TEXT NOT NULL DEFAULT '') WITHOUT ROWID;

CREATE TABLE sqlite_sequence(name,seq);

CREATE TABLE stops (
  name TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  set_at INTEGER NOT NULL
) WITHOUT ROWID
;

CREATE TABLE stored_answers (
  tenant TEXT NOT NULL,
  answer_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (tenant, answer_id)
) WITHOUT ROWID;

CREATE TABLE tags (
  tag TEXT NOT NULL,
  seq INTEGER NOT NULL REFERENCES receipts (seq), created_at INTEGER NOT NULL DEFAULT 0, facet_id INTEGER NOT NULL DEFAULT 0, cost_pico INTEGER,
  PRIMARY KEY (tag, seq)
) WITHOUT ROWID;

CREATE TABLE v3_failover_decisions (
  seq INTEGER NOT NULL REFERENCES receipts (seq),
  n INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  receipt_id TEXT NOT NULL,
  from_provider TEXT NOT NULL,
  to_provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  to_model_id TEXT NOT NULL,
  failure_class TEXT,
  reason TEXT NOT NULL,
  perhaps_twice INTEGER NOT NULL,
  decided_at INTEGER NOT NULL, digest BLOB,
  PRIMARY KEY (seq, n)
) WITHOUT ROWID;

CREATE TABLE v3_provider_circuit_breakers (
  provider TEXT NOT NULL,
  model_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  failure_class TEXT,
  manual INTEGER NOT NULL,
  trips INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  retry_at INTEGER,
  boot_id TEXT NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (provider, model_id, key_id)
) WITHOUT ROWID;

CREATE TABLE webhook_dead_letters (
  delivery_id TEXT PRIMARY KEY,
  webhook TEXT NOT NULL,
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  tenant TEXT,
  payload BLOB NOT NULL,
  attempts INTEGER NOT NULL,
  http_status INTEGER,
  error TEXT,
  died_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE webhook_deliveries (
  delivery_id TEXT PRIMARY KEY,
  webhook TEXT NOT NULL,
  seq INTEGER NOT NULL,
  type TEXT NOT NULL,
  tenant TEXT,
  created_at INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  due_at INTEGER,
  status TEXT NOT NULL,
  http_status INTEGER,
  error TEXT,
  ended_at INTEGER
) WITHOUT ROWID;

CREATE INDEX answer_cache_age ON answer_cache (created_at, size);

CREATE INDEX answer_cache_end ON answer_cache (expires_at)
;

CREATE INDEX attempts_drill ON attempts (seq) WHERE drill IS NOT NULL;

CREATE INDEX attempts_failed ON attempts (seq) WHERE status <> 'success'
;

CREATE INDEX attempts_hops ON attempts (seq) WHERE n > 1;

CREATE INDEX events_circuit ON events (seq)
  WHERE kind IN ('circuit.open', 'circuit.half_open', 'circuit.recovered')
;

CREATE INDEX evidence_counted ON evidence (category, model, source, suite, task, n, score)
  WHERE superseded = 0;

CREATE INDEX evidence_subject ON evidence (subject, at) WHERE subject IS NOT NULL;

CREATE INDEX facets_tenant ON facets (tenant, workflow, model);

CREATE INDEX failovers_tenant ON v3_failover_decisions (tenant, seq, n);

CREATE INDEX failovers_time ON v3_failover_decisions (decided_at);

CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");

CREATE INDEX incidents_circuit ON incidents (provider, model_id, key_id, opened_at);

CREATE INDEX incidents_time ON incidents (opened_at);

CREATE INDEX otel_traces_receipt ON otel_traces (receipt_id)
;

CREATE INDEX otel_traces_start ON otel_traces (start_ns);

CREATE INDEX receipts_facet ON receipts (facet_id, created_at, cost_pico, charged_pico, latency_ms,
  ttft_ms);

CREATE INDEX receipts_replay ON receipts (replay_of) WHERE replay_of IS NOT NULL;

CREATE INDEX receipts_session ON receipts (session_id, created_at, facet_id, cost_pico)
  WHERE session_id IS NOT NULL;

CREATE INDEX receipts_time ON receipts (created_at, facet_id, cost_pico, latency_ms);

CREATE INDEX stored_answers_age ON stored_answers (at)
;

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook, due_at)
  WHERE due_at IS NOT NULL;

CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;
