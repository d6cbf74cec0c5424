"""Conditions under which a policy fails: how they are read, and that they are held exactly."""

import pytest

from modelspend.backtest import Tally
from modelspend.gates import gate, judge
from tests.test_backtest import USD, call, tally


def holds(text: str, made: Tally) -> bool:
    return judge(gate(text), made).holds


CHEAPER = tally(call(10 * USD, 9 * USD), call(10 * USD, 10 * USD, ended="same", after="openai/big"))
DEARER = tally(call(100 * USD, 105 * USD))

CASES = [
    ("cost>+5%", CHEAPER, False),
    ("cost>-6%", CHEAPER, True),
    ("cost>-5%", CHEAPER, False),
    ("cost>=-5%", CHEAPER, True),
    ("cost>19", CHEAPER, False),
    ("cost>18.999999999999", CHEAPER, True),
    ("cost > $18", CHEAPER, True),
    ("cost>+0", CHEAPER, False),
    ("cost>-1", CHEAPER, False),
    ("cost>=-1", CHEAPER, True),
    ("cost<20", CHEAPER, True),
    ("cost>+5%", DEARER, False),
    ("cost>=+5%", DEARER, True),
    ("cost>4.999999999999%", DEARER, True),
    ("cost>+5", DEARER, False),
    ("moved>50%", CHEAPER, False),
    ("moved>=50%", CHEAPER, True),
    ("moved>0", CHEAPER, True),
    ("risky>0", CHEAPER, False),
    ("risky>0", tally(call(2, 1, calls_tools=True)), True),
    ("refused>0", tally(call(2, 0, ended="refused", after="")), True),
    ("undecided>0%", tally(call(2, 2, ended="not_decided")), True),
    ("unpriced>0", tally(call(2, None)), True),
    ("cost>=+5.000000000001%", tally(call(10**18, 105 * 10**16)), False),
    ("cost>=+5%", tally(call(10**18 + 1, 105 * 10**16 + 1)), False),
    ("moved>0%", tally(), False),
    ("cost>+0%", tally(), False),
    ("cost>+5%", tally(call(0, 1)), True),
]


@pytest.mark.parametrize(("text", "made", "expected"), CASES)
def test_a_gate_holds_exactly_when_it_says(text: str, made: Tally, expected: bool) -> None:
    assert holds(text, made) is expected


def test_a_cost_that_is_not_known_passes_no_gate() -> None:
    made = tally(call(10 * USD, USD), call(USD, None))
    told = judge(gate("cost>+5%"), made)
    assert told.holds
    assert told.figure == "cost not known: 1 calls have no price under the policy"
    assert not holds("cost>+5%", tally(call(10, 1), call(None, None)))


@pytest.mark.parametrize(
    "text",
    ["", "cost", "cost>", "price>5", "cost=>5", "cost>5€", "moved>+5%", "risky>-1", "cost>1e3"],
)
def test_what_is_no_gate_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write (cost|moved|risky)"):
        gate(text)


def test_the_figure_is_told() -> None:
    assert judge(gate("cost>+5%"), DEARER).figure == "cost +5.00 % (+5 USD)"
    assert judge(gate("cost>200"), DEARER).figure == "cost 105 USD"
    assert judge(gate("cost>+9"), DEARER).figure == "cost +5 USD"
    assert judge(gate("moved>10%"), CHEAPER).figure == "moved 1 of 2 calls (50.00 %)"
