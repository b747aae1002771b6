"""What this build and machine can do, and how many threads it uses."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, overload

import numpy as np

from . import _arguments as arg
from . import _core

_VARIABLES = ("FASTCONV_CUDA_SYNC", "FASTCONV_ISA", "OMP_NUM_THREADS")


def algorithms() -> tuple[str, ...]:
    """Names of the algorithms that ``algorithm=`` takes, in the order that breaks ties of cost.

    Returns
    -------
    tuple of str
        The last one, "reference", does every problem.
    """
    return tuple(_core.algorithms())


def get_num_threads() -> int:
    """Threads that a call uses at most.

    Returns
    -------
    int
        What :func:`set_num_threads` set; before that ``OMP_NUM_THREADS``, but no more than the cores this process
        may use (its affinity and its cgroup's quota); without that variable all of these cores.
    """
    return _core.get_num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads a call uses at most, for the whole process.

    Results do not depend on it, bit for bit. A build without OpenMP takes the number and runs on one thread.

    Parameters
    ----------
    threads : int
        1 to 1024.

    Raises
    ------
    TypeError
        `threads` is no integer.
    ValueError
        `threads` is below 1 or above 1024.
    """
    _core.set_num_threads(arg.integer("threads", threads))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads for a ``with`` block and put the earlier number back.

    The number belongs to the whole process: calls on other Python threads see it as well while the block runs.

    Parameters
    ----------
    count : int
        As in :func:`set_num_threads`.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.threads(1):
    ...     fastconv.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def is_cuda_available() -> bool:
    """Whether calls can run on a CUDA device; where not, :func:`show_config` says why.

    Returns
    -------
    bool
        False also where there is a device, and no driver for it or no CUDA kernels in this build.
    """
    return not _why_no_cuda()


def _why_no_cuda() -> str:
    from .cuda import why_not

    return why_not()


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show version, compiler, instruction sets, threads, caches and CUDA: what a bug report should carry.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Print it, or return it.

    Returns
    -------
    dict or None
        With "dicts": ``version``, ``compiler``, ``python``, ``numpy``, ``platform``, ``isa`` (in use),
        ``isas_available`` (built and able to run here, worst first), ``threading`` ("OpenMP" or "none"),
        ``threads``, ``cores`` (that this process may use), ``l1_bytes``, ``l2_bytes``, ``l3_bytes``,
        ``algorithms``, ``environment`` (the variables that fastconv reads, where set) and ``cuda``
        (``available``, and ``reason`` why not, or else ``compiler``, ``built_for`` and the architectures of
        ``devices``).

    Raises
    ------
    ValueError
        `mode` is something else.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode={mode!r}: expected 'stdout' or 'dicts'")
    config: dict[str, Any] = {
        **_core.config(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "platform": platform.platform(),
        "algorithms": list(algorithms()),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "cuda": _cuda_config(),
    }
    if mode == "dicts":
        return config
    for name, value in config.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}={entry}" for key, entry in value.items()) or "-"
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{name:<15} {value}")
    return None


def _cuda_config() -> dict[str, Any]:
    reason = _why_no_cuda()
    if reason:
        return {"available": False, "reason": reason}
    from .cuda._loader import engine

    module = engine()
    count, _ = module.devices()
    return {
        "available": True,
        "compiler": module.compiler,
        "built_for": module.architectures,
        "devices": [f"sm_{module.architecture(device)}" for device in range(count)],
    }
