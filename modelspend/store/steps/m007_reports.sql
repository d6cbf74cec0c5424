ALTER TABLE facets ADD COLUMN region TEXT;

INSERT INTO facets (tenant, workflow, model, provider, category, status, unpriced, max_cost_pico,
    max_latency_ms, region)
  SELECT DISTINCT f.tenant, f.workflow, f.model, f.provider, f.category, f.status, f.unpriced,
    f.max_cost_pico, f.max_latency_ms, a.region
  FROM attempts a JOIN receipts r ON r.seq = a.seq JOIN facets f ON f.id = r.facet_id
  WHERE a.region IS NOT NULL AND a.n = (SELECT max(n) FROM attempts b WHERE b.seq = a.seq);

UPDATE receipts SET facet_id = (
    SELECT g.id FROM facets f, facets g, attempts a
    WHERE f.id = receipts.facet_id AND a.seq = receipts.seq
      AND a.n = (SELECT max(n) FROM attempts b WHERE b.seq = a.seq)
      AND g.tenant = f.tenant AND g.workflow IS f.workflow AND g.model IS f.model
      AND g.provider IS f.provider AND g.category IS f.category AND g.status = f.status
      AND g.unpriced = f.unpriced AND g.region = a.region)
  WHERE seq IN (
    SELECT seq FROM attempts a WHERE region IS NOT NULL
      AND n = (SELECT max(n) FROM attempts b WHERE b.seq = a.seq));

ALTER TABLE tags ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;

ALTER TABLE tags ADD COLUMN facet_id INTEGER NOT NULL DEFAULT 0;

ALTER TABLE tags ADD COLUMN cost_pico INTEGER;

UPDATE tags SET (created_at, facet_id, cost_pico) =
  (SELECT r.created_at, r.facet_id, r.cost_pico FROM receipts r WHERE r.seq = tags.seq);

CREATE TABLE savings (
  seq INTEGER PRIMARY KEY REFERENCES receipts (seq),
  routing_pico INTEGER,
  caching_pico INTEGER,
  compression_pico INTEGER,
  failover_pico INTEGER,
  retry_pico INTEGER
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

CREATE TABLE rolled (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL
);

INSERT INTO rolled (id, seq) VALUES (1, 0);

DROP INDEX receipts_facet;

CREATE INDEX receipts_facet ON receipts (facet_id, created_at, cost_pico, charged_pico, latency_ms,
  ttft_ms);

DROP INDEX receipts_session;

CREATE INDEX receipts_session ON receipts (session_id, created_at, facet_id, cost_pico)
  WHERE session_id IS NOT NULL;

CREATE INDEX attempts_hops ON attempts (seq) WHERE n > 1;

CREATE INDEX attempts_failed ON attempts (seq) WHERE status <> 'success'
