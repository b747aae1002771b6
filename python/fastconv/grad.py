"""Gradients of the convolutions with respect to input, weight and bias.

Names and argument order are those of ``torch.nn.grad``. Given ``L`` some function of ``y = conv2d(x, w, b)`` and
``grad_output = dL/dy``, they return ``dL/dx``, ``dL/dw`` and ``dL/db``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arg
from ._grad_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from .conv import window

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d_input",
    "conv1d_weight",
    "conv2d_input",
    "conv2d_weight",
    "conv3d_input",
    "conv3d_weight",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


def _input(
    spatial: int, input_size: Any, weight: Any, grad_output: Any, window: tuple[Any, ...], out: Any
) -> np.ndarray:
    size, first = arg.shape("input_size", input_size), arg.operand("grad_output", grad_output)
    filters = arg.operand("weight", weight)
    op = f"grad.conv{spatial}d_input"
    result: np.ndarray = arg.engine(first).conv_input_gradient(op, size, filters, first, window, out)
    return result


def _weight(
    spatial: int, input: Any, weight_size: Any, grad_output: Any, window: tuple[Any, ...], out: Any
) -> np.ndarray:
    first, size = arg.operand("input", input), arg.shape("weight_size", weight_size)
    grad = arg.operand("grad_output", grad_output)
    op = f"grad.conv{spatial}d_weight"
    result: np.ndarray = arg.engine(first).conv_weight_gradient(op, first, size, grad, window, out)
    return result


def conv1d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.conv1d` with respect to its input; see :func:`conv2d_input`."""
    shared = window(1, stride, padding, dilation, groups, layout, None, algorithm, precision)
    return _input(1, input_size, weight, grad_output, shared, out)


def conv2d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.conv2d` with respect to its input.

    Parameters
    ----------
    input_size : sequence of int
        Shape of the input: (N, C, H, W) or (C, H, W), or channels last with ``layout="NHWC"``.
    weight : ndarray, shape (out_channels, C / groups, kernel_height, kernel_width)
    grad_output : ndarray
        Gradient with respect to the output, of the shape that ``conv2d`` returns for `input_size`.
    stride, padding, dilation, groups, layout, algorithm, precision, out
        Those of the forward call, as in :func:`fastconv.conv2d`.

    Returns
    -------
    ndarray, shape `input_size`

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`fastconv.conv2d`; ValueError also where the shape of `grad_output` does not follow from the others.
    """
    shared = window(2, stride, padding, dilation, groups, layout, None, algorithm, precision)
    return _input(2, input_size, weight, grad_output, shared, out)


def conv3d_input(
    input_size: Any,
    weight: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.conv3d` with respect to its input; see :func:`conv2d_input`."""
    shared = window(3, stride, padding, dilation, groups, layout, None, algorithm, precision)
    return _input(3, input_size, weight, grad_output, shared, out)


def conv1d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.conv1d` with respect to its filters; see :func:`conv2d_weight`."""
    shared = window(1, stride, padding, dilation, groups, layout, None, algorithm, precision)
    return _weight(1, input, weight_size, grad_output, shared, out)


def conv2d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.conv2d` with respect to its filters, summed over the batch.

    Parameters
    ----------
    input : ndarray, shape (N, C, H, W) or (C, H, W)
        The input of the forward call; channels last with ``layout="NHWC"``. For N = 0 the gradient is zero.
    weight_size : sequence of int
        Shape of the filters: (out_channels, C / groups, kernel_height, kernel_width).
    grad_output : ndarray
        Gradient with respect to the output, of the shape that ``conv2d`` returns for these sizes.
    stride, padding, dilation, groups, layout, algorithm, precision, out
        Those of the forward call, as in :func:`fastconv.conv2d`.

    Returns
    -------
    ndarray, shape `weight_size`
        Summed in an order that does not depend on the number of threads.

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`fastconv.conv2d`; ValueError also where the shape of `grad_output` does not follow from the others.
    """
    shared = window(2, stride, padding, dilation, groups, layout, None, algorithm, precision)
    return _weight(2, input, weight_size, grad_output, shared, out)


def conv3d_weight(
    input: Any,
    weight_size: Any,
    grad_output: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Gradient of :func:`fastconv.conv3d` with respect to its filters; see :func:`conv2d_weight`."""
    shared = window(3, stride, padding, dilation, groups, layout, None, algorithm, precision)
    return _weight(3, input, weight_size, grad_output, shared, out)
