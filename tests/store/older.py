"""A ledger as an older version left it: what later steps of the schema added is taken out again."""

import sqlite3

from modelspend.store.migrations import MIGRATIONS

_UNDO = {
    "alarms": """
ALTER TABLE sinks DROP COLUMN rules;
ALTER TABLE sinks DROP COLUMN levels;
DROP INDEX attempts_drill;
DROP TABLE alarm_silences;
DROP TABLE alarms;
""",
    "sinks": """
DROP TABLE otel_traces;
DROP TABLE webhook_dead_letters;
DROP TABLE webhook_deliveries;
DROP TABLE sinks;
""",
    "drills": "ALTER TABLE attempts DROP COLUMN drill; ALTER TABLE incidents DROP COLUMN drill;",
    "checkpoints": """
DROP TABLE checkpoints;
DELETE FROM meta WHERE key = 'ledger.id';
ALTER TABLE events DROP COLUMN digest;
ALTER TABLE v3_failover_decisions DROP COLUMN digest;
""",
    "reports": """
DROP INDEX attempts_hops;
DROP INDEX attempts_failed;
DROP INDEX receipts_facet;
CREATE INDEX receipts_facet ON receipts (facet_id, created_at, cost_pico, charged_pico, latency_ms);
DROP INDEX receipts_session;
CREATE INDEX receipts_session ON receipts (session_id, created_at) WHERE session_id IS NOT NULL;
DROP TABLE rolled;
DROP TABLE days;
DROP TABLE savings;
ALTER TABLE tags DROP COLUMN created_at;
ALTER TABLE tags DROP COLUMN facet_id;
ALTER TABLE tags DROP COLUMN cost_pico;
UPDATE receipts SET facet_id = (SELECT min(g.id) FROM facets f, facets g
  WHERE f.id = receipts.facet_id AND g.tenant = f.tenant AND g.workflow IS f.workflow
  AND g.model IS f.model AND g.provider IS f.provider AND g.category IS f.category
  AND g.status = f.status AND g.unpriced = f.unpriced);
UPDATE facets SET (max_cost_pico, max_latency_ms) = (SELECT max(g.max_cost_pico),
  max(g.max_latency_ms) FROM facets g WHERE g.tenant = facets.tenant
  AND g.workflow IS facets.workflow AND g.model IS facets.model
  AND g.provider IS facets.provider AND g.category IS facets.category
  AND g.status = facets.status AND g.unpriced = facets.unpriced);
DELETE FROM facets WHERE id NOT IN (SELECT facet_id FROM receipts);
ALTER TABLE facets DROP COLUMN region;
""",
    "circuits": """
DROP INDEX events_circuit;
DROP TABLE health_samples;
DROP TABLE v3_failover_decisions;
DROP TABLE incidents;
DROP TABLE circuit_orders;
DROP TABLE v3_provider_circuit_breakers;
""",
    "budgets": """
DROP TABLE stops;
DROP TABLE budget_firings;
DROP TABLE budget_overrides;
DROP TABLE budget_sums;
DROP TABLE budgets;
ALTER TABLE intent_attempts DROP COLUMN holds;
ALTER TABLE intent_attempts DROP COLUMN hold_pico;
ALTER TABLE intents DROP COLUMN holds;
""",
    "stored_answers": "DROP TABLE stored_answers;",
    "quality": "DROP TABLE eval_results; DROP TABLE evidence;",
    "conversations": "DROP TABLE answer_cache; DROP TABLE cache_misses; DROP TABLE conversations;",
}


def back_to(conn: sqlite3.Connection, version: int) -> None:
    """Undo every step after `version`; the receipts stay."""
    conn.execute("PRAGMA foreign_keys = OFF")
    for step in reversed(MIGRATIONS[version:]):
        conn.executescript(_UNDO[step.__name__.partition("_")[2]])
    conn.execute("DELETE FROM _sqlite_migrations WHERE id > ?", (version,))
    conn.execute(f"PRAGMA user_version = {version}")


def before(name: str) -> int:
    """The version of a ledger right before the step of that name."""
    return [step.__name__.partition("_")[2] for step in MIGRATIONS].index(name)
