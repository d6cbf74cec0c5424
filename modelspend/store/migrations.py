"""The schema, as the list of steps that led to it. Append; never edit a released step.

Hides how far a file has come: `PRAGMA user_version` counts the applied steps, so that a start with
nothing to do reads one number and never imports sqlite_utils. Each step runs in one transaction
together with its record in `_sqlite_migrations`, which sqlite-utils keeps.
"""

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x6D736C64  # "msld": a file without it is somebody else's database


def m001_ledger(db: "Database") -> None:
    """Receipts with their attempts, events and bodies; open intents; prices; the estimator.

    `facets` holds each combination of the low-cardinality columns once: a search resolves its
    names there and then walks one narrow index, where an index per column would cost 200 bytes a
    receipt and still be slow for two filters at once; its maxima rule out whole combinations.
    `head` is the end of the hash chain, so that even a cut-off tail shows. Writing order for what
    is to come: an intent's transaction takes its hold, a receipt's transaction settles it.
    """
    for statement in _M001.split(";\n"):
        db.execute(statement)


_M001 = """
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
"""


def m002_conversations(db: "Database") -> None:
    """What a conversation leaves for its next turn, what turns missed in a cache, kept answers.

    `conversations` is upserted with every receipt of a session, so it has no index beside its key
    and its blob of hashes stands last, where a look at the other columns does not read it.
    `cache_misses` follows from receipts and is no part of the chain. `answer_cache` may be emptied
    at any time; `digest` covers a whole row, so that a damaged or moved one is never served.
    """
    for statement in _M002.split(";\n"):
        db.execute(statement)


_M002 = """
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
"""


def m003_quality(db: "Database") -> None:
    """Evidence on the quality of models, and the results of suites that are under way.

    Evidence is append-only and counts once by its id; the newest row of a `subject` (an item of a
    suite) stands for it, the others are `superseded`. Sums come out of an index in its order, since
    they are made while calls wait for the writer. Results are what a run that was killed goes on
    from; they become evidence all at once when the run ends.
    """
    for statement in _M003.split(";\n"):
        db.execute(statement)


_M003 = """
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
"""


def m004_stored_answers(db: "Database") -> None:
    """Who keeps an answer that a later request may go on from by its id alone.

    Its writing joins that of the receipt, and no receipt says the id, so it follows from nothing
    else. The index is for forgetting: a row is of no use once its provider has deleted the answer.
    """
    for statement in _M004.split(";\n"):
        db.execute(statement)


_M004 = """
CREATE TABLE stored_answers (
  tenant TEXT NOT NULL,
  answer_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  model TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (tenant, answer_id)
) WITHOUT ROWID;

CREATE INDEX stored_answers_age ON stored_answers (at)
"""


def m005_budgets(db: "Database") -> None:
    """What budgets have spent, what open calls hold of them, what was set, told and stopped.

    What a call holds stands on its intent (`holds`: [budget, start, pico-dollars] for each budget),
    so that it is there exactly as long as the call is open. A budget that is in force no more has
    no `opened_at`, and stays for as long as a call holds of it. `budget_sums` has a row for each
    window, or for each step of a rolling one; a row is never set back. A firing is kept by the key
    of its budget, which outlives the row of the budget itself.
    """
    for statement in _M005.split(";\n"):
        db.execute(statement)


_M005 = """
ALTER TABLE intents ADD COLUMN holds TEXT;

ALTER TABLE intent_attempts ADD COLUMN hold_pico INTEGER NOT NULL DEFAULT 0;

ALTER TABLE intent_attempts ADD COLUMN holds TEXT;

CREATE TABLE budgets (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  window_name TEXT NOT NULL,
  opened_at INTEGER
);

CREATE TABLE budget_sums (
  budget INTEGER NOT NULL REFERENCES budgets (id),
  start INTEGER NOT NULL,
  spent_pico INTEGER NOT NULL,
  held_pico INTEGER NOT NULL,
  PRIMARY KEY (budget, start)
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

CREATE TABLE budget_firings (
  budget TEXT NOT NULL,
  start INTEGER NOT NULL,
  rule TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (budget, start, rule)
) WITHOUT ROWID;

CREATE TABLE stops (
  name TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  set_at INTEGER NOT NULL
) WITHOUT ROWID
"""


def m006_circuits(db: "Database") -> None:
    """Circuits that outlive the process, what hands ordered, hops, incidents, health by the minute.

    A circuit's row says which boot wrote it and as which of its moves, so that a move whose commit
    was in doubt may be written again. `circuit_orders` is how commands reach the daemon, which
    takes its rows away. `health_samples` follows from `attempts` and may be emptied at any time.
    """
    for statement in _M006.split(";\n"):
        db.execute(statement)


_M006 = """
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
"""


