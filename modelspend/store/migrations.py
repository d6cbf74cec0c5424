"""The schema, as the list of steps that led to it. Append; never edit a released step.

The SQL of a step lies in `steps/` under its name; why it is so stands here. Hides how far a file
has come: `PRAGMA user_version` counts the applied steps, so that a start with nothing to do reads
one number and never imports sqlite_utils. Each step runs in one transaction together with its
record in `_sqlite_migrations`, which sqlite-utils keeps.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_STEPS = Path(__file__).with_name("steps")

APPLICATION_ID = 0x6D736C64  # "msld": a file without it is somebody else's database


def m001_ledger(db: "Database") -> None:
    """Receipts with their attempts, events and bodies; open intents; prices; the estimator.

    `facets` holds each combination of the low-cardinality columns once: a search resolves its
    names there and then walks one narrow index, where an index per column would cost 200 bytes a
    receipt and still be slow for two filters at once; its maxima rule out whole combinations.
    `head` is the end of the hash chain, so that even a cut-off tail shows. Writing order for what
    is to come: an intent's transaction takes its hold, a receipt's transaction settles it.
    """
    _apply(db, "m001_ledger")


def m002_conversations(db: "Database") -> None:
    """What a conversation leaves for its next turn, what turns missed in a cache, kept answers.

    `conversations` is upserted with every receipt of a session, so it has no index beside its key
    and its blob of hashes stands last, where a look at the other columns does not read it.
    `cache_misses` follows from receipts and is no part of the chain. `answer_cache` may be emptied
    at any time; `digest` covers a whole row, so that a damaged or moved one is never served.
    """
    _apply(db, "m002_conversations")


def m003_quality(db: "Database") -> None:
    """Evidence on the quality of models, and the results of suites that are under way.

    Evidence is append-only and counts once by its id; the newest row of a `subject` (an item of a
    suite) stands for it, the others are `superseded`. Sums come out of an index in its order, since
    they are made while calls wait for the writer. Results are what a run that was killed goes on
    from; they become evidence all at once when the run ends.
    """
    _apply(db, "m003_quality")


def m004_stored_answers(db: "Database") -> None:
    """Who keeps an answer that a later request may go on from by its id alone.

    Its writing joins that of the receipt, and no receipt says the id, so it follows from nothing
    else. The index is for forgetting: a row is of no use once its provider has deleted the answer.
    """
    _apply(db, "m004_stored_answers")


def m005_budgets(db: "Database") -> None:
    """What budgets have spent, what open calls hold of them, what was set, told and stopped.

    What a call holds stands on its intent (`holds`: [budget, start, pico-dollars] for each budget),
    so that it is there exactly as long as the call is open. A budget that is in force no more has
    no `opened_at`, and stays for as long as a call holds of it. `budget_sums` has a row for each
    window, or for each step of a rolling one; a row is never set back. A firing is kept by the key
    of its budget, which outlives the row of the budget itself.
    """
    _apply(db, "m005_budgets")


def m006_circuits(db: "Database") -> None:
    """Circuits that outlive the process, what hands ordered, hops, incidents, health by the minute.

    A circuit's row says which boot wrote it and as which of its moves, so that a move whose commit
    was in doubt may be written again. `circuit_orders` is how commands reach the daemon, which
    takes its rows away. `health_samples` follows from `attempts` and may be emptied at any time.
    """
    _apply(db, "m006_circuits")


def m007_reports(db: "Database") -> None:
    """What reports over a million receipts need: sums by day, savings, and covering indexes.

    `days` has the sums of receipts up to the number in `rolled`, by day (UTC) and facet; money in
    halves that cannot overflow (see `sums.py`). What is newer is added when it is read, so the two
    together are always exact. `savings` has a row for each receipt on which a decision was applied.
    Regions join the facets; tags and sessions carry what their sums need, and so does the index by
    facet, which gets the time to the first token.
    """
    _apply(db, "m007_reports")
    _savings_of_old(db)


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

    _apply(db, "m008_checkpoints")
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
    _apply(db, "m010_sinks")


def m011_alarms(db: "Database") -> None:
    """What has gone off and whether somebody was told, so that a restart tells nobody twice.

    One row for each rule and name, changed in the transaction of the event that tells of it. A
    silence is for all of a rule, a scope or one name; an empty text is any of them. Sinks may want
    alerts of some levels and rules alone. What drills have met is left out by an index of its own.
    """
    _apply(db, "m011_alarms")


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
    m011_alarms,
)


def _apply(db: "Database", step: str) -> None:
    for statement in (_STEPS / f"{step}.sql").read_text("utf-8").split(";\n"):
        db.execute(statement)


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
