"""How a drill went, worked out from receipts and events alone: the same for a ledger read later.

Calls that count are those that the fault touched or would have: they asked its provider, were led
away from it, or were meant for it and refused. What a reader would not guess: what a drill cost
extra is signed, since the provider that answered instead may be cheaper.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from math import ceil
from typing import Any

from modelspend.drills import Drill
from modelspend.events import Event
from modelspend.money import usd
from modelspend.receipt import Attempt, Receipt, Status
from modelspend.receipt_json import iso
from modelspend.record import record


@record
class Drilled:
    """What the ledger has of a drill: receipts of calls that began in it, those of before it for
    comparison, and all events from its start on. `ended_at_ms` is when the fault was gone."""

    drill: Drill
    ended_at_ms: int
    looked_until_ms: int
    receipts: Sequence[Receipt]
    before: Sequence[Receipt] = ()
    events: Sequence[Event] = ()


def report(seen: Drilled) -> dict[str, Any]:
    """The report, as `drill --json` prints it. Times are seconds, latencies milliseconds."""
    provider = seen.drill.provider
    hops = _hops(seen)
    calls = [one for one in seen.receipts if _concerned(one, provider, hops)]
    mine = [hops[one.receipt_id] for one in calls if one.receipt_id in hops]
    return {
        "drill": seen.drill.to_json()
        | {
            "ended_at": iso(seen.ended_at_ms),
            "lasted_s": _seconds(seen.drill.started_at_ms, seen.ended_at_ms),
        },
        "calls": _calls(calls),
        "attempts": _attempts(calls),
        "failover": _failover(mine),
        "circuit": _circuit(seen, calls),
        "latency_ms": {
            "before": _latencies([one for one in seen.before if _asked(one, provider)]),
            "during": _latencies(calls),
        },
        "cost": _cost(calls, mine),
    }


Hops = Mapping[str, Sequence[Event]]
"""The failovers away from the provider, by the receipt of their call."""


def _hops(seen: Drilled) -> Hops:
    found: dict[str, list[Event]] = {}
    for event in seen.events:
        if event.kind == "failover" and event.receipt_id is not None:
            found.setdefault(event.receipt_id, []).append(event)
    return {
        receipt_id: hops
        for receipt_id, hops in found.items()
        if any(hop.data.get("from_provider") == seen.drill.provider for hop in hops)
    }


def _concerned(one: Receipt, provider: str, hops: Hops) -> bool:
    refused = not one.attempts and one.decision is not None and one.decision.provider == provider
    return _asked(one, provider) or one.receipt_id in hops or refused


def _asked(one: Receipt, provider: str) -> bool:
    return any(attempt.provider == provider for attempt in one.attempts)


def _calls(calls: Sequence[Receipt]) -> dict[str, Any]:
    """What clients saw. A call that failed over and succeeded is a success to them."""
    well = sum(one.execution.status in (Status.SUCCESS, Status.CACHED) for one in calls)
    bad = [one for one in calls if one.execution.status not in (Status.SUCCESS, Status.CACHED)]
    return {
        "total": len(calls),
        "succeeded": well,
        "failed": len(calls) - well,
        "success_share": round(well / len(calls), 6) if calls else None,
        "by_status": dict(Counter(one.execution.status.value for one in calls).most_common()),
        "errors_by_http_status": dict(
            Counter(str(one.execution.http_status or "cut off") for one in bad).most_common()
        ),
        "errors_by_failure_class": dict(Counter(map(_failure, bad)).most_common()),
    }


def _failure(one: Receipt) -> str:
    """How a call failed: its last attempt's class, or our own word when nobody was asked."""
    last = one.attempts[-1].failure_class if one.attempts else None
    return last.value if last else (one.execution.error or "unknown").partition(":")[0]


def _drilled(calls: Iterable[Receipt]) -> list[Attempt]:
    return [one for call in calls for one in call.attempts if one.drill]


def _attempts(calls: Sequence[Receipt]) -> dict[str, Any]:
    """The attempts that the fault met."""
    met = _drilled(calls)
    return {
        "met_fault": len(met),
        "by_failure_class": dict(
            Counter(
                one.failure_class.value if one.failure_class else "none" for one in met
            ).most_common()
        ),
    }


def _failover(mine: Sequence[Sequence[Event]]) -> dict[str, Any]:
    every = [hop for hops in mine for hop in hops]
    led = [hops[-1] for hops in mine]
    return {
        "calls": len(mine),
        "hops": len(every),
        "to": dict(Counter(str(hop.data.get("to_provider")) for hop in led).most_common()),
        "by_reason": dict(Counter(str(hop.data.get("reason")) for hop in every).most_common()),
    }


def _circuit(seen: Drilled, calls: Sequence[Receipt]) -> dict[str, Any]:
    """How long it took to open, and, from the end of the fault on, to recover."""
    moves = [
        event
        for event in seen.events
        if event.kind.startswith("circuit.") and event.data.get("provider") == seen.drill.provider
    ]
    opened = [event for event in moves if event.kind == "circuit.open"]
    first = opened[0].at_ms if opened else None
    last = moves[-1] if moves else None
    recovered = last if last is not None and last.kind == "circuit.recovered" else None
    before = [one for one in _drilled(calls) if first is not None and one.started_at_ms <= first]
    return {
        "opened": bool(opened),
        "opened_after_s": None if first is None else _seconds(seen.drill.started_at_ms, first),
        "attempts_until_open": len(before) if opened else None,
        "times_opened": len(opened),
        "probes": sum(event.kind == "circuit.half_open" for event in moves),
        "recovered": recovered is not None,
        "recovered_after_s": None
        if recovered is None
        else _seconds(seen.ended_at_ms, max(recovered.at_ms, seen.ended_at_ms)),
    }


def _latencies(calls: Sequence[Receipt]) -> dict[str, Any]:
    """Of calls that ended well, as clients saw them."""
    well = [one.execution for one in calls if one.execution.status is Status.SUCCESS]
    whole = [run.actual_latency_ms for run in well]
    first = [run.ttft_ms for run in well if run.ttft_ms is not None]
    return {
        "calls": len(well),
        "p50": quantile(whole, 50),
        "p95": quantile(whole, 95),
        "p99": quantile(whole, 99),
        "ttft_p50": quantile(first, 50),
        "ttft_p95": quantile(first, 95),
    }


def quantile(values: Sequence[float], percent: float) -> float | None:
    """The value that so many per cent do not exceed (nearest rank); None of nothing."""
    if not values:
        return None
    return round(sorted(values)[max(ceil(len(values) * percent / 100), 1) - 1], 1)


def _cost(calls: Sequence[Receipt], mine: Sequence[Sequence[Event]]) -> dict[str, Any]:
    """`extra_usd`: what calls that were led elsewhere cost more than at the provider itself.
    `spoilt_usd`: what answers cost that the fault spoilt, and that were paid for all the same."""
    spent = [one.execution.actual_cost_pico for one in calls]
    extra = [hops[-1].data.get("extra_cost_usd") for hops in mine]
    known = [Decimal(each) for each in extra if each is not None]
    spoilt = sum(
        one.cost.total_pico or 0 for one in _drilled(calls) if one.status is not Status.SUCCESS
    )
    return {
        "spent_usd": usd(sum(each for each in spent if each is not None)),
        "unpriced": sum(each is None for each in spent),
        "extra_usd": sum(known, Decimal(0)),
        "extra_unknown": len(extra) - len(known),
        "spoilt_usd": usd(spoilt),
    }


def _seconds(since_ms: int, until_ms: int) -> float:
    return round((until_ms - since_ms) / 1000, 3)
