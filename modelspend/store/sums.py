"""Sums of money that cannot overflow.

SQLite's `sum` of integers fails above 2^63, which 3 receipts at the greatest allowed price reach.
The halves of each number are summed apart and put together in Python, where integers have no end.
"""


def sum_of(column: str) -> str:
    """Two result columns in place of `sum(column)`; `whole` makes one number of them."""
    return f"sum({column} >> 32), sum({column} & 4294967295)"


def whole(high: int | None, low: int | None) -> int:
    """The sum of which `sum_of` gave the halves; nothing sums to 0."""
    return ((high or 0) << 32) + (low or 0)
