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

CREATE TABLE circuit_orders (
  order_id INTEGER PRIMARY KEY AUTOINCREMENT,
  act TEXT NOT NULL,
  provider TEXT NOT NULL,
  model_id TEXT,
  ordered_at INTEGER NOT NULL,
  until INTEGER
);

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
) WITHOUT ROWID;

CREATE INDEX incidents_circuit ON incidents (provider, model_id, key_id, opened_at);

CREATE INDEX incidents_time ON incidents (opened_at);

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
  decided_at INTEGER NOT NULL,
  PRIMARY KEY (seq, n)
) WITHOUT ROWID;

CREATE INDEX failovers_tenant ON v3_failover_decisions (tenant, seq, n);

CREATE INDEX failovers_time ON v3_failover_decisions (decided_at);

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

CREATE INDEX events_circuit ON events (seq)
  WHERE kind IN ('circuit.open', 'circuit.half_open', 'circuit.recovered')
