"""How a drill went, worked out from receipts and events alone: the same for a ledger read later.

Calls that count are those that the fault touched or would have: they asked its provider, were led
away from it, were planned round it because its circuit was open, or were meant for it and refused.
What a reader would not guess: what a drill cost extra is signed, since the provider that answered
instead may be cheaper.
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
    comparison, all events from its start on, and how many of its calls have no receipt yet.
    `ended_at_ms` is when the fault was gone."""

    drill: Drill
    ended_at_ms: int
    receipts: Sequence[Receipt]
    still_open: int = 0
    before: Sequence[Receipt] = ()
    events: Sequence[Event] = ()


def report(seen: Drilled) -> dict[str, Any]:
    """The report, as `drill --json` prints it. Times are seconds, latencies milliseconds."""
    provider = seen.drill.provider
    hops = hops_from(provider, seen.events)
    calls = [one for one in seen.receipts if concerned(one, provider, hops)]
    return {
        "drill": seen.drill.to_json()
        | {
            "ended_at": iso(seen.ended_at_ms),
            "lasted_s": _seconds(seen.drill.started_at_ms, seen.ended_at_ms),
        },
        "calls": _calls(calls) | {"still_open": seen.still_open},
        "attempts": _attempts(calls),
        "failover": _failover(calls, provider, hops),
        "circuit": _circuit(seen, calls),
        "latency_ms": {
            "before": _latencies([one for one in seen.before if _asked(one, provider)]),
            "during": _latencies(calls),
        },
        "cost": _cost(calls, provider, hops, _rates([*seen.before, *calls], provider)),
    }


Hops = Mapping[str, Sequence[Event]]
"""The failovers away from the provider, by the receipt of their call."""


def hops_from(provider: str, events: Iterable[Event]) -> Hops:
    """The failovers of every call that was led away from a provider."""
    found: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "failover" and event.receipt_id is not None:
            found.setdefault(event.receipt_id, []).append(event)
    return {
        receipt_id: hops
        for receipt_id, hops in found.items()
        if any(hop.data.get("from_provider") == provider for hop in hops)
    }


def concerned(one: Receipt, provider: str, hops: Hops) -> bool:
    """Whether a call had to do with a provider, or would have, had it been well."""
    refused = not one.attempts and one.decision is not None and one.decision.provider == provider
    led = one.receipt_id in hops or _planned_round(one, provider) is not None
    return led or refused or _asked(one, provider)


def _planned_round(one: Receipt, provider: str) -> str | None:
    """The model at a provider that the plan left out because of its circuit."""
    for each in one.candidates:
        if each.provider == provider and each.filtered_out_by == "circuit_open":
            return None if _asked(one, provider) else each.model_id
    return None


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
    failed = Counter(one.failure_class.value for one in met if one.failure_class is not None)
    return {
        "met_fault": len(met),
        "failed": failed.total(),
        "by_failure_class": dict(failed.most_common()),
    }


def _failover(calls: Sequence[Receipt], provider: str, hops: Hops) -> dict[str, Any]:
    """Calls that somebody else was asked for: by a hop, or by a plan that knew better."""
    every = [hop for one in calls for hop in hops.get(one.receipt_id, ())]
    hopped = [one for one in calls if one.receipt_id in hops]
    planned = [
        one
        for one in calls
        if one.receipt_id not in hops and _planned_round(one, provider) is not None
    ]
    reasons = Counter(str(hop.data.get("reason")) for hop in every)
    to = Counter(one.attempts[-1].provider for one in (*hopped, *planned) if one.attempts)
    return {
        "calls": len(hopped) + len(planned),
        "hops": len(every),
        "planned_round": len(planned),
        "to": dict(to.most_common()),
        "by_reason": dict(reasons.most_common()),
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


Rates = Mapping[str, Mapping[str, int]]
"""What a unit costs at the provider, by model and bucket, as its own receipts say."""


def _rates(receipts: Iterable[Receipt], provider: str) -> Rates:
    found: dict[str, dict[str, int]] = {}
    for one in receipts:
        for attempt in one.attempts:
            if attempt.provider == provider:
                units = found.setdefault(attempt.model_id, {})
                for line in attempt.cost.lines:
                    if line.unit_pico is not None:
                        units[line.bucket] = line.unit_pico
    return found


def _cost(calls: Sequence[Receipt], provider: str, hops: Hops, rates: Rates) -> dict[str, Any]:
    """`extra_usd`: what calls that were led elsewhere cost more than at the provider itself.
    `spoilt_usd`: what answers cost that the fault spoilt, and that were paid for all the same."""
    spent = [one.execution.actual_cost_pico for one in calls]
    led = [one for one in calls if one.receipt_id in hops or _planned_round(one, provider)]
    extra = [_extra(one, provider, hops, rates) for one in led]
    known = [each for each in extra if each is not None]
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


def _extra(one: Receipt, provider: str, hops: Hops, rates: Rates) -> Decimal | None:
    """What one call cost more; of a plan that went round the provider, its tokens at its rates."""
    if one.receipt_id in hops:
        told = hops[one.receipt_id][-1].data.get("extra_cost_usd")
        return None if told is None else Decimal(str(told))
    units = rates.get(_planned_round(one, provider) or "", {})
    used = one.usage.quantities
    cost = one.execution.actual_cost_pico
    if cost is None or not all(bucket in units for bucket in used):
        return None
    there = sum(count * units[bucket] for bucket, count in used.items())
    return usd(cost) - usd(there)


def _seconds(since_ms: int, until_ms: int) -> float:
    return round((until_ms - since_ms) / 1000, 3)
