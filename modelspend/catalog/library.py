"""Two ways to ask the price library: through a child process, or in this one.

The daemon asks a child, so that the library's weight is paid by a process that ends when nobody
has asked for a while. A command that quotes thousands of rows asks in its own process.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from modelspend import tasks

Answer = dict[str, Any]


class Library(Protocol):
    """Answers a question of `pricelib`; `{"error": why}` when it cannot."""

    async def ask(self, question: Mapping[str, Any]) -> Answer: ...

    async def close(self) -> None: ...


class InProcess:
    """Asks in this process; the first question imports the library."""

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        from modelspend.catalog import pricelib  # 0.4 s, paid by the first question

        return pricelib.answer(question)

    async def close(self) -> None:
        return None


class Child:
    """Asks a child process, one question at a time; it ends by itself when idle.

    The child gets none of our environment but what Python needs: no key is in reach of it.
    """

    def __init__(self, *, wait_s: float = 10.0, idle_s: float = 30.0) -> None:
        self._wait_s = wait_s
        self._idle_s = idle_s
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        async with self._turn:
            self._stay()
            try:
                async with asyncio.timeout(self._wait_s):
                    return await self._exchange(question)
            except TimeoutError:
                await self._end()
                return {"error": f"the price library did not answer within {self._wait_s:g} s"}
            except asyncio.CancelledError:
                self._kill()  # its answer would be read as the next question's
                raise
            except (OSError, ValueError) as why:
                await self._end()
                return {"error": f"the price library failed: {type(why).__name__}"}
            finally:
                self._leave_when_idle()

    async def close(self) -> None:
        self._stay()
        async with self._turn:
            await self._end()

    async def _exchange(self, question: Mapping[str, Any]) -> Answer:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await _start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(orjson.dumps(dict(question)) + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise ConnectionError("the price library ended")
        answer: Answer = orjson.loads(line)
        return answer

    def _leave_when_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(
            self._idle_s, lambda: tasks.spawn(self.close(), "end the price library")
        )

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()


_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")


_ABOVE_PACKAGE = str(Path(__file__).resolve().parents[2])


def child_env(env: Mapping[str, str]) -> dict[str, str]:
    """What the child needs of an environment to run Python and find this package."""
    search = [_ABOVE_PACKAGE, env.get("PYTHONPATH", "")]
    kept = {name: env[name] for name in _KEPT if name in env}
    return {**kept, "PYTHONPATH": os.pathsep.join(part for part in search if part)}


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the working folder is nobody's package
        "-m",
        "modelspend.catalog.pricelib",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_env(os.environ),
        limit=1 << 20,
    )
