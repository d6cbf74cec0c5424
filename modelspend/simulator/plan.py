"""What one simulated call will do, as data: behaviours write a `Plan`, the server carries it out.

A plan says nothing of sockets. Its answer becomes a run of `Step`s, each a piece of wire or an act
upon it, and the plan's shapers rewrite that run lazily: a hundred-megabyte answer is never held.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any, Literal, Protocol

from modelspend import chat
from modelspend.record import frozen


@frozen
class Fill:
    """So many bytes of one letter, made up while they are sent."""

    size: int
    letter: bytes = b"x"


@frozen
class Wait:
    ms: float


@frozen
class Stall:
    """Silence until the client leaves or the simulator closes."""


@frozen
class Cut:
    """The connection closes without the answer's end; with `reset`, by a TCP reset."""

    reset: bool = False


Step = bytes | Fill | Wait | Stall | Cut


@frozen(kw_only=True)
class Fault:
    """An error that a provider tells: as a status with a body, or inside a 200.

    `failed_event` asks for the other of the two ways in which the Responses API tells the latter.
    """

    status: int
    message: str = ""
    retry_after_s: int | None = None
    should_retry: bool | None = None
    param: str | None = None
    code: str | None = None
    failed_event: bool = False


@frozen
class Asked:
    """One request as behaviours see it. `turn` counts the calls of this very model name, from 0."""

    dialect: str
    model: str
    turn: int
    body: Mapping[str, Any]


@frozen(kw_only=True)
class Scene:
    """What shapers may know of the exchange: its dialect, and the usage it reports, as reported."""

    dialect: str
    stream: bool
    usage: Mapping[str, Any] | None
    error_event: Callable[[Fault], bytes]


class Shaper(Protocol):
    def __call__(self, steps: Iterator[Step], scene: Scene, /) -> Iterator[Step]: ...


Check = Callable[[Asked], Fault | None]

Hostile = Callable[[bytes], Iterator[Step]]
"""Raw wire in place of an HTTP answer; it is given the honest body."""


@frozen(kw_only=True)
class Plan:
    """Everything a behaviour can say; the defaults are a healthy provider.

    Shapers run in three rounds whatever the order of their names: `events` rewrite whole wire
    events, `faults` count them and break off, `pieces` only change how bytes are cut into writes.
    """

    # before the headers
    delay_ms: float = 0
    checks: tuple[Check, ...] = ()
    instead: Stall | Cut | None = None
    hostile: Hostile | None = None

    # the answer
    tokens: tuple[int, int] | None = None
    extra_usage: Mapping[str, int] = field(default_factory=dict)
    reasoning_tokens: int = 0
    tool_calls: int = 0
    stop: chat.StopReason | None = None
    text: str | None = None
    size: int | None = None
    one_event: bool = False
    words: int | None = None
    echo: bool = False

    # the head
    status: int = 200
    content_type: str | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    encoding: str | None = None
    chunked: bool = False
    close: bool = False

    # the wire
    whole_fault: Fault | None = None
    ends: Literal["complete", "error", "cut"] = "complete"
    events: tuple[Shaper, ...] = ()
    faults: tuple[Shaper, ...] = ()
    pieces: tuple[Shaper, ...] = ()
