"""Who calls what in the demo: sixty days of invented apps, as plain HTTP requests.

The same day always has the same calls: work days are busier than week-ends, every month is busier
than the one before, and now and then a provider has a bad moment. What a reader would not guess:
nothing here says what a call costs. The answers tell their tokens; the sidecar works out the rest.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import field
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from random import Random
from typing import Any

from modelspend.record import frozen

DAYS = 60


@frozen(kw_only=True)
class Ask:
    """One HTTP request. With `leaves` its client hangs up in the middle of the answer."""

    path: str
    headers: dict[str, str]
    body: bytes
    leaves: bool = False


@frozen
class Burst:
    """Calls of one moment (milliseconds UTC) that are under way together."""

    day: int
    at_ms: int
    asks: list[Ask]


@frozen(kw_only=True)
class Job:
    """One kind of call that an app makes over and over.

    `share` is its weight among the others, `handbook` the size of its fixed instructions and
    `document` of what is pasted into the question, in characters; `words` bounds the answer.
    """

    tenant: str
    workflow: str
    model: str
    write: "Writer" = field(repr=False)
    share: int
    question: str
    handbook: int = 0
    document: int = 0
    words: tuple[int, int] = (20, 60)
    streams: bool = False
    uses_tool: bool = False
    weekend: float = 0.3


Request = tuple[str, dict[str, Any], dict[str, str]]
Writer = Callable[[Job, str, str], Request]
"""(path, body, headers) of a job, from its instructions and its question."""


def history(today: date) -> Iterator[Burst]:
    """The sixty days before `today`, oldest first."""
    turns = count(1)
    for day in range(DAYS):
        when = today - timedelta(days=DAYS - day)
        chance = Random(when.toordinal())
        busy = 0.4 if when.weekday() >= 5 else 1 + 0.15 * chance.random()
        calls = round(11 * busy * (1 + 0.8 * day / DAYS))
        asks = [_ask(chance, when, next(turns)) for _ in range(calls)]
        for n, hour in enumerate((9, 13, 17)):
            moment = datetime.combine(when, time(hour, chance.randrange(60)), UTC)
            yield Burst(day, round(moment.timestamp() * 1000), asks[n::3])


def live(today: date) -> Iterator[Ask]:
    """Calls without end, at a pace that can be watched, for as long as the demo serves."""
    chance = Random(today.toordinal())
    return (
        _ask(chance, today, turn, delay_ms=chance.randint(80, 400), drip_ms=8) for turn in count(1)
    )


def _ask(chance: Random, when: date, turn: int, *, delay_ms: int = 0, drip_ms: int = 0) -> Ask:
    fault = _FAULTS[turn // _EVERY % len(_FAULTS)] if turn % _EVERY == 0 else ""
    job = _job(chance, streams_only=bool(fault), weekend=when.weekday() >= 5)
    path, body, headers = job.write(job, _handbook(job, when), _question(job, chance))
    words = chance.randint(*job.words)
    behaviour = [
        f"chunks-{words}" if fault or drip_ms else f"huge-event-{6 * words}",
        f"delay-{delay_ms or chance.randint(1, 12)}",
        f"drip-{drip_ms}" if drip_ms else "",
        fault,
    ]
    return Ask(
        path=path,
        headers={
            "content-type": "application/json",
            "x-modelspend-tenant": job.tenant,
            "x-modelspend-workflow": job.workflow,
            "x-modelspend-session": f"{job.workflow}-{when:%m%d}-{chance.randint(1, 4)}",
            "x-modelspend-tags": f"team={job.tenant.partition('-')[0]},env=prod",
            "x-sim-behave": "+".join(filter(None, behaviour)),
            **headers,
        },
        body=json.dumps(body).encode(),
        leaves=fault == _SILENCE,
    )


_EVERY = 24
_SILENCE = "stall-4"
_FAULTS = ("429-retry-2", "usage-missing", "cut-9", "503", "error-after-9", _SILENCE)
"""What goes wrong, one after the other, each `_EVERY` calls; all of it happens to streams."""


def _job(chance: Random, *, streams_only: bool, weekend: bool) -> Job:
    jobs = [job for job in JOBS if job.streams or not streams_only]
    weights = [job.share * (job.weekend if weekend else 1) for job in jobs]
    return chance.choices(jobs, weights)[0]


def _handbook(job: Job, when: date) -> str:
    """Instructions that stay the same for a day, so that a provider's prompt cache can help."""
    text = f"You are the {job.workflow} of {job.tenant}. Today is {when:%A, %d %B %Y}.\n"
    return text + _prose(Random(job.workflow), job.handbook)


def _question(job: Job, chance: Random) -> str:
    question = job.question.format(n=chance.randint(1000, 9999))
    pasted = round(job.document * chance.uniform(0.5, 1.5))
    return f"{question}\n\n{_prose(chance, pasted)}" if pasted else question


def _prose(chance: Random, size: int) -> str:
    lines: list[str] = []
    while sum(map(len, lines)) < size:
        lines += chance.choices(_SENTENCES, k=20)
    return " ".join(lines)[:size]


