"""What `export siem` does: lines to stdout, or files in a folder that say how far they go.

A run ends at what was newest when it began, so it ends however busy the ledger is. The number that
it follows is the ledger's own, which never grows behind a reader's back.
"""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspend.cli.context import Here, note
from modelspend.errors import CheckFailed, Usage
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.exporters.folder import Folder, Mark
    from modelspend.exporters.formats import Format, Name
    from modelspend.sinks import Wants
    from modelspend.store import Store
    from modelspend.store.sinks import Emission

_PAGE = 500
_LOOK_S = 0.2
_EACH_S = 10.0
"""How long `--follow --out` waits from one file to the next, at least."""

Written = dict[str, Any]


@frozen(kw_only=True)
class SiemExport:
    """What was asked for. `since_ms` bounds what is told where nothing was told before."""

    format: "Name"
    wants: "Wants"
    since_ms: int | None = None
    after: int | None = None
    follow: bool = False
    most_bytes: int = 100_000_000
    compress: bool = False
    keep_days: int | None = None


def asked_types(text: str | None) -> tuple[str, ...]:
    """Types of events as they were typed; all where nothing was. Raises Usage."""
    from modelspend.events import kinds

    try:
        return kinds(text or "") or ("*",)
    except ValueError as error:
        raise Usage(f"--type: {error}.") from None


async def to_stdout(store: "Store", asked: SiemExport) -> None:
    """All that there is, a line each; with `follow` what comes, too, until interrupted."""
    from modelspend.exporters.formats import FORMATS

    format, cursor = FORMATS[asked.format], await _start(store, asked)
    seen = -1
    while True:
        until = await store.sinks.last()
        if until == seen:
            await _a_moment(_LOOK_S)
            continue
        seen = until
        async for batch, reached in _pages(store, asked, cursor, until):
            cursor = reached
            sys.stdout.buffer.write(b"".join(line + b"\n" for _, line in _said(format, batch)))
            sys.stdout.buffer.flush()
        if not asked.follow:
            return


async def to_folder(
    store: "Store", asked: SiemExport, path: Path, at: Here
) -> AsyncIterator[Written]:
    """What has come since the last run, as files, each told of as soon as it has its name.

    Raises ExportHeld, and CheckFailed for a folder that goes with another ledger.
    """
    with (folder := _folder(path, asked)).locked():
        mark = folder.mark()
        if mark is None:
            mark = await _first(store, asked)
        else:
            asked = replace(asked, since_ms=None)  # nothing is left out when a run comes late
        mark = await _of_this_ledger(store, mark, path)
        while True:
            async for reached, written in _files(store, asked, folder, mark, at):
                mark = reached
                if written is not None:
                    yield written
            if asked.keep_days is not None:
                folder.expire(at.now_ms(), asked.keep_days)
            if not asked.follow:
                return
            await _a_moment(_EACH_S)


def _folder(path: Path, asked: SiemExport) -> "Folder":
    """Another tenant, another choice of types or another format has files and a mark of its own."""
    from hashlib import sha256

    from modelspend.exporters.folder import Folder
    from modelspend.exporters.formats import FORMATS

    name = f"{asked.wants.tenant or 'all'}-{asked.format}"
    if asked.wants.kinds != ("*",):
        name += "-" + sha256(",".join(sorted(asked.wants.kinds)).encode()).hexdigest()[:8]
    return Folder(path, name, FORMATS[asked.format].suffix, compress=asked.compress)


async def _files(
    store: "Store", asked: SiemExport, folder: "Folder", mark: "Mark", at: Here
) -> "AsyncIterator[tuple[Mark, Written | None]]":
    """One file after the other up to what is newest now, and how far the files go after each."""
    from modelspend.exporters.formats import FORMATS

    format, until = FORMATS[asked.format], await store.sinks.last()
    while mark.cursor < until:
        reached = mark
        with folder.part() as part:
            full = False
            async for batch, cursor in _pages(store, asked, mark.cursor, until):
                for one, line in _said(format, batch):
                    if part.lines and part.size + len(line) >= asked.most_bytes:
                        full = True
                        break
                    part.write(line)
                    reached = _reached(reached, one)
                if full:
                    break
                reached = _at(reached, cursor)
        if part.lines:
            file = folder.commit(mark, reached, at.now_ms())
            yield reached, _written(file, part.lines, part.size, reached.cursor)
        else:
            folder.skip(reached)
            yield reached, None
        mark = reached


def _written(file: Path, events: int, size: int, cursor: int) -> Written:
    return {"file": str(file), "events": events, "bytes": size, "cursor": cursor}


async def _pages(
    store: "Store", asked: SiemExport, cursor: int, until: int
) -> "AsyncIterator[tuple[list[Emission], int]]":
    """What is wanted behind a number and up to another, and the number after each page."""
    from modelspend.store.sinks import told_at

    since_ms = asked.since_ms or 0
    while cursor < until:
        page = await store.sinks.page(cursor, _PAGE, asked.wants)
        cursor = min(page.cursor, until)
        for number in (each for each in page.damaged if each <= until):
            note(f"number {number} of the ledger is damaged and left out; see: modelspend verify")
        batch = [one for one in page.emissions if one.seq <= until and told_at(one) >= since_ms]
        yield batch, cursor


def _said(format: "Format", batch: "Sequence[Emission]") -> "Iterator[tuple[Emission, bytes]]":
    from modelspend.exporters.notice import notice_of

    return ((one, format.line(notice_of(one))) for one in batch)


async def _start(store: "Store", asked: SiemExport) -> int:
    """The number that is gone on from: typed, or before the first of a time, or none."""
    if asked.after is not None:
        return asked.after
    if asked.since_ms is not None:
        return await store.sinks.before(asked.since_ms)
    return await store.sinks.last() if asked.follow else 0


async def _first(store: "Store", asked: SiemExport) -> "Mark":
    from modelspend.exporters.folder import Mark

    since_ms = asked.since_ms
    return Mark(cursor=0 if since_ms is None else await store.sinks.before(since_ms))


def _reached(mark: "Mark", one: "Emission") -> "Mark":
    from modelspend.events import Event

    receipt = mark.receipt if isinstance(one, Event) else (one.seq, one.hash)
    return replace(mark, cursor=one.seq, receipt=receipt)


def _at(mark: "Mark", cursor: int) -> "Mark":
    return replace(mark, cursor=cursor)


async def _of_this_ledger(store: "Store", mark: "Mark", path: Path) -> "Mark":
    """A number means another event in another ledger: what it has would be left out in silence.

    Where a backup was restored, the receipt that was told last may be gone; no number comes again.
    """
    ledger = await store.meta.ledger_id()
    known = mark.cursor <= await store.sinks.last()
    if known and mark.receipt is not None:
        seq, link = mark.receipt
        there = [one for one in await store.receipts.after(seq - 1, limit=1) if one.seq == seq]
        known = there[0].hash == link if there else mark.ledger == ledger
    if not known:
        raise CheckFailed(
            f"{path} goes on from number {mark.cursor} of another ledger than {store.path}.",
            "Export this one to another folder; --since says from when on.",
        )
    return replace(mark, ledger=ledger)


async def _a_moment(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)
