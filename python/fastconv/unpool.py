"""Max unpooling in one, two and three dimensions: what a max pooling took goes back to where it was.

Names, argument order, defaults and numerics are those of ``torch.nn.functional``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arg


def window(spatial: int, kernel_size: Any, stride: Any, padding: Any, output_size: Any, layout: Any) -> tuple[Any, ...]:
    """Collect what describes a max unpooling."""
    pads = arg.padding(padding)
    if isinstance(pads, str):
        raise TypeError(f"padding={pads!r}: expected integers or pairs for an unpooling")
    return (
        spatial,
        arg.text("layout", layout),
        arg.integers("kernel_size", kernel_size),
        None if stride is None else arg.integers("stride", stride),
        pads,
        None if output_size is None else arg.shape("output_size", output_size),
    )


def _unpool(op: str, x: Any, indices: Any, window: tuple[Any, ...], out: Any) -> np.ndarray:
    first = arg.operand("x", x)
    result: np.ndarray = arg.engine(first).max_unpool(op, first, indices, window, out)
    return result


def max_unpool1d(
    x: Any,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Undo :func:`max_pool1d`, as far as it can be undone; see :func:`max_unpool2d`."""
    shared = window(1, kernel_size, stride, padding, output_size, layout)
    return _unpool("max_unpool1d", x, indices, shared, out)


def max_unpool2d(
    x: Any,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Undo :func:`max_pool2d` as far as it can be undone: each value goes back to its index, all else is 0.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        What max_pool2d returned; channels last with ``layout="NHWC"``.
    indices : ndarray of int64, of the shape of `x`
        What max_pool2d returned with it: flat positions in the plane of the result. Where two values have the same
        index the later one stays.
    kernel_size, stride, padding
        Those of the pooling. The result has ``(H - 1) * stride - 2 * padding + kernel_size`` rows.
    output_size : sequence of int, optional
        The spatial size of the result, or its whole shape, where several inputs pool to the same size: less than a
        stride away from the size above.
    layout, out
        As in :func:`max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out) or (C, H_out, W_out)

    Raises
    ------
    ValueError
        An index that lies outside its plane (nothing is written then), or sizes that do not fit.
    TypeError
        An argument that is not of the kind above.

    References
    ----------
    ``torch.nn.functional.max_unpool2d`` of PyTorch 2.13.
    """
    shared = window(2, kernel_size, stride, padding, output_size, layout)
    return _unpool("max_unpool2d", x, indices, shared, out)


def max_unpool3d(
    x: Any,
    indices: np.ndarray,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Undo :func:`max_pool3d`, as far as it can be undone; see :func:`max_unpool2d`."""
    shared = window(3, kernel_size, stride, padding, output_size, layout)
    return _unpool("max_unpool3d", x, indices, shared, out)
