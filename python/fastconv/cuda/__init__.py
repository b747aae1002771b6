"""Arrays on a GPU, for the functions of :mod:`fastconv`.

Every function of :mod:`fastconv` and :mod:`fastconv.grad` that computes convolutions and poolings, ``linear``,
``flatten``, ``relu``, ``softmax``, ``pad`` and ``explain`` take arrays of PyTorch, CuPy and JAX that are on a GPU, and
anything there with ``__dlpack__`` or ``__cuda_array_interface__``, without a copy. The same kind comes back, computed
on the current stream of that library. :class:`DeviceArray` is for those who have NumPy alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _arguments as arg
from ._array import DeviceArray, current_stream, stream, upload
from ._libraries import library_of
from ._loader import engine, why_not

__all__ = ["DeviceArray", "algorithms", "asarray", "current_stream", "stream", "synchronize", "warmup", "why_not"]


def asarray(x: Any, device: int = 0) -> DeviceArray:
    """Put an array on a GPU, or look at one that is there.

    Parameters
    ----------
    x : array
        A NumPy array, or what becomes one, is copied to the device. An array on a GPU is not copied: the result looks
        at its memory and keeps it alive.
    device : int, default 0
        Number of the GPU that a NumPy array goes to.

    Returns
    -------
    DeviceArray

    Raises
    ------
    RuntimeError
        There is no device, no driver or no CUDA kernel in this build; the message says which.
    ValueError
        An array on a GPU that is not C-contiguous.
    TypeError
        A dtype that no DeviceArray has.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> x = fastconv.cuda.asarray(np.ones((1, 3, 32, 32), np.float32))  # doctest: +SKIP
    >>> w = fastconv.cuda.asarray(np.ones((8, 3, 3, 3), np.float32))  # doctest: +SKIP
    >>> fastconv.conv2d(x, w, padding=1).numpy().shape  # doctest: +SKIP
    (1, 8, 32, 32)
    """
    if isinstance(x, DeviceArray):
        return x
    engine()
    if not arg.on_device(x):
        return upload(arg.array("x", x), arg.integer("device", device))
    library = library_of(x)
    number, handle = library.device(x), library.stream(x)
    owner, pointer, shape, dtype, plain, read_only = library.view("x", x, handle)
    if not plain:
        raise ValueError("x is not C-contiguous and aligned: expected both")
    return DeviceArray(owner, pointer, shape, dtype, number, handle, read_only)


def algorithms() -> tuple[str, ...]:
    """Names of the algorithms that ``algorithm=`` takes for arrays on a GPU, in the order that breaks ties of cost.

    Returns
    -------
    tuple of str
    """
    return tuple(engine().algorithms())


def synchronize(device: int = 0) -> None:
    """Wait for everything that a device was given to do.

    Parameters
    ----------
    device : int, default 0
    """
    engine().synchronize(arg.integer("device", device))


def warmup(device: int = 0) -> None:
    """Load the kernels now and not at the first call that needs them.

    CUDA loads a kernel when it is first launched, which takes a moment and is not allowed while a graph is captured.
    A plan (:func:`fastconv.plan_conv2d`) loads the kernels that it will launch when it is made.

    Parameters
    ----------
    device : int, default 0
    """
    engine().warmup(arg.integer("device", device), current_stream())


def _numbers(x: Any) -> np.ndarray:
    """Return a NumPy array of any array's numbers: a copy where it is on a GPU."""
    return asarray(x).numpy() if arg.on_device(x) else np.asarray(x)