_SENTENCES = (
    "Orders that were paid before noon leave the warehouse on the same day.",
    "A refund goes back the way the payment came, within five working days.",
    "Say what you know, say what you do not know, and never guess an order number.",
    "The customer writes that the parcel arrived with a broken seal.",
    "Prices on an invoice are net; the tax is shown on a line of its own.",
    "When two notes contradict each other, the later one holds.",
    "The function returns early when the list is empty, which the caller relies on.",
    "Retries are safe here, since the write carries an idempotency key.",
    "This migration adds a column with a default and touches no existing row.",
    "Quantities are whole numbers; weights are in kilograms with three places.",
    "Ask one question at a time and offer the two most likely answers.",
    "The contract renews each year unless it is ended in writing before November.",
)


# One writer for each dialect.


def _chat(job: Job, handbook: str, question: str) -> Request:
    messages = [{"role": "system", "content": handbook}, {"role": "user", "content": question}]
    body: dict[str, Any] = {"model": job.model, "messages": messages, "stream": job.streams}
    if job.uses_tool:
        body["tools"] = [{"type": "function", "function": {**_TOOL, "parameters": _FIELDS}}]
    return "/v1/chat/completions", body, {}


def _responses(job: Job, handbook: str, question: str) -> Request:
    body = {"model": job.model, "instructions": handbook, "input": question, "store": False}
    return "/v1/responses", {**body, "stream": job.streams}, {}


def _messages(job: Job, handbook: str, question: str) -> Request:
    cached = {"type": "text", "text": handbook, "cache_control": {"type": "ephemeral"}}
    body = {
        "model": job.model,
        "max_tokens": 1024,
        "system": [cached],
        "messages": [{"role": "user", "content": question}],
        "stream": job.streams,
    }
    return "/v1/messages", body, {"anthropic-version": "2023-06-01"}


def _gemini(job: Job, handbook: str, question: str) -> Request:
    call = "streamGenerateContent?alt=sse" if job.streams else "generateContent"
    body = {
        "systemInstruction": {"parts": [{"text": handbook}]},
        "contents": [{"role": "user", "parts": [{"text": question}]}],
    }
    return f"/v1beta/models/{job.model}:{call}", body, {}


def _embeddings(job: Job, _: str, question: str) -> Request:
    return "/v1/embeddings", {"model": job.model, "input": question}, {}


_TOOL = {"name": "file_ticket", "description": "File a support ticket in the right queue."}
_FIELDS = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["shipping", "billing", "returns"]},
        "urgent": {"type": "boolean"},
        "summary": {"type": "string"},
    },
    "required": ["queue", "urgent", "summary"],
}

JOBS = (
    Job(
        tenant="acme-prod",
        workflow="support-bot",
        model="gpt-4.1-mini",
        write=_chat,
        share=30,
        question="Customer {n} asks where the parcel is. Answer kindly.",
        handbook=5_200,
        document=600,
        streams=True,
        weekend=0.8,
    ),
    Job(
        tenant="acme-prod",
        workflow="triage",
        model="gpt-4.1-nano",
        write=_chat,
        share=14,
        question="Use the tool to file this message of customer {n}.",
        document=900,
        uses_tool=True,
        weekend=0.8,
    ),
    Job(
        tenant="acme-prod",
        workflow="answers",
        model="gpt-4.1",
        write=_responses,
        share=10,
        question="Write the answer to question {n} of the help centre.",
        handbook=2_400,
        document=2_800,
        words=(60, 110),
        streams=True,
    ),
    Job(
        tenant="globex",
        workflow="code-review",
        model="claude-sonnet-4-6",
        write=_messages,
        share=16,
        question="Review change {n}. Name what could break.",
        handbook=6_400,
        document=4_200,
        words=(70, 140),
        streams=True,
        weekend=0.15,
    ),
    Job(
        tenant="globex",
        workflow="commit-notes",
        model="claude-haiku-4-5",
        write=_messages,
        share=12,
        question="One line that says what change {n} does.",
        document=1_600,
        words=(8, 16),
        weekend=0.15,
    ),
    Job(
        tenant="initech",
        workflow="invoices",
        model="gemini-2.5-flash",
        write=_gemini,
        share=12,
        question="List the positions of invoice {n}.",
        document=3_600,
        weekend=0.1,
    ),
    Job(
        tenant="initech",
        workflow="minutes",
        model="gemini-2.5-pro",
        write=_gemini,
        share=5,
        question="Sum up meeting {n} in five sentences.",
        document=6_000,
        words=(60, 100),
        streams=True,
        weekend=0.1,
    ),
    Job(
        tenant="initech",
        workflow="search-index",
        model="text-embedding-3-small",
        write=_embeddings,
        share=14,
        question="Document {n}.",
        document=1_800,
        weekend=1.0,
    ),
    Job(
        tenant="globex",
        workflow="experiments",
        model="tuned-7b",
        write=_chat,
        share=2,
        question="Complete sample {n}.",
        document=400,
    ),
)
"""The last one's model has no price on purpose: an unknown price is shown, never taken for 0."""
