"""Pooling in one, two and three dimensions: the maximum or the average of windows.

Names, argument order, defaults and numerics are those of ``torch.nn.functional``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _arguments as arg
from . import _core


def window(
    average: bool,
    spatial: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    count_include_pad: Any,
    divisor_override: Any,
    layout: Any,
) -> tuple[Any, ...]:
    """Collect what describes a pooling's windows, in the order in which ``_core`` reads it."""
    # What is an int already goes as it is: for a small image the conversions would take longer than the pooling.
    return (
        average,
        spatial,
        arg.text("layout", layout),
        kernel_size if type(kernel_size) is int else arg.integers("kernel_size", kernel_size),
        stride if stride is None or type(stride) is int else arg.integers("stride", stride),
        padding if type(padding) is int else arg.padding(padding),
        type(padding) is not int and arg.given_pairs(padding),
        dilation if type(dilation) is int else arg.integers("dilation", dilation),
        arg.flag("ceil_mode", ceil_mode),
        arg.flag("count_include_pad", count_include_pad),
        None if divisor_override is None else arg.integer("divisor_override", divisor_override),
    )


def adaptive_window(average: bool, spatial: int, output_size: Any, layout: Any) -> tuple[Any, ...]:
    """Collect what describes an adaptive pooling's windows."""
    return (average, spatial, arg.text("layout", layout), arg.sizes("output_size", output_size))


def _pool(
    op: str, x: Any, collect: Callable[..., tuple[Any, ...]], spelled: tuple[Any, ...], return_indices: Any, out: Any
) -> Any:
    """Pool; `spelled` are the arguments of `collect`, :func:`window` or :func:`adaptive_window`."""
    usual = return_indices is False and out is None
    if usual:
        result = _core.pool_again(op, x, spelled)
        if result is None and arg.device_engine is not None:
            result = arg.device_engine.pool_again(op, x, spelled)
        if result is not None:
            return result
    shared = collect(*spelled)
    first = arg.operand("x", x)
    engine = arg.engine(first)
    result = engine.pool(op, first, shared, arg.flag("return_indices", return_indices), out)
    if usual:
        engine.remember_pool(op, first, spelled, shared)
    return result


def max_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of the windows of signals, x of shape (N, C, L) or (C, L); see :func:`max_pool2d`."""
    spelled = (False, 1, kernel_size, stride, padding, dilation, ceil_mode, True, None, layout)
    return _pool("max_pool1d", x, window, spelled, return_indices, out)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of each window of each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Of the dtypes of :func:`conv2d`; (N, H, W, C) or (H, W, C) with ``layout="NHWC"``. N may be 0.
    kernel_size : int or (int, int)
        Height and width of a window.
    stride : int or (int, int), optional
        Step from one window to the next; `kernel_size` by default.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        -inf around the input, at most half of the window (torch's rule). As ((top, bottom), (left, right)) at most
        one less than the window (ONNX's rule). "same" gives ceil(size / stride) results, the odd element of padding
        at the end, as TensorFlow and ONNX SAME_UPPER do.
    dilation : int or (int, int)
        Distance of two neighbouring elements of a window.
    ceil_mode : bool
        Also take a last window that hangs over the end, if it starts inside the input or the padding before it.
    return_indices : bool
        Also return where each maximum was.
    layout : {"NCHW", "NHWC"}
    out : ndarray, optional
        C-contiguous array of the result's shape and dtype that is written to and returned in place of a new one.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        ``H_out = floor((H + top + bottom - dilation * (kernel - 1) - 1) / stride) + 1``, with `ceil_mode` ceil. A
        NaN in a window makes its maximum NaN.
    ndarray of int64 of the same shape, only with ``return_indices=True``
        Position in the flat H * W plane of the channel: of the first of equal maxima, of the last of several NaN.

    Raises
    ------
    ValueError
        A size, stride, padding or dilation that makes no sense, or does not fit the others.
    TypeError
        An argument that is not of the kind above.

    References
    ----------
    ``torch.nn.functional.max_pool2d`` of PyTorch 2.13.
    """
    spelled = (False, 2, kernel_size, stride, padding, dilation, ceil_mode, True, None, layout)
    return _pool("max_pool2d", x, window, spelled, return_indices, out)


