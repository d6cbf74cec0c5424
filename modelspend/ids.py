"""Ids: a prefix and a ULID, so that they sort by the moment they were minted.

Two ids minted in the same millisecond by one `Ids` still sort in the order of minting: the random
part is counted up instead of drawn again.
"""

from collections.abc import Callable

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base 32
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
_RANDOM_BITS = 80


def _encode(value: int) -> str:
    """128 bits as 26 letters, ten bits at a time."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


class Ids:
    """Mints `rcpt_…` ids from a clock (milliseconds UTC) and a source of random bytes."""

    def __init__(self, now_ms: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._now_ms = now_ms
        self._random = random
        self._last_ms = -1
        self._last_random = 0

    def receipt(self) -> str:
        """A new receipt id, greater than every id minted before it."""
        now = self._now_ms()
        if now <= self._last_ms:  # the same millisecond, or a clock that went back
            self._last_random += 1
        else:
            self._last_ms = now
            # the top bit is left free, so that counting up cannot overflow
            self._last_random = int.from_bytes(self._random(10), "big") >> 1
        return "rcpt_" + _encode((self._last_ms << _RANDOM_BITS) | self._last_random)


def incident_id(at_ms: int, seq: int) -> str:
    """The id of an incident that began at a millisecond, made one of a kind by the ledger's `seq`.

    Made from what is written, so that writing it again makes the same one.
    """
    return "inc_" + _encode((at_ms << _RANDOM_BITS) | seq)


def drill_id(at_ms: int, random: bytes) -> str:
    """The id of a drill, from ten random bytes."""
    return "drill_" + _encode((at_ms << _RANDOM_BITS) | int.from_bytes(random, "big"))


def minted_at_ms(receipt_id: str) -> int:
    """The millisecond (UTC) in which an id was minted.

    Raises ValueError when `receipt_id` is not an id of ours.
    """
    prefix, _, ulid = receipt_id.partition("_")
    if prefix != "rcpt" or len(ulid) != 26:
        raise ValueError(f"not a receipt id: {receipt_id!r}")
    value = 0
    for letter in ulid[:10]:
        value = value * 32 + _ALPHABET.index(letter)
    return value
