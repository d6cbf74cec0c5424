"""Receipt ids: their order, their letters, their moment."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspend.ids import Ids, minted_at_ms

CROCKFORD = set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@given(st.lists(st.integers(0, 2**48 - 1), min_size=1, max_size=20))
def test_ids_sort_in_the_order_of_minting_whatever_the_clock_does(clock: list[int]) -> None:
    times = iter(clock)
    ids = Ids(lambda: next(times), os.urandom)
    minted = [ids.receipt() for _ in clock]
    assert minted == sorted(set(minted))
    assert all(len(one) == 31 and set(one[5:]) <= CROCKFORD for one in minted)


@given(st.integers(0, 2**48 - 1))
def test_an_id_tells_the_millisecond_in_which_it_was_minted(now: int) -> None:
    assert minted_at_ms(Ids(lambda: now, os.urandom).receipt()) == now


def test_a_known_moment_has_its_known_letters() -> None:
    """The ULID of 1469918176385 ms begins 01ARYZ6S41 (the example of the ULID specification)."""
    assert Ids(lambda: 1469918176385, lambda n: bytes(n)).receipt().startswith("rcpt_01ARYZ6S41")


@pytest.mark.parametrize("text", ["", "rcpt_", "rcpt_short", "other_01ARYZ6S410000000000000000"])
def test_what_is_no_id_has_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="not a receipt id"):
        minted_at_ms(text)
