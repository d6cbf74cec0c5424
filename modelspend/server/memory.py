"""Memory that nobody uses any more goes back to the system.

Hides that the C library keeps what was freed: a burst of a thousand streams would stay in the size
of the process for ever. Only glibc has a way of asking for that; elsewhere nothing is done.
"""

import ctypes
from collections.abc import Callable


def give_back() -> None:
    """Takes about a millisecond, outside of Python's lock."""
    if _TRIM is not None:
        _TRIM(0)


def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found


_TRIM = _trim()
