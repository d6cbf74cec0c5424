"""Questions asked of the ledger: one file each, listed here, drawn by every surface.

A report is a function from the store and what was asked to one frozen value (`table.Report`), which
the terminal, `--json`, `--csv`, `--plot` and `GET /v1/reports/{name}` draw without asking again.
"""

from collections.abc import Awaitable, Callable

from modelspend.reports.alerts import alerts
from modelspend.reports.latency import latency
from modelspend.reports.mix import mix
from modelspend.reports.savings import savings
from modelspend.reports.spend import spend
from modelspend.reports.table import Asked, Report
from modelspend.reports.tenants import tenants
from modelspend.store import Store

REPORTS: tuple[tuple[str, Callable[[Store, Asked], Awaitable[Report]]], ...] = (
    ("spend", spend),
    ("savings", savings),
    ("mix", mix),
    ("latency", latency),
    ("tenants", tenants),
    ("alerts", alerts),
)
"""Every report by its name."""

__all__ = ["REPORTS", "Asked", "Report", "alerts", "latency", "mix", "savings", "spend", "tenants"]
