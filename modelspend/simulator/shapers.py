"""What happens to an answer between the model and the socket: the small faults, one function each.

A shaper takes a run of steps and yields another, lazily. An `events` shaper sees each wire event
as one `bytes` step (a whole JSON answer is a single one); an event is any step that carries bytes.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import orjson

from modelspend.simulator.plan import Cut, Fault, Fill, Scene, Shaper, Stall, Step, Wait

GONE = object()
"""Returned by a usage change to take the field out."""

_NAN = "@@modelspend-nan@@"


# Events: the text of each wire event.


def documents(edit: Callable[[dict[str, Any]], bool]) -> Shaper:
    """Rewrite the JSON of each event or answer; events for which `edit` is false are dropped."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        for step in steps:
            changed = _edited(step, edit) if isinstance(step, bytes) else step
            if changed is not None:
                yield changed

    return shape


def usage(change: Callable[[Mapping[str, Any]], Any]) -> Shaper:
    """Rewrite every usage object on the wire."""

    def edit(document: dict[str, Any]) -> bool:
        for holder in (document, document.get("response"), document.get("message")):
            if isinstance(holder, dict):
                _change_usage(holder, change)
        chunk_of_usage_alone = document.get("choices") == [] and "usage" not in document
        return not chunk_of_usage_alone

    return documents(edit)


