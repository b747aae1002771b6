"""Gradients of the poolings with respect to their input; public as part of :mod:`fastconv.grad`."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arg
from .pool import adaptive_window, window


def _max(op: str, spatial: int, input_size: Any, grad_output: Any, indices: Any, layout: Any, out: Any) -> np.ndarray:
    size = arg.shape("input_size", input_size)
    grad, place = arg.operand("grad_output", grad_output), arg.text("layout", layout)
    result: np.ndarray = arg.engine(grad).max_pool_gradient(op, spatial, size, grad, indices, place, out)
    return result


def _average(op: str, input_size: Any, grad_output: Any, window: tuple[Any, ...], out: Any) -> np.ndarray:
    size = arg.shape("input_size", input_size)
    grad = arg.operand("grad_output", grad_output)
    result: np.ndarray = arg.engine(grad).average_pool_gradient(op, size, grad, window, out)
    return result


def _adaptive_average(spatial: int, input_size: Any, grad_output: Any, layout: Any, out: Any) -> np.ndarray:
    grad = arg.operand("grad_output", grad_output)
    op = f"grad.adaptive_avg_pool{spatial}d"
    if len(grad.shape) not in (spatial + 1, spatial + 2):
        raise ValueError(f"{op}: grad_output has shape {grad.shape}: expected {spatial + 2} or {spatial + 1} axes")
    sizes = grad.shape[-spatial - 1 : -1] if layout == "NHWC" else grad.shape[-spatial:]
    return _average(op, input_size, grad, adaptive_window(True, spatial, sizes, layout), out)


def _unpool(spatial: int, grad_output: Any, indices: Any, layout: Any, out: Any) -> np.ndarray:
    grad, shared = arg.operand("grad_output", grad_output), (spatial, arg.text("layout", layout))
    op = f"grad.max_unpool{spatial}d"
    result: np.ndarray = arg.engine(grad).max_unpool_gradient(op, grad, indices, shared, out)
    return result


def max_pool1d(
    input_size: Any,
    grad_output: Any,
    indices: np.ndarray,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.max_pool1d` with respect to its input; see :func:`max_pool2d`."""
    return _max("grad.max_pool1d", 1, input_size, grad_output, indices, layout, out)


def max_pool2d(
    input_size: Any,
    grad_output: Any,
    indices: np.ndarray,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.max_pool2d` with respect to its input.

    Each gradient goes to where the maximum was; where windows overlap and share a maximum they are added up, in the
    order of the results. The indices say everything, so that kernel, stride and padding are not needed.

    Parameters
    ----------
    input_size : sequence of int
        Shape of the input: (N, C, H, W) or (C, H, W), or channels last with ``layout="NHWC"``.
    grad_output : ndarray
        Gradient with respect to the output.
    indices : ndarray of int64, of the shape of `grad_output`
        What ``max_pool2d(..., return_indices=True)`` returned.
    layout, out
        As in :func:`fastconv.max_pool2d`.

    Returns
    -------
    ndarray, shape `input_size`

    Raises
    ------
    ValueError
        Shapes that do not fit each other, or an index outside the plane; nothing is written then.
    TypeError
        An argument that is not of the kind above.
    """
    return _max("grad.max_pool2d", 2, input_size, grad_output, indices, layout, out)


def max_pool3d(
    input_size: Any,
    grad_output: Any,
    indices: np.ndarray,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.max_pool3d` with respect to its input; see :func:`max_pool2d`."""
    return _max("grad.max_pool3d", 3, input_size, grad_output, indices, layout, out)


def adaptive_max_pool1d(
    input_size: Any,
    grad_output: Any,
    indices: np.ndarray,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.adaptive_max_pool1d` with respect to its input; see :func:`max_pool2d`."""
    return _max("grad.adaptive_max_pool1d", 1, input_size, grad_output, indices, layout, out)


def adaptive_max_pool2d(
    input_size: Any,
    grad_output: Any,
    indices: np.ndarray,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.adaptive_max_pool2d` with respect to its input; see :func:`max_pool2d`."""
    return _max("grad.adaptive_max_pool2d", 2, input_size, grad_output, indices, layout, out)


def adaptive_max_pool3d(
    input_size: Any,
    grad_output: Any,
    indices: np.ndarray,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.adaptive_max_pool3d` with respect to its input; see :func:`max_pool2d`."""
    return _max("grad.adaptive_max_pool3d", 3, input_size, grad_output, indices, layout, out)


def avg_pool1d(
    input_size: Any,
    grad_output: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.avg_pool1d` with respect to its input; see :func:`avg_pool2d`."""
    shared = window(True, 1, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, None, layout)
    return _average("grad.avg_pool1d", input_size, grad_output, shared, out)


def avg_pool2d(
    input_size: Any,
    grad_output: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.avg_pool2d` with respect to its input.

    Parameters
    ----------
    input_size : sequence of int
        Shape of the input: (N, C, H, W) or (C, H, W), or channels last with ``layout="NHWC"``.
    grad_output : ndarray
        Gradient with respect to the output, of the shape that ``avg_pool2d`` returns for `input_size`.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, out
        Those of the forward call, as in :func:`fastconv.avg_pool2d`.

    Returns
    -------
    ndarray, shape `input_size`

    Raises
    ------
    ValueError, TypeError
        As :func:`fastconv.avg_pool2d`; ValueError also where the shape of `grad_output` does not follow.
    """
    shared = window(True, 2, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, layout)
    return _average("grad.avg_pool2d", input_size, grad_output, shared, out)


def avg_pool3d(
    input_size: Any,
    grad_output: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.avg_pool3d` with respect to its input; see :func:`avg_pool2d`."""
    shared = window(True, 3, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, layout)
    return _average("grad.avg_pool3d", input_size, grad_output, shared, out)


def adaptive_avg_pool1d(
    input_size: Any, grad_output: Any, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of :func:`fastconv.adaptive_avg_pool1d`; the output size is that of `grad_output`."""
    return _adaptive_average(1, input_size, grad_output, layout, out)


def adaptive_avg_pool2d(
    input_size: Any, grad_output: Any, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of :func:`fastconv.adaptive_avg_pool2d`; the output size is that of `grad_output`."""
    return _adaptive_average(2, input_size, grad_output, layout, out)


def adaptive_avg_pool3d(
    input_size: Any, grad_output: Any, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of :func:`fastconv.adaptive_avg_pool3d`; the output size is that of `grad_output`."""
    return _adaptive_average(3, input_size, grad_output, layout, out)


def max_unpool1d(
    grad_output: Any, indices: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of :func:`fastconv.max_unpool1d`: the gradient at each index, of the shape of `indices`."""
    return _unpool(1, grad_output, indices, layout, out)


def max_unpool2d(
    grad_output: Any, indices: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of :func:`fastconv.max_unpool2d`: the gradient at each index, of the shape of `indices`."""
    return _unpool(2, grad_output, indices, layout, out)


def max_unpool3d(
    grad_output: Any, indices: np.ndarray, *, layout: str = "NCHW", out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of :func:`fastconv.max_unpool3d`: the gradient at each index, of the shape of `indices`."""
    return _unpool(3, grad_output, indices, layout, out)
