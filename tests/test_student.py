"""Student's t against published tables, and that quantile and probability undo each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend import student

TABLE = [  # (degrees of freedom, p, t): any printed table of the distribution
    (1, 0.975, 12.706), (2, 0.975, 4.303), (3, 0.9, 1.638), (5, 0.95, 2.015), (6, 0.9, 1.440),
    (6, 0.975, 2.447), (10, 0.995, 3.169), (30, 0.9, 1.310), (120, 0.975, 1.980),
]  # fmt: skip


@pytest.mark.parametrize(("freedom", "p", "t"), TABLE)
def test_quantiles_are_those_of_the_printed_table(freedom: float, p: float, t: float) -> None:
    assert student.quantile(p, freedom) == pytest.approx(t, abs=6e-4)
    assert student.quantile(1 - p, freedom) == -student.quantile(p, freedom)


@given(st.floats(0.001, 0.999), st.floats(2, 50))
def test_a_quantile_has_its_probability_below_it(p: float, freedom: float) -> None:
    assert student.below(student.quantile(p, freedom), freedom) == pytest.approx(p, abs=1e-9)
