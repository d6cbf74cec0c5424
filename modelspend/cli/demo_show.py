"""How the demo talks: a live table on a terminal, quiet lines in a pipe, one object as JSON.

It follows the ledger as `tail` does, by the receipts' own number; what it shows at the end is the
sum of what it read there.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from modelspend import tasks
from modelspend.cli.context import Here, note
from modelspend.cli.output import on_terminal, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modelspend.cli.demo_board import Tally
    from modelspend.cli.demo_place import Place, Side

_LOOK_EVERY_S = 0.2
_PAGE = 1_000

Draw = Callable[[], None]
View = Callable[[], "RenderableType"]


@dataclass(slots=True)
class Show:
    """One showing, from the first call to the last word."""

    here: Here
    place: "Place"
    once: bool
    json: bool
    began_ms: int = field(init=False)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.began_ms = self.here.now_ms()

    @property
    def drawn(self) -> bool:
        return on_terminal() and not self.json

    def say(self, text: str) -> None:
        """Talk about the work under way, where no table shows it."""
        if not self.drawn:
            typer.echo(text, err=True)

    def on_signal(self, stop: Callable[[], None]) -> None:
        """Ctrl-C and SIGTERM stop the apps; everything else ends in order after them."""

        def stopped() -> None:
            self.stopped = True
            stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped)

    async def watch(
        self, side: "Side", tally: "Tally", work: Coroutine[Any, Any, None], view: View
    ) -> None:
        """Add up receipts while `work` goes on. Raises KeyboardInterrupt if it was stopped."""
        with self._drawing(view, keep=True) as draw:
            await _follow(side, tally, work, draw)
        if self.stopped:
            raise KeyboardInterrupt

    def result(self, side: "Side", tally: "Tally") -> None:
        """What came of it: the totals, one receipt, what to try next."""
        if self.json:
            write_json(self._as_json(side, tally), line=not self.once)
        else:
            typer.echo("\n".join(self._told(side, tally)))
        if variable := self._variable_in_the_way():
            note(f"{variable} is set in this shell and wins over --config: unset it for these.")
        sys.stdout.flush()

    async def serve_on(self, side: "Side", tally: "Tally", work: Coroutine[Any, Any, None]) -> None:
        """Stay until stopped, with a line that shows life where somebody sees it."""
        from modelspend.cli.demo_board import Tally, dollars

        since = Tally(first_ms=tally.first_ms, seq=tally.seq)
        self.say(f"serving at {side.url} until interrupted")

        def line() -> str:
            return (
                f"Serving at {side.url} (Ctrl-C ends it):"
                f" ${dollars(since.pico)} so far, calls: {since.calls:,}"
            )

        with self._drawing(line, keep=False) as draw:
            await _follow(side, since, work, draw)

    @contextmanager
    def _drawing(self, view: View, *, keep: bool) -> Iterator[Draw]:
        """A function that draws the view anew in its place; does nothing where nobody looks."""
        if not self.drawn:
            yield lambda: None
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False)
        with Live(view(), console=console, auto_refresh=False, transient=not keep) as live:
            yield lambda: live.update(view(), refresh=True)

    def _as_json(self, side: "Side", tally: "Tally") -> dict[str, Any]:
        from modelspend.receipt_json import to_json

        return {
            "url": side.url,
            "config": str(self.place.config),
            "ledger": str(self.place.ledger),
            **tally.to_json(),
            "receipt": to_json(tally.fine) if tally.fine else None,
            "took_s": round((self.here.now_ms() - self.began_ms) / 1000, 3),
        }

    def _told(self, side: "Side", tally: "Tally") -> Iterator[str]:
        from modelspend.cli.slip import slip

        yield from tally.words((self.here.now_ms() - self.began_ms) / 1000)
        if tally.fine is None:
            return
        yield ""
        yield from slip(tally.fine)
        yield ""
        yield "Every call left one of these. Worth trying next, in another terminal:"
        yield ""
        for words in (
            "tail",
            f"receipts list --tenant {tally.fine.tenant} --since 7d",
            f"explain {tally.fine.receipt_id}",
        ):
            yield f"  {self.place.command(words)}"
        yield ""

    def _variable_in_the_way(self) -> str | None:
        from modelspend.places import LEDGER_VARIABLE

        return LEDGER_VARIABLE if self.here.env.get(LEDGER_VARIABLE) else None


async def _follow(
    side: "Side", tally: "Tally", work: Coroutine[Any, Any, None], draw: Draw
) -> None:
    """Read receipts as they are written, until the work is done and every call has one."""
    working = tasks.spawn(work, "demo")
    over = False
    while not over:
        await asyncio.wait((working,), timeout=_LOOK_EVERY_S)
        over = working.done() and await side.quiet()
        while found := await side.store.receipts.after(tally.seq, limit=_PAGE):
            for stored in found:
                tally.add(stored.receipt)
            tally.seq = found[-1].seq
        draw()
    working.result()
