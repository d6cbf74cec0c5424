"""The tests of the caps bite: each way in which a cap could be broken is noticed by them.

Each breakage is one replacement in a copy of the product, on which the named tests must fail. When
the product's text changes so that it no longer applies, this says so; then write down how to break
that promise now. All of it: `pytest -m full tests/gateway/test_caps_bite.py`.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from modelspend.record import record

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

AT_ONCE = "tests/gateway/test_caps.py"
LEDGER = "tests/store/test_budgets.py"
MODEL = "tests/store/test_caps_model.py"
WHOLE = "tests/gateway/test_budgets.py"
SLICED = "tests/gateway/test_slices.py"
KILLED = "tests/chaos/test_caps.py"


@record
class Breakage:
    """Replace `old` by `new` in `file`, and each of `noticed_by` must fail."""

    what: str
    file: str
    old: str
    new: str
    noticed_by: tuple[str, ...]


BREAKAGES = (
    Breakage(
        what="a sum is read first and written later",
        file="gateway/life.py",
        old="            await self.store.calls.begin(call.intent(), holds)\n",
        new="            stand = await self.store.budgets.usage(\n"
        "                [each.budget for each in holds], call.created_at_ms)\n"
        "            for hold, one in zip(holds, stand):\n"
        "                if hold.amount_pico > (one.left_pico or 0):\n"
        "                    raise BudgetExceeded('no room')\n"
        "            from dataclasses import replace\n"
        "            holds = tuple(\n"
        "                replace(h, budget=replace(h.budget, cap_pico=None)) for h in holds)\n"
        "            await self.store.calls.begin(call.intent(), holds)\n",
        noticed_by=(AT_ONCE,),
    ),
    Breakage(
        what="what is held does not count",
        file="store/holds.py",
        old='" coalesce(sum((s.spent_pico & 4294967295) + (s.held_pico & 4294967295)), 0)"',
        new='" coalesce(sum(s.spent_pico & 4294967295), 0)"',
        noticed_by=(AT_ONCE, LEDGER, MODEL),
    ),
    Breakage(
        what="what is spent does not count",
        file="store/holds.py",
        old='" coalesce(sum((s.spent_pico & 4294967295) + (s.held_pico & 4294967295)), 0)"',
        new='" coalesce(sum(s.held_pico & 4294967295), 0)"',
        noticed_by=(AT_ONCE, MODEL, WHOLE),
    ),
    Breakage(
        what="a cap admits one pico-dollar more",
        file="store/holds.py",
        old="(cap - hold.amount_pico if cap else -1)",
        new="(cap - hold.amount_pico + 1 if cap else -1)",
        noticed_by=(LEDGER,),
    ),
    Breakage(
        what="a budget that has room holds, though another has none",
        file="store/holds.py",
        old=' SELECT budget, start, 0, amount FROM wanted WHERE NOT EXISTS (SELECT 1 FROM used"\n'
        '        " WHERE (high',
        new=' SELECT budget, start, 0, amount FROM wanted WHERE EXISTS (SELECT 1 FROM used"\n'
        '        " WHERE NOT (high',
        noticed_by=(LEDGER, MODEL),
    ),
    Breakage(
        what="a settled call gives nothing back",
        file="store/holds.py",
        old="SET held_pico = held_pico - ? WHERE",
        new="SET held_pico = held_pico - 0 * ? WHERE",
        noticed_by=(AT_ONCE, LEDGER, MODEL, KILLED),
    ),
    Breakage(
        what="a settled call is not charged",
        file="store/calls.py",
        old="    if more.charges:\n",
        new="    if False:\n",
        noticed_by=(AT_ONCE, LEDGER, MODEL, KILLED),
    ),
    Breakage(
        what="a call that nobody settled is not charged",
        file="store/calls.py",
        old="        charge_interrupted(book, intent, _drop_intent(book, receipt_id))\n",
        new="        _drop_intent(book, receipt_id)\n",
        noticed_by=(LEDGER, MODEL, KILLED),
    ),
    Breakage(
        what="what a dead process held is held on",
        file="server/app.py",
        old="await store.calls.recover(",
        new="(lambda now_ms: None)(",
        noticed_by=(KILLED,),
    ),
    Breakage(
        what="a hop holds nothing",
        file="gateway/purse.py",
        old="            holds,\n            hold_pico=one.hold_pico,\n",
        new="            (),\n            hold_pico=one.hold_pico,\n",
        noticed_by=(AT_ONCE,),
    ),
    Breakage(
        what="a hop gives back what may be billed",
        file="gateway/purse.py",
        old="if not each.may_be_billed]\n        holds",
        new="if True]\n        holds",
        noticed_by=(AT_ONCE,),
    ),
    Breakage(
        what="a hop keeps what was refused unbilled",
        file="gateway/purse.py",
        old="if not each.may_be_billed]\n        holds",
        new="if False]\n        holds",
        noticed_by=(AT_ONCE,),
    ),
    Breakage(
        what="a slice is taken without asking for it",
        file="gateway/slices.py",
        old="            await self._store.calls.extend(self._receipt_id, one.n, wanted)\n",
        new="            pass\n",
        noticed_by=(SLICED,),
    ),
    Breakage(
        what="a sliced stream is not cut at its reserve",
        file="gateway/slices.py",
        old="        return self._seen > self._granted - self._step\n",
        new="        return self._seen > self._granted + self._step\n",
        noticed_by=(SLICED,),
    ),
    Breakage(
        what="an unknown cost is charged as nothing",
        file="gateway/settle.py",
        old="one.charged_pico = known if one.sure else max(known, one.hold_pico)",
        new="one.charged_pico = known",
        noticed_by=(WHOLE,),
    ),
    Breakage(
        what="a call without a limit of its own is held without one",
        file="worstcase.py",
        old="    output = output_tokens * bound.answers + bound.extra_output\n",
        new="    output = 0\n",
        noticed_by=(WHOLE, KILLED),
    ),
    Breakage(
        what="a stream that is not there yet is not cut",
        file="gateway/life.py",
        old="if opened.relay is not None and self.purse.stopped(call):",
        new="if False:",
        noticed_by=(WHOLE,),
    ),
    Breakage(
        what="a cap that went and came back forgets what is held",
        file="store/budgets.py",
        old="        if held:\n            book.budgets",
        new="        if False:\n            book.budgets",
        noticed_by=(LEDGER,),
    ),
)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda one: one.what.replace(" ", "-"))
async def test_a_broken_cap_is_noticed(tmp_path: Path, breakage: Breakage) -> None:
    copy = _copy(tmp_path)
    file = copy / "modelspend" / breakage.file
    text = file.read_text()
    assert text.count(breakage.old) == 1, f"{breakage.file} has changed: break it in another way"
    file.write_text(text.replace(breakage.old, breakage.new))
    for tests in breakage.noticed_by:
        code, said = await _run(copy, tests)
        assert code == 1, f"{tests} did not notice it:\n{said[-2000:]}"
        assert "error" not in said.splitlines()[-1], said[-2000:]


async def test_the_unbroken_copy_passes(tmp_path: Path) -> None:
    """So what fails above fails for what is broken there."""
    code, said = await _run(_copy(tmp_path), AT_ONCE, LEDGER, MODEL, WHOLE, SLICED, KILLED)
    assert code == 0, said[-2000:]


def _copy(folder: Path) -> Path:
    copy = folder / "copy"
    unwanted = shutil.ignore_patterns("__pycache__", "bench", "streams")
    for name in ("modelspend", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


async def _run(folder: Path, *tests: str) -> tuple[int, str]:
    """Exit code 1 is pytest's word for tests that failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()
