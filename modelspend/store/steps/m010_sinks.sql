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

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook, due_at)
  WHERE due_at IS NOT NULL;

CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;

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

CREATE INDEX otel_traces_start ON otel_traces (start_ns);

CREATE INDEX otel_traces_receipt ON otel_traces (receipt_id)
