"""What was used once and is free goes back to the system."""

import ctypes
import os
import platform
from pathlib import Path

import pytest

from modelspend.server.memory import give_back

PIECES, SIZE = 4_000, 16_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked for it")
def test_what_is_free_between_what_is_used_goes_back() -> None:
    """Pieces that are too small to be mapped apart, and every eightieth of them stays."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    give_back()
    pieces = [libc.malloc(SIZE) for _ in range(PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, SIZE)
    kept = pieces[::80]
    for n, piece in enumerate(pieces):
        if n % 80:
            libc.free(piece)
    held = resident()
    give_back()
    assert held - resident() > PIECES * SIZE * 0.7
    for piece in kept:
        libc.free(piece)
