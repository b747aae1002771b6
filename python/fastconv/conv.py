"""Convolutions and transposed convolutions in one, two and three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arg
from . import _core

#: How exact the products of float32 arrays are on a GPU; see :func:`conv2d`.
PRECISIONS = ("fp32", "fp32-simt", "tf32")


def window(
    spatial: int,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: Any = "NCHW",
    activation: Any = None,
    algorithm: Any = "auto",
    precision: Any = "fp32",
) -> tuple[Any, ...]:
    """Collect the arguments that every convolution shares, in the order in which ``_core`` reads them."""
    # What is an int already goes as it is: for a small image the conversions would take longer than the convolution.
    return (
        spatial,
        stride if type(stride) is int else arg.integers("stride", stride),
        padding if type(padding) is int else arg.padding(padding),
        dilation if type(dilation) is int else arg.integers("dilation", dilation),
        groups if type(groups) is int else arg.integer("groups", groups),
        arg.text("layout", layout),
        "none" if activation is None else arg.text("activation", activation),
        arg.text("algorithm", algorithm),
        precision if precision == "fp32" else arg.choice("precision", precision, PRECISIONS),
    )


def _conv(
    spatial: int, x: Any, weight: Any, bias: Any, residual: Any, spelled: tuple[Any, ...], out: Any
) -> np.ndarray:
    """Convolve; `spelled` are the arguments of :func:`window` behind its first."""
    result: np.ndarray | None
    usual = residual is None and out is None
    if usual:
        result = _again(spatial, x, weight, bias, spelled)
        if result is not None:
            return result
    shared = window(spatial, *spelled)
    op, first, filters = f"conv{spatial}d", arg.operand("x", x), arg.operand("weight", weight)
    offset = None if bias is None else arg.operand("bias", bias)
    added = None if residual is None else arg.operand("residual", residual)
    engine = arg.engine(first)
    result = engine.conv(op, first, filters, offset, added, shared, None, out)
    if usual:
        engine.remember_conv(op, spatial, first, filters, offset, spelled, shared)
    return result


def _again(name: Any, x: Any, weight: Any, bias: Any, spelled: tuple[Any, ...]) -> Any:
    """Return the result of a call that has come before, or None."""
    result = _core.conv_again(name, x, weight, bias, spelled)
    if result is None and arg.device_engine is not None:
        return arg.device_engine.conv_again(name, x, weight, bias, spelled)
    return result


def pooled_conv2d(x: Any, weight: Any, bias: Any, *spelled: Any) -> np.ndarray:
    """Return ``max_pool2d(conv2d(x, weight, bias, ...), 2)`` of arrays on a GPU, in one kernel where a row can.

    `spelled` are the arguments of :func:`window` behind `spatial`.
    """
    result: np.ndarray | None = _again("pooled", x, weight, bias, spelled)
    if result is not None:
        return result
    shared, engine = window(2, *spelled), arg.engine(x)
    result = engine.conv("conv2d", x, weight, bias, None, shared, None, None, True)
    engine.remember_conv("conv2d", "pooled", x, weight, bias, spelled, shared, True)
    return result


def _conv_transpose(
    spatial: int, x: Any, weight: Any, bias: Any, window: tuple[Any, ...], output_padding: Any, out: Any
) -> np.ndarray:
    first = arg.operand("x", x)
    result: np.ndarray = arg.engine(first).conv(
        f"conv_transpose{spatial}d",
        first,
        arg.operand("weight", weight),
        None if bias is None else arg.operand("bias", bias),
        None,
        window,
        arg.integers("output_padding", output_padding),
        out,
    )
    return result


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    residual: Any = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve signals with filters; see :func:`conv2d`.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
        Signals; with ``layout="NHWC"`` (N, L, C) or (L, C).
    weight : ndarray, shape (out_channels, C / groups, kernel_length)
        Filters.
    bias, stride, padding, dilation, groups, layout, activation, residual, algorithm, precision, out
        As in :func:`conv2d`, with one axis.

    Returns
    -------
    ndarray, shape (N, out_channels, L_out) or (out_channels, L_out)

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`conv2d`.
    """
    spelled = (stride, padding, dilation, groups, layout, activation, algorithm, precision)
    return _conv(1, x, weight, bias, residual, spelled, out)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    residual: Any = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve images with filters.

    As in every deep-learning library this is a cross-correlation: the filter is not flipped. Each output is the
    inner product of a filter with a patch of the image (LeCun et al., Gradient-based learning applied to document
    recognition, 1998). Names, order, defaults and numerics are those of ``torch.nn.functional.conv2d``.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32, float64, float16 or the bfloat16 of ml_dtypes; with ``layout="NHWC"`` (N, H, W, C) or
        (H, W, C). Any strides; what is not C-contiguous is copied. N may be 0. Elements of 16 bits are computed in
        float32, and each result is rounded once.
    weight : ndarray, shape (out_channels, C / groups, kernel_height, kernel_width)
        Filters, of the dtype of `x`, in this order for both layouts.
    bias : ndarray, shape (out_channels,), optional
        Added to each output channel.
    stride : int or (int, int), default 1
        Steps between patches, in pixels.
    padding : int, (int, int), ((top, bottom), (left, right)), "same" or "valid", default 0
        Zeros around the image, in pixels. "same" makes the output ``ceil(size / stride)`` with the odd zero at the
        end, which is the rule of TensorFlow and ONNX where the stride is above 1 (torch refuses that).
    dilation : int or (int, int), default 1
        Distance between the elements of a filter, in pixels.
    groups : int, default 1
        Input and output channels are divided into this many independent groups.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        Where the channels of `x` and of the result are.
    activation : {None, "relu", "relu6", "silu", "hardswish"}, default None
        Applied to the result while it is in registers or next to them; formulas as in torch.
    residual : ndarray, optional
        Of the shape and dtype of the result, added to it before the activation, as the shortcut of a ResNet is:
        ``activation(conv(x, weight) + bias + residual)``.
    algorithm : str, default "auto"
        "auto" takes the one with the least estimated cost; "exact" the same without amplified rounding; or a name
        out of :func:`algorithms`. :func:`explain` shows the choice.
    precision : {"fp32", "fp32-simt", "tf32"}, default "fp32"
        How products of float32 arrays on a GPU are formed. "fp32" is as accurate as float32, on tensor cores where
        they are ("fp32-simt" without them); "tf32" lets them round the factors to 11 bits. The processor always
        computes in full and takes this as permission.
    out : ndarray, optional
        Where to write the result: C-contiguous, of its shape and dtype, overlapping no input; `residual` itself may
        be given.

    Returns
    -------
    ndarray, shape (N, out_channels, H_out, W_out) or (out_channels, H_out, W_out)
        ``H_out = floor((H + top + bottom - dilation * (kernel_height - 1) - 1) / stride) + 1``. Bitwise equal from
        run to run and for any number of threads.

    Raises
    ------
    ValueError
        A shape or number is wrong; the message names the argument, what came and what was expected.
    TypeError
        An argument has the wrong type, or the dtypes are not all the same one of those above.
    NotImplementedError
        `algorithm` names one that cannot do this problem; the message says why.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> image = np.eye(4, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> diagonal = np.eye(2, dtype=np.float32).reshape(1, 1, 2, 2)
    >>> fastconv.conv2d(image, diagonal)[0, 0]
    array([[2., 0., 0.],
           [0., 2., 0.],
           [0., 0., 2.]], dtype=float32)
    """
    spelled = (stride, padding, dilation, groups, layout, activation, algorithm, precision)
    return _conv(2, x, weight, bias, residual, spelled, out)


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    residual: Any = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Convolve volumes with filters; see :func:`conv2d`.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Volumes; with ``layout="NHWC"`` (N, D, H, W, C) or (D, H, W, C).
    weight : ndarray, shape (out_channels, C / groups, kernel_depth, kernel_height, kernel_width)
        Filters.
    bias, stride, padding, dilation, groups, layout, activation, residual, algorithm, precision, out
        As in :func:`conv2d`, with three axes.

    Returns
    -------
    ndarray, shape (N, out_channels, D_out, H_out, W_out) or (out_channels, D_out, H_out, W_out)

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`conv2d`.
    """
    spelled = (stride, padding, dilation, groups, layout, activation, algorithm, precision)
    return _conv(3, x, weight, bias, residual, spelled, out)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed convolution of signals; see :func:`conv_transpose2d`.

    Parameters
    ----------
    x : ndarray, shape (N, C, L) or (C, L)
    weight : ndarray, shape (C, out_channels / groups, kernel_length)
    bias, stride, padding, output_padding, groups, dilation, layout, activation, algorithm, precision, out
        As in :func:`conv_transpose2d`, with one axis.

    Returns
    -------
    ndarray, shape (N, out_channels, L_out) or (out_channels, L_out)

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`conv2d`.
    """
    shared = window(1, stride, padding, dilation, groups, layout, activation, algorithm, precision)
    return _conv_transpose(1, x, weight, bias, shared, output_padding, out)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed convolution: the gradient of :func:`conv2d` with respect to its input, as a layer of its own.

    Names, order, defaults and numerics are those of ``torch.nn.functional.conv_transpose2d`` (mind that `groups`
    comes before `dilation` here).

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Of the dtypes of :func:`conv2d`; with ``layout="NHWC"`` the channels are last.
    weight : ndarray, shape (C, out_channels / groups, kernel_height, kernel_width)
        Filters, of the dtype of `x`.
    bias : ndarray, shape (out_channels,), optional
        Added to each output channel.
    stride, padding, dilation, groups, layout, activation, algorithm, out
        Those of the convolution whose gradient this is, as in :func:`conv2d`; `padding` takes no "same".
    output_padding : int or (int, int), default 0
        Rows and columns added at the end of the output; below `stride` or `dilation`.

    Returns
    -------
    ndarray, shape (N, out_channels, H_out, W_out) or (out_channels, H_out, W_out)
        ``H_out = (H - 1) * stride - top - bottom + dilation * (kernel_height - 1) + output_padding + 1``.

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`conv2d`.
    """
    shared = window(2, stride, padding, dilation, groups, layout, activation, algorithm, precision)
    return _conv_transpose(2, x, weight, bias, shared, output_padding, out)


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Transposed convolution of volumes; see :func:`conv_transpose2d`.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
    weight : ndarray, shape (C, out_channels / groups, kernel_depth, kernel_height, kernel_width)
    bias, stride, padding, output_padding, groups, dilation, layout, activation, algorithm, precision, out
        As in :func:`conv_transpose2d`, with three axes.

    Returns
    -------
    ndarray, shape (N, out_channels, D_out, H_out, W_out) or (out_channels, D_out, H_out, W_out)

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`conv2d`.
    """
    shared = window(3, stride, padding, dilation, groups, layout, activation, algorithm, precision)
    return _conv_transpose(3, x, weight, bias, shared, output_padding, out)