def max_pool3d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of the windows of volumes, x of shape (N, C, D, H, W) or (C, D, H, W); see :func:`max_pool2d`."""
    spelled = (False, 3, kernel_size, stride, padding, dilation, ceil_mode, True, None, layout)
    return _pool("max_pool3d", x, window, spelled, return_indices, out)


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Average of the windows of signals, x of shape (N, C, L) or (C, L); see :func:`avg_pool2d`."""
    spelled = (True, 1, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, None, layout)
    result: np.ndarray = _pool("avg_pool1d", x, window, spelled, False, out)
    return result


def avg_pool2d(
    x: Any,
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
    """Average of each window of each channel.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Of the dtypes of :func:`conv2d`; (N, H, W, C) or (H, W, C) with ``layout="NHWC"``. N may be 0.
    kernel_size, stride, padding, ceil_mode, layout, out
        As in :func:`max_pool2d`, with zeros for padding.
    count_include_pad : bool
        Divide by the elements of the window in the input and its padding, or by those in the input alone. What
        `ceil_mode` hangs over the padding never counts, and with ``padding="same"`` no padding does (TensorFlow).
    divisor_override : int, optional
        Divide by this number instead.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out) or (C, H_out, W_out)
        Sizes as in :func:`max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        As :func:`max_pool2d`.

    References
    ----------
    ``torch.nn.functional.avg_pool2d`` of PyTorch 2.13.
    """
    spelled = (True, 2, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, layout)
    result: np.ndarray = _pool("avg_pool2d", x, window, spelled, False, out)
    return result


def avg_pool3d(
    x: Any,
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
    """Average of the windows of volumes, x of shape (N, C, D, H, W) or (C, D, H, W); see :func:`avg_pool2d`."""
    spelled = (True, 3, kernel_size, stride, padding, 1, ceil_mode, count_include_pad, divisor_override, layout)
    result: np.ndarray = _pool("avg_pool3d", x, window, spelled, False, out)
    return result


def adaptive_max_pool1d(
    x: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of windows of signals that give `output_size`; see :func:`adaptive_max_pool2d`."""
    spelled = (False, 1, output_size, layout)
    return _pool("adaptive_max_pool1d", x, adaptive_window, spelled, return_indices, out)


def adaptive_max_pool2d(
    x: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of windows chosen so that the result has a given size.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Or channels last with ``layout="NHWC"``.
    output_size : int or (int or None, int or None)
        H_out and W_out, each at least 1; None keeps the size of the input. Window i along an axis is
        [floor(i * size / output), ceil((i + 1) * size / output)): windows may overlap, and repeat where output > size.
    return_indices : bool
        Also return where each maximum was, as :func:`max_pool2d` does.
    layout, out
        As in :func:`max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out) or (C, H_out, W_out), and with ``return_indices=True`` one of int64

    Raises
    ------
    ValueError, TypeError
        As :func:`max_pool2d`.

    References
    ----------
    ``torch.nn.functional.adaptive_max_pool2d`` of PyTorch 2.13.
    """
    spelled = (False, 2, output_size, layout)
    return _pool("adaptive_max_pool2d", x, adaptive_window, spelled, return_indices, out)


def adaptive_max_pool3d(
    x: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> Any:
    """Maximum of windows of volumes that give `output_size`; see :func:`adaptive_max_pool2d`."""
    spelled = (False, 3, output_size, layout)
    return _pool("adaptive_max_pool3d", x, adaptive_window, spelled, return_indices, out)


def adaptive_avg_pool1d(
    x: Any,
    output_size: Any,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Average of windows that give `output_size`; see :func:`adaptive_avg_pool2d`."""
    spelled = (True, 1, output_size, layout)
    result: np.ndarray = _pool("adaptive_avg_pool1d", x, adaptive_window, spelled, False, out)
    return result


def adaptive_avg_pool2d(
    x: Any,
    output_size: Any,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Average of windows chosen so that the result has a given size; 1 is the global average.

    Parameters and errors are those of :func:`adaptive_max_pool2d`.

    Returns
    -------
    ndarray, shape (N, C, H_out, W_out) or (C, H_out, W_out)
    """
    spelled = (True, 2, output_size, layout)
    result: np.ndarray = _pool("adaptive_avg_pool2d", x, adaptive_window, spelled, False, out)
    return result


def adaptive_avg_pool3d(
    x: Any,
    output_size: Any,
    *,
    layout: str = "NCHW",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Average of windows that give `output_size`; see :func:`adaptive_avg_pool2d`."""
    spelled = (True, 3, output_size, layout)
    result: np.ndarray = _pool("adaptive_avg_pool3d", x, adaptive_window, spelled, False, out)
    return result
