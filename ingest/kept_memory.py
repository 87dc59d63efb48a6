"""How memory is kept and looked through, for processes through which many or large bodies pass.

glibc asks the system for every block above some size, and gives it back at once: a megabyte that passes through a few
buffers then costs more in page faults than in copying. Elsewhere nothing is changed.
"""

from __future__ import annotations

import ctypes
import gc

# mallopt(3), malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT_BYTES = 64 << 20
"""That may lie unused at the end of the heap."""

ALLOCATIONS, YOUNG, OLDER = 10_000, 20, 20
"""Between two looks for cycles at what is new; such looks between two at what is older; and those between two at all."""


def look_for_cycles_seldom() -> None:
    """From now on: steps have no cycles, but so many wait for a commit that Python's own pace takes a tenth of the time."""
    gc.set_threshold(ALLOCATIONS, YOUNG, OLDER)


def keep_freed_memory() -> bool:
    """From now on; False where the C library has no such setting. Called before threads are started."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = {
        M_ARENA_MAX: 1,  # one heap for all threads: what one frees another uses, and the GIL lets in one at a time
        M_MMAP_THRESHOLD: LARGEST_MMAP_THRESHOLD,
        M_TRIM_THRESHOLD: KEPT_BYTES,
        M_TOP_PAD: 4 << 20,
    }
    return all([mallopt(name, value) for name, value in settings.items()])
