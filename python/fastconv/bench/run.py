"""Runs a suite: prepares every contender, checks what it answers, then times all of them in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import fastconv

from . import peers as others
from . import suites, tasks
from .records import OURS, Row, Run, describe_place
from .timing import copy_bandwidth, interleaved, peak_gflops

# Threads of another pool may spin for a while after its last call: what is prepared next waits for them to sleep.
SETTLE_SECONDS = 0.02


def run_suite(
    suite: str,
    threads: int = 1,
    batch: int = 1,
    peers: list[str] | None = None,
    pattern: str = "",
    seconds: float = 0.3,
    layout: str = "NCHW",
    progress: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Run:
    """Time a suite.

    Parameters
    ----------
    suite : str
        One of ``SUITES``.
    threads : int, default 1
        For every contender.
    batch : int, default 1
        Images per call, in the suites of single images.
    peers : list of str, optional
        Which libraries; all that are installed by default.
    pattern : str, default ""
        Only what has this in its name, in either case.
    seconds : float, default 0.3
        Time for each contender of each row, in seconds.
    layout : {"NCHW", "NHWC"}
        Of our own arrays in the suites ``layers`` and ``networks``; peers keep theirs.
    progress : callable, default iter
        Wraps the list of what is timed, as ``tqdm`` does.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        Unknown suite or peer, or nothing has the pattern in its name.
    ImportError
        A peer that was asked for is not installed.
    """
    if suite not in suites.SUITES:
        raise ValueError(f"--suite: {suite!r}: expected one of {', '.join(suites.SUITES)}")
    names = others.installed(peers)
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        place = describe_place(others.versions(names), peak_gflops(threads), copy_bandwidth(threads))
        jobs = [job for job in _jobs(suite, batch, names, threads, layout) if pattern.lower() in job.name.lower()]
        if not jobs:
            raise ValueError(f"--filter: nothing of the suite {suite!r} has {pattern!r} in its name")
        rows = [_measure(job, seconds, threads) for job in progress(jobs)]
    finally:
        fastconv.set_num_threads(before)
    return Run(suite, threads, rows, {**place, "batch": batch, "layout": layout})


def _measure(job: tasks.Job, seconds: float, threads: int) -> Row:
    """Check, then time; whoever answers wrongly is timed all the same, and its row says so."""
    contenders = job.prepare()
    if threads > 1:
        time.sleep(SETTLE_SECONDS)
    errors = {}
    if job.reference is not None:
        want = job.reference()
        largest = max(float(np.abs(want).max()), float(np.finfo(np.float32).tiny))
        errors = {name: _error(result(), want, largest) for name, (_, result) in contenders.items()}
    times = interleaved({name: call for name, (call, _) in contenders.items()}, seconds)
    return Row(job.name, job.unit, job.work, times, errors, job.algorithm(), job.traffic)


def _error(got: np.ndarray, want: np.ndarray, largest: float) -> float:
    if got.shape != want.shape:
        return math.inf
    error = float(np.abs(got - want).max(initial=0)) / largest
    return error if math.isfinite(error) else math.inf


def _jobs(suite: str, batch: int, names: list[str], threads: int, layout: str) -> Iterator[tasks.Job]:
    torch_names = [name for name in names if name.startswith("torch")]
    if suite in suites.CONVOLUTIONS:
        for layer in suites.with_batch(suites.CONVOLUTIONS[suite], batch):
            yield tasks.convolution(layer, names, threads, layout)
    elif suite == "plain":
        for layer in suites.with_batch(suites.LAYERS, batch):
            yield tasks.plain(layer, [name for name in torch_names if name == "torch"], threads)
    elif suite == "pooling":
        wanted = [*torch_names, *(name for name in names if name == "onnxruntime")]
        for pooling in suites.POOLINGS:
            yield tasks.pooling(pooling, wanted, threads)
    elif suite == "gradients":
        for layer in suites.GRADIENTS:
            for which in ("input", "weight"):
                yield tasks.gradient(layer, which, torch_names, threads)
    elif suite == "training":
        yield tasks.training([name for name in torch_names if name == "torch"], threads)
    else:
        yield tasks.tiny_call([name for name in names if name in ("torch", "onnxruntime")], threads)


__all__ = ["OURS", "run_suite"]
