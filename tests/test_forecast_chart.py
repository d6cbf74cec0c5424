"""The pictures of a forecast: they fit, show every part, and are what they say they are."""

from xml.etree import ElementTree

import pytest

from modelspend.forecast import project
from modelspend.forecast_chart import HEIGHT, dollars, lines
from modelspend.forecast_svg import picture
from tests.test_forecast import USD, days, noisy


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("length", [14, 45, 400])
@pytest.mark.parametrize("horizon", [1, 30, 90])
def test_a_chart_fits_the_terminal_and_has_past_and_future(
    width: int, length: int, horizon: int
) -> None:
    drawn = lines(project(days(noisy(length, 0.3)), (horizon,)), width)
    assert len(drawn) == HEIGHT + 3
    assert max(map(len, drawn)) <= width
    text = "\n".join(drawn)
    assert "█" in text
    assert "▒" in text


def test_weekdays_do_not_show_as_waves_where_days_do_not_fit() -> None:
    costs = [USD * (1 if n % 7 > 4 else 10) for n in range(140)]
    found = project(days(costs))
    drawn = lines(found, 80)
    full = [line[9:] for line in drawn[:HEIGHT] if "█" in line]
    assert "a week's mean day" in drawn[-1]
    assert len({line.count("█") for line in full}) == 1  # all weeks are equally high
    assert len({line.count("▒") for line in full[1:]}) == 1
    assert "each column: a day" in lines(project(days(costs), (20,)), 80)[-1]


def test_a_plain_chart_has_only_letters_of_every_terminal() -> None:
    assert "\n".join(lines(project(days(noisy(60, 0.3))), 80, plain=True)).isascii()


def test_nothing_spent_is_drawn_as_nothing() -> None:
    drawn = lines(project(days([0] * 40)), 80)[:HEIGHT]
    assert not set("".join(drawn)) & set("█▁▒·")
    assert [line.split("┤")[0].strip() for line in drawn] == [*[""] * (HEIGHT - 1), "$0"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1234.5, "$1,234"),
        (12.3, "$12.30"),
        (0.0042, "$0.0042"),
        (2_500_000, "$2.5M"),
        (0, "$0"),
    ],
)
def test_a_label_is_at_most_eight_letters(value: float, said: str) -> None:
    assert dollars(value * USD) == said
    assert len(dollars(value * USD)) <= 8


def test_an_svg_is_one_well_formed_element_without_anything_from_elsewhere() -> None:
    text = picture(project(days(noisy(120, 0.3))), title="a < b & c")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "a < b & c" in "".join(root.itertext())
    kinds = [each.get("class") for each in root.iter()]
    assert kinds.count("w") == kinds.count("n") == 2
    assert text.count("http") == 1  # the name of the format
    assert "nan" not in text