def m007_reports(db: "Database") -> None:
    """What reports over a million receipts need: sums by day, savings, and covering indexes.

    `days` has the sums of receipts up to the number in `rolled`, by day (UTC) and facet; money in
    halves that cannot overflow (see `sums.py`). What is newer is added when it is read, so the two
    together are always exact. `savings` has a row for each receipt on which a decision was applied.
    Regions join the facets; tags and sessions carry what their sums need, and so does the index by
    facet, which gets the time to the first token.
    """
    for statement in _M007.split(";\n"):
        db.execute(statement)
    _savings_of_old(db)


_M007 = """
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
"""


def _savings_of_old(db: "Database") -> None:
    """Rows for the receipts that had savings before there was a table: answers given again."""
    from modelspend.store import detail

    found = db.execute(
        "SELECT seq, receipt_id, tenant, workflow, session_id, key_id, trace_id, price_id, model,"
        " model_asked, detail FROM receipts WHERE status = 'cached'"
    ).fetchall()
    for seq, *columns, packed in found:
        saved = detail.thaw(detail.unpack(packed, tuple(columns))).savings
        if saved is not None:
            caching = None if saved.baseline_cost_pico is None else saved.by_mechanism["caching"]
            db.execute(
                "INSERT INTO savings (seq, caching_pico) VALUES (?, ?)",
                (seq, caching),
            )


def m008_checkpoints(db: "Database") -> None:
    """Signed checkpoints of the chain, and digests of the rows that the chain does not cover.

    Events and failovers are no part of a receipt's bytes: each row has a digest of its own, and a
    checkpoint hashes those of all events. `ledger.id` says which ledger a checkpoint is of.
    """
    from modelspend.chain import row_digest

    for statement in _M008.split(";\n"):
        db.execute(statement)
    for row in db.execute(f"SELECT {_EVENT_008} FROM events").fetchall():
        db.execute("UPDATE events SET digest = ? WHERE seq = ?", (row_digest(row), row[0]))
    for row in db.execute(f"SELECT {_HOP_008} FROM v3_failover_decisions").fetchall():
        db.execute(
            "UPDATE v3_failover_decisions SET digest = ? WHERE seq = ? AND n = ?",
            (row_digest(row), *row[:2]),
        )


_EVENT_008 = "seq, created_at, kind, level, tenant, receipt_id, data"
_HOP_008 = (
    "seq, n, tenant, receipt_id, from_provider, to_provider, model_id, to_model_id,"
    " failure_class, reason, perhaps_twice, decided_at"
)
_M008 = """
CREATE TABLE checkpoints (
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  said TEXT NOT NULL,
  PRIMARY KEY (seq, at)
) WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES ('ledger.id', 'lgr_' || lower(hex(randomblob(8))));

ALTER TABLE events ADD COLUMN digest BLOB;

ALTER TABLE v3_failover_decisions ADD COLUMN digest BLOB
"""


def m009_drills(db: "Database") -> None:
    """Attempts and incidents that a drill made on purpose, with its fault: nobody's health suffers.

    A drill itself is told by its events, `drill.started` and `drill.ended`.
    """
    db.execute("ALTER TABLE attempts ADD COLUMN drill TEXT")
    db.execute("ALTER TABLE incidents ADD COLUMN drill TEXT")


def m010_sinks(db: "Database") -> None:
    """Where each sink of what happens is, what it got, and what waits for whom.

    A sink's number moves in one transaction with its counts, so sent, dropped and queued always add
    up to what was emitted; `filed` of it wait in `webhook_deliveries`, which refer to what they
    tell by its number. A dead letter keeps its bytes, since a receipt's events may be long gone.
    """
    for statement in _M010.split(";\n"):
        db.execute(statement)


_M010 = """
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
"""


MIGRATIONS = (
    m001_ledger,
    m002_conversations,
    m003_quality,
    m004_stored_answers,
    m005_budgets,
    m006_circuits,
    m007_reports,
    m008_checkpoints,
    m009_drills,
    m010_sinks,
)


def version(conn: sqlite3.Connection) -> int:
    """How many of the steps this file has seen."""
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def migrate(conn: sqlite3.Connection) -> None:
    """Apply the steps that are still to come; each is whole or absent after a crash."""
    done = version(conn)
    if done >= len(MIGRATIONS):
        return
    from sqlite_utils import Database, Migrations

    if not done:  # before the first table: a crash half-way must not leave a stranger's file
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    steps = Migrations("modelspend")
    for n, step in enumerate(MIGRATIONS, start=1):
        steps(name=step.__name__)(_counted(step, n))
    steps.apply(Database(conn))


def _counted(step: "Step", n: int) -> "Step":
    def run(db: "Database") -> None:
        step(db)
        db.execute(f"PRAGMA user_version = {n}")

    return run


if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[Database], None]
