"""The one place that knows which compiled module computes on the device.

``fastconv._cuda`` is imported at the first array on a GPU, never by ``import fastconv``. Tests put the emulator's
module in its place with :func:`substitute`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import _arguments

_loaded: Any = None
_substitute: Any = None


def engine() -> Any:
    """Return the module, ready to compute.

    Raises
    ------
    RuntimeError
        The build has none, or there is no driver or no device; the message says which.
    """
    if _substitute is not None:
        return _substitute
    if _loaded is None:
        reason = why_not()
        if reason:
            raise RuntimeError(f"no CUDA device can be used: {reason}")
    return _loaded


def why_not() -> str:
    """Say why the device cannot be used, or nothing where it can."""
    global _loaded
    if _substitute is not None or _loaded is not None:
        return ""
    try:
        module = importlib.import_module("fastconv._cuda")
    except ModuleNotFoundError as error:
        if error.name != "fastconv._cuda":
            raise
        return (
            "this build of fastconv has no CUDA kernels (fastconv._cuda); installed from source where nvcc 12 or newer "
            "is, with pip install --force-reinstall --no-cache-dir, it has"
        )
    except ImportError as error:
        return f"fastconv._cuda cannot be loaded: {error}"
    count, reason = module.devices()
    if not count:
        return f"{reason} (fastconv._cuda was built by {module.compiler})"
    _loaded = _arguments.device_engine = module
    return ""


@contextmanager
def substitute(module: Any) -> Iterator[None]:
    """Let `module` compute inside a ``with`` block, whatever is installed."""
    global _substitute
    before, _substitute = _substitute, module
    _arguments.device_engine = module
    try:
        yield
    finally:
        _substitute = before
        _arguments.device_engine = _loaded if before is None else before
