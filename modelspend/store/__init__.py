"""The ledger: one SQLite file in which every call leaves exactly one receipt.

Hides SQL, threads and the ways in which disks fail; what crosses this door are the product's own
values. A reader would not guess that nothing here is imported for a command that does not need it:
sqlite_utils is loaded only when a migration is pending.
"""

from modelspend.store.bodies import Bodies
from modelspend.store.budgets import HeldCall, Stop
from modelspend.store.conversations import Advanced, Missed, MissedSession, MissTotal
from modelspend.store.daily import ConversationSum, Daily, DaySum
from modelspend.store.days import DAY_MS, Key, Sum, Sums, Tokens
from modelspend.store.history import Past, PastTry
from modelspend.store.holds import Firing
from modelspend.store.latencies import ByPart, Durations, LatencyKey, Part, Took
from modelspend.store.ledger import Store, wall_ms
from modelspend.store.lock import Holder, read_lock
from modelspend.store.meta import Info
from modelspend.store.receipts import Stored, Totals
from modelspend.store.search import ALL, PLACES, Filter

__all__ = [
    "ALL",
    "DAY_MS",
    "PLACES",
    "Advanced",
    "Bodies",
    "ByPart",
    "ConversationSum",
    "Daily",
    "DaySum",
    "Durations",
    "Filter",
    "Firing",
    "HeldCall",
    "Holder",
    "Info",
    "Key",
    "LatencyKey",
    "MissTotal",
    "Missed",
    "MissedSession",
    "Part",
    "Past",
    "PastTry",
    "Stop",
    "Store",
    "Stored",
    "Sum",
    "Sums",
    "Tokens",
    "Took",
    "Totals",
    "read_lock",
    "wall_ms",
]
