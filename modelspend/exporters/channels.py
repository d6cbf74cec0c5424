"""What all channels of alerts are: a sink of `alert.*` that says a few of them at a time.

Hides how what a far end answered becomes sent, tried again or dropped, and what is true of every
alert that is told: its title, its severity, the words about it. A channel is one file that knows
how to say it in one place.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from modelspend.alarms import KINDS, RESOLVED, TEST
from modelspend.alert_sections import Channel as Section
from modelspend.events import Event
from modelspend.exporters.http import Answered, NotNow
from modelspend.exporters.pump import Taken
from modelspend.receipt_json import iso
from modelspend.record import record
from modelspend.sinks import Wants
from modelspend.store.sinks import Emission

Kind = Literal["slack", "pagerduty", "email"]


@record
class Said:
    """What came back. Not `ok` and not `again`: it will never be taken. `text` is fit to be shown,
    also of what went well; `warning` is what was wrong with it all the same."""

    ok: bool
    text: str
    again: bool = False
    after_s: float | None = None
    warning: str | None = None


Say = Callable[[Sequence[Event]], Awaitable[Said]]


class Channel:
    """A sink that says alerts. `say` tells several at once, and raises NotNow for no answer."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        section: Section,
        say: Say,
        close: Callable[[], Awaitable[None]],
        *,
        most: int,
        linger_s: float,
    ) -> None:
        self.kind, self.name = kind, f"{kind}:{name}"
        self.most, self.linger_s = most, linger_s
        self.say, self._close = say, close
        self.wants = Wants(
            receipts=False,
            kinds=KINDS,
            tenant=section.tenant,
            levels=("critical",) if section.level == "critical" else (),
            rules=section.rules,
        )

    async def send(self, batch: Sequence[Emission]) -> Taken:
        """One message about all of them."""
        said = await self.say([one for one in batch if isinstance(one, Event)])
        if said.ok:
            return Taken(sent=len(batch), error=said.warning)
        if said.again:
            raise NotNow(said.text, after_s=said.after_s)
        return Taken(dropped=len(batch), error=f"{said.text}: not to be said again")

    async def close(self) -> None:
        await self._close()


def of_http(answer: Answered, taken: bool) -> Said:
    """What an HTTP answer means where 429 and 5xx are to be tried again."""
    text = f"HTTP {answer.status}"
    if taken:
        return Said(ok=True, text=text)
    return Said(ok=False, text=text, again=answer.later, after_s=answer.after_s)


# How alerts are said.


def trial(now_ms: int) -> Event:
    """What `alerts test` sends."""
    return Event(
        kind=TEST,
        at_ms=now_ms,
        data={
            "alert": f"test:process:{now_ms}",
            "rule": "test",
            "scope": "process",
            "name": "all",
            "level": "info",
            "message": "A trial: modelspend can reach this channel.",
            "since": iso(now_ms),
        },
    )


def title(event: Event) -> str:
    """One line: what it is, how bad, about whom."""
    data, whom = event.data, whom_of(event)
    rule = str(data.get("rule", "")).replace("_", " ")
    if event.kind == TEST:
        return "Trial of modelspend's alerts"
    state = "resolved" if event.kind == RESOLVED else str(data.get("level", event.level))
    return " ".join(f"[{state}] {rule}{f' of {whom}' if whom else ''}".split())


def whom_of(event: Event) -> str:
    """`tenant acme-prod`, or nothing where it is about everything."""
    scope, name = event.data.get("scope"), event.data.get("name")
    return "" if scope in (None, "process") else f"{scope} {name}"


def facts(event: Event) -> list[tuple[str, str]]:
    """The figures beside the sentence, as names and texts."""
    data = event.data
    found: list[tuple[str, Any]] = [
        ("value", _number(data.get("value"))),
        ("limit", _number(data.get("limit"))),
        ("window", data.get("window")),
        ("since", data.get("since")),
        ("see", data.get("see")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"