def numbers(change: Callable[[int], Any]) -> Callable[[Mapping[str, Any]], Any]:
    """A usage change that is made to every number in it."""

    def walk(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: walk(v) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v) for v in value]
        return change(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return walk


def not_a_number(_: int) -> str:
    """NaN is not JSON; the word is put in after the document has been written."""
    return _NAN


def tier(name: str) -> Shaper:
    """Name the tier that served the call, where each vendor names it."""

    def edit(document: dict[str, Any]) -> bool:
        inner = document.get("response") or document.get("message") or document
        if str(inner.get("object", "")).startswith(("chat.completion", "response")):
            inner["service_tier"] = name
        elif isinstance(inner.get("usage"), dict):
            inner["usage"]["service_tier"] = name
        elif isinstance(inner.get("usageMetadata"), dict):
            inner["usageMetadata"]["serviceTier"] = name
        return True

    return documents(edit)


def usage_in_first_event(*, partial: bool) -> Shaper:
    """Usage in the first event: half of it with the whole to come, or all of it and no more."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        if not scene.stream or scene.usage is None:
            yield from steps
            return
        told = numbers(lambda n: n // 2)(scene.usage) if partial else scene.usage
        yield from documents(lambda doc: _put_usage(doc, scene.dialect, told))(_first(steps), scene)
        yield from steps if partial else usage(lambda _: GONE)(steps, scene)

    return shape


def _first(steps: Iterator[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if isinstance(step, bytes):
            return


def _put_usage(document: dict[str, Any], dialect: str, told: Any) -> bool:
    inner = document.get("response") or document.get("message")
    holder = inner if isinstance(inner, dict) else document
    holder["usageMetadata" if dialect.startswith("gemini") else "usage"] = told
    return True


def _change_usage(holder: dict[str, Any], change: Callable[[Mapping[str, Any]], Any]) -> None:
    for key in ("usage", "usageMetadata"):
        if isinstance(holder.get(key), dict):
            changed = change(holder[key])
            if changed is GONE:
                del holder[key]
            else:
                holder[key] = changed


def _edited(event: bytes, edit: Callable[[dict[str, Any]], bool]) -> bytes | None:
    """The event with its JSON rewritten; None when it is to be dropped."""
    lines = event.split(b"\n")
    for i, line in enumerate(lines):
        head = b"data: " if line.startswith(b"data: ") else b""
        if not line[len(head) :].startswith(b"{"):
            continue
        document = orjson.loads(line[len(head) :])
        if not edit(document):
            return None
        text = orjson.dumps(document).replace(b'"' + _NAN.encode() + b'"', b"NaN")
        lines[i] = head + text + (b"\r" if line.endswith(b"\r") else b"")
    return b"\n".join(lines)


def of_stream(change: Callable[[bytes, int], bytes]) -> Shaper:
    """Rewrite each event of a stream, given its number; whole answers stay as they are."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        count = 0
        for step in steps:
            if scene.stream and isinstance(step, bytes):
                yield change(step, count)
                count += 1
            else:
                yield step

    return shape


def line_ends(end: bytes) -> Shaper:
    """Other line ends; most vendors write LF, Google CR LF."""
    return of_stream(lambda event, _: event.replace(b"\r\n", b"\n").replace(b"\n", end))


def comment(event: bytes, number: int) -> bytes:
    return b": keep-alive %d\n\n" % number + event


def spread(event: bytes, _: int) -> bytes:
    """The JSON over several `data:` lines, which a reader joins by line feeds."""
    return event.replace(b"data: {", b"data: {\ndata: ", 1)


def unspaced(event: bytes, _: int) -> bytes:
    return event.replace(b"data: ", b"data:").replace(b"event: ", b"event:")


def numbered(event: bytes, number: int) -> bytes:
    return b"id: %d\nretry: 100\n" % number + event


def bom(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
    mark = b"\xef\xbb\xbf"
    for step in steps:
        yield mark + step if isinstance(step, bytes) else step
        mark = b""


def as_array(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
    """Gemini without `alt=sse`: one JSON array, an element for each event."""
    opening = b"["
    for step in steps:
        if isinstance(step, bytes) and step.startswith(b"data: "):
            yield opening + step.removeprefix(b"data: ").rstrip()
            opening = b",\r\n"
        else:
            yield step
    yield b"]"


# Faults: where an answer breaks off.


def cut(after: int, *, reset: bool = False) -> Shaper:
    return _then(after, lambda _: iter((Cut(reset),)))


def stall(after: int) -> Shaper:
    return _then(after, lambda _: iter((Stall(),)))


def error(after: int, fault: Fault) -> Shaper:
    """An error event, and a clean end, in place of the rest."""
    return _then(after, lambda scene: iter((scene.error_event(fault),)))


def _then(after: int, ending: Callable[[Scene], Iterator[Step]]) -> Shaper:
    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        left = after
        if left:
            for step in steps:
                yield step
                left -= isinstance(step, bytes | Fill)
                if not left:
                    break
        yield from ending(scene)

    return shape


def cut_bytes(size: int) -> Shaper:
    """The connection closes after so many bytes, wherever in an event that is."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        left = size
        for step in steps:
            if isinstance(step, bytes):
                yield step[:left]
                left -= len(step)
            elif isinstance(step, Fill):
                yield Fill(min(left, step.size))
                left -= step.size
            if left <= 0:
                break
        yield Cut()

    return shape


def pause(after: int, ms: int) -> Shaper:
    """One wait, after so many events."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        left = after
        for step in steps:
            if not left and isinstance(step, bytes | Fill):
                yield Wait(ms)
            left -= isinstance(step, bytes | Fill)
            yield step

    return shape


def drip(ms: int) -> Shaper:
    """A wait before each event."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        for step in steps:
            if isinstance(step, bytes | Fill):
                yield Wait(ms)
            yield step

    return shape


def without_last(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
    """A clean end, but the terminal event (or the last part of a whole answer) never came."""
    held: Step | None = None
    for step in steps:
        if held is not None:
            yield held
        held = step


def unfinished(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
    """The last event without its blank line: a reader may act on it only at the end."""
    held: Step | None = None
    for step in steps:
        if held is not None:
            yield held
        held = step
    if held is not None:
        yield held.rstrip(b"\r\n") if isinstance(held, bytes) else held


# Pieces: how bytes fall into writes.


def split_every(size: int) -> Shaper:
    """Writes of so many bytes."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        for step in steps:
            if isinstance(step, bytes):
                for at in range(0, len(step), size):
                    yield step[at : at + size]
                    yield Wait(0)
            else:
                yield step

    return shape


def split_letters(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
    """Writes that end in the middle of every letter of more than one byte."""
    for step in steps:
        if not isinstance(step, bytes):
            yield step
            continue
        start = 0
        for at, byte in enumerate(step):
            if byte >= 0xC0:  # the first byte of a longer letter
                yield step[start : at + 1]
                yield Wait(0)
                start = at + 1
        yield step[start:]


def padded(size: int) -> Shaper:
    """So much blank space first, in a form that a parser of JSON or of events must skip."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        yield from (b":", Fill(size, b" "), b"\n\n") if scene.stream else (Fill(size, b" "),)
        yield from steps

    return shape


def filled(mark: bytes, size: int) -> Shaper:
    """The place of a big text, filled in."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        for step in steps:
            if isinstance(step, bytes) and mark in step:
                before, _, after = step.partition(mark)
                yield from (before, Fill(size), after)
            else:
                yield step

    return shape


def in_parts(count: int) -> Shaper:
    """A whole answer in so many parts, so that what counts events can break it off too."""

    def shape(steps: Iterator[Step], scene: Scene) -> Iterator[Step]:
        for step in steps:
            if scene.stream or not isinstance(step, bytes) or len(step) < count:
                yield step
                continue
            bounds = [len(step) * i // count for i in range(count + 1)]
            yield from (step[a:b] for a, b in pairwise(bounds))

    return shape
