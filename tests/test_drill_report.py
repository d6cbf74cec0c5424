"""The report of a drill, from receipts and events that are made up to the digit."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from modelspend.drill_report import Drilled, quantile, report
from modelspend.drills import FAULTS, KINDS, Drill, Fault
from modelspend.events import Event
from modelspend.money import Band, Price, price_usage
from modelspend.receipt import (
    Attempt,
    Candidate,
    Decision,
    Delivery,
    FailureClass,
    Receipt,
    Status,
    Usage,
)
from tests.cli.conftest import receipt

START = 1_793_491_200_000
RATES = {"input_tokens": 1_000_000, "output_tokens": 2_000_000}
DEARER = {"input_tokens": 3_000_000, "output_tokens": 4_000_000}
USED = {"input_tokens": 100, "output_tokens": 10}
DRILL = Drill(
    drill_id="drill_1",
    provider="openai",
    fault=Fault(kind="outage"),
    started_at_ms=START,
    until_ms=START + 10_000,
)


def tried(provider: str, *, failed: FailureClass | None = None, paid: bool = True) -> Attempt:
    rates = RATES if provider == "openai" else DEARER
    price = Price(provider=provider, model="m", source="test", bands=(Band(0, rates),))
    cost = price_usage(USED if paid else {}, price)
    return Attempt(
        n=1,
        provider=provider,
        model_id="m",
        started_at_ms=START,
        status=Status.ERROR if failed else Status.SUCCESS,
        delivery=Delivery.NOT_SENT if failed and not paid else Delivery.DONE,
        failure_class=failed,
        usage=Usage(quantities=USED if paid else {}, source="provider"),
        cost=cost,
        drill="outage" if failed else None,
    )


def call(
    n: int,
    *attempts: Attempt,
    at: int = 0,
    status: Status = Status.SUCCESS,
    took: float = 100.0,
    http: int | None = 200,
    planned: str = "openai",
    left_out: bool = False,
    error: str | None = None,
) -> Receipt:
    made = receipt(n, created_at_ms=START + at)
    cost = sum(one.cost.total_pico or 0 for one in attempts)
    out = Candidate(model_id="m", provider="openai", filtered_out_by="circuit_open")
    return replace(
        made,
        attempts=attempts,
        decision=Decision(model_id="m", provider=planned),
        candidates=(out,) if left_out else (),
        execution=replace(
            made.execution,
            status=status,
            actual_cost_pico=cost,
            actual_latency_ms=took,
            http_status=http,
            error=error,
        ),
    )


def hop(of: Receipt, to: str = "groq", reason: str = "attempt_failed", **data: Any) -> Event:
    told = {"from_provider": "openai", "to_provider": to, "reason": reason, **data}
    return Event(kind="failover", at_ms=of.created_at_ms, receipt_id=of.receipt_id, data=told)


def move(kind: str, at: int, provider: str = "openai") -> Event:
    return Event(kind=f"circuit.{kind}", at_ms=START + at, data={"provider": provider})


DEAD = tried("openai", failed=FailureClass.CONNECT, paid=False)
SPOILT = tried("openai", failed=FailureClass.DISCONNECTED)
HOPPED = call(1, DEAD, tried("groq"), at=100, took=300.0)
PLANNED = call(2, tried("groq"), at=3000, took=200.0, planned="groq", left_out=True)
CUT = call(3, SPOILT, at=200, status=Status.TRUNCATED)
REFUSED = call(4, at=400, status=Status.ERROR, http=503, error="circuit_open: nobody")
OTHERS = call(5, tried("groq"), at=500, planned="groq")
BEFORE = call(6, tried("openai"), at=-5000, took=50.0)


def made(**changes: Any) -> dict[str, Any]:
    seen = Drilled(
        drill=DRILL,
        ended_at_ms=START + 8000,
        receipts=[HOPPED, CUT, REFUSED, OTHERS, PLANNED],
        before=[BEFORE, call(7, tried("groq"), at=-1, took=9.0)],
        events=[
            hop(HOPPED, extra_cost_usd=Decimal("0.00001")),
            move("open", 600),
            move("open", 700, "groq"),
            move("half_open", 5000),
            move("open", 5100),
            move("half_open", 9000),
            move("recovered", 9500),
        ],
    )
    return report(replace(seen, **changes))


def test_what_clients_saw_counts_the_calls_that_the_fault_concerns() -> None:
    calls = made()["calls"]
    assert calls == {
        "total": 4,
        "succeeded": 2,
        "failed": 2,
        "success_share": 0.5,
        "by_status": {"success": 2, "truncated": 1, "error": 1},
        "errors_by_http_status": {"200": 1, "503": 1},
        "errors_by_failure_class": {"disconnected": 1, "circuit_open": 1},
        "still_open": 0,
    }


def test_who_was_led_elsewhere_and_how() -> None:
    told = made()
    assert told["failover"] == {
        "calls": 2,
        "hops": 1,
        "planned_round": 1,
        "to": {"groq": 2},
        "by_reason": {"attempt_failed": 1},
    }
    assert told["attempts"] == {
        "met_fault": 2,
        "failed": 2,
        "by_failure_class": {"connect": 1, "disconnected": 1},
    }


def test_how_long_the_circuit_took_from_the_start_and_from_the_end_of_the_fault() -> None:
    assert made()["circuit"] == {
        "opened": True,
        "opened_after_s": 0.6,
        "attempts_until_open": 2,
        "times_opened": 2,
        "probes": 2,
        "recovered": True,
        "recovered_after_s": 1.5,
    }
    never = made(events=[])["circuit"]
    assert (never["opened"], never["opened_after_s"], never["recovered"]) == (False, None, False)
    still = made(events=[move("open", 600), move("recovered", 700), move("open", 800)])["circuit"]
    assert (still["recovered"], still["recovered_after_s"]) == (False, None)


def test_what_it_cost_is_exact_and_signed() -> None:
    """A hop's extra is the ledger's; a plan's is its own tokens at the provider's own rates."""
    cost = made()["cost"]
    at_groq = Decimal("0.00034")  # 100 × 3 + 10 × 4 millionths
    at_openai = Decimal("0.00012")
    assert cost == {
        "spent_usd": 2 * at_groq + at_openai,
        "unpriced": 0,
        "extra_usd": Decimal("0.00001") + at_groq - at_openai,
        "extra_unknown": 0,
        "spoilt_usd": at_openai,
    }
    assert made(before=[], receipts=[HOPPED, PLANNED])["cost"]["extra_unknown"] == 1
    cheaper = made(events=[hop(HOPPED, extra_cost_usd=Decimal("-0.5"))])["cost"]
    assert cheaper["extra_usd"] < 0


def test_latencies_are_of_calls_that_ended_well() -> None:
    told = made()["latency_ms"]
    assert (told["before"]["calls"], told["before"]["p50"]) == (1, 50.0)
    assert (told["during"]["calls"], told["during"]["p50"], told["during"]["p99"]) == (2, 200, 300)
    nothing = made(receipts=[], before=[], events=[])
    assert nothing["calls"]["success_share"] is None
    assert nothing["latency_ms"]["during"]["p50"] is None


def test_a_quantile_is_a_value_that_was_seen() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [quantile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert quantile([7.0], 1) == 7.0
    assert quantile([], 50) is None


def test_every_fault_has_its_meaning() -> None:
    assert tuple(FAULTS) == KINDS
