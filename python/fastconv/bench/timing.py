"""Minimum times of contenders that take turns, and the roofs of the machine, measured in the same run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from .. import _core

# A burst is long enough that the first calls, which find another contender's data in the caches and its threads still
# spinning, do not decide; three rounds at least, so that no contender depends on one moment of the machine.
BURST_SECONDS = 0.01
FEWEST_CALLS = 3
FEWEST_ROUNDS = 3


def interleaved(contenders: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Time every contender in warm bursts, in turn.

    Parameters
    ----------
    contenders : mapping of str to callable
        What is timed, called without arguments.
    seconds : float
        Time for each contender, in seconds; three rounds are made however long they take.

    Returns
    -------
    dict of str to float
        Least time of one call, in seconds.
    """
    best = dict.fromkeys(contenders, math.inf)
    end = time.perf_counter() + seconds * len(contenders)
    rounds = 0
    while rounds < FEWEST_ROUNDS or time.perf_counter() < end:
        for name, call in contenders.items():
            call()
            burst_end, calls = time.perf_counter() + BURST_SECONDS, 0
            while calls < FEWEST_CALLS or time.perf_counter() < burst_end:
                start = time.perf_counter()
                call()
                best[name] = min(best[name], time.perf_counter() - start)
                calls += 1
        rounds += 1
    return best


def _together(work: Callable[[], None], threads: int) -> float:
    """Seconds for `threads` threads that each do the work once."""
    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def peak_gflops(threads: int) -> float:
    """Multiply-adds on registers alone, with the vectors in use: twice that many operations, in 1e9 per second."""
    rounds = 1_000_000
    done = threads * _core.multiply_add_rounds(rounds)

    def burn() -> None:
        _core.multiply_add_rounds(rounds)

    return max(2 * done / _together(burn, threads) for _ in range(8)) / 1e9


def copy_bandwidth(threads: int) -> float:
    """Bytes read and written by NumPy's copy of 64 MB per thread, in 1e9 per second."""
    pairs = [(np.ones(16 << 20, np.float32), np.ones(16 << 20, np.float32)) for _ in range(threads)]

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        np.copyto(pair[1], pair[0])

    def once() -> float:
        workers = [threading.Thread(target=copy, args=(pair,)) for pair in pairs]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - start

    moved = sum(source.nbytes + target.nbytes for source, target in pairs)
    return moved / min(once() for _ in range(8)) / 1e9
