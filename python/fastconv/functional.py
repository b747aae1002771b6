"""What stands between and behind the convolutions of a network: flatten, linear, relu, softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _arguments as arg
from .conv import conv2d


def _is_half(dtype: np.dtype) -> bool:
    """Tell float16 and the bfloat16 of ml_dtypes."""
    return dtype.itemsize == 2 and (dtype.kind == "f" or dtype.name == "bfloat16")


def _numbers(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of one of the dtypes of a convolution; another one is a TypeError."""
    array = arg.array(name, value)
    if not _is_half(array.dtype) and (array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8)):
        raise TypeError(f"{name} has dtype {array.dtype}: expected float32, float64, float16 or bfloat16")
    return array


def float_array(name: str, value: Any) -> np.ndarray:
    """Return `value` as an array of float32 or float64; another dtype is a TypeError."""
    array = arg.array(name, value)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} has dtype {array.dtype}: expected float32 or float64")
    return array


def _float_operand(name: str, value: Any) -> Any:
    """Return `value` if it is on a GPU, where the engine looks at its dtype, else :func:`_numbers` of it."""
    return _with_reshape(value) if arg.on_device(value) else _numbers(name, value)


def _with_reshape(array: Any) -> Any:
    """Return an array on a GPU, as a DeviceArray where its library does not say how to give it another shape."""
    if hasattr(array, "reshape"):
        return array
    from .cuda import asarray

    return asarray(array)


def axis(name: str, value: Any, ndim: int) -> int:
    """Return the axis that `value`, which may count from the end, names in an array of `ndim` axes."""
    number = arg.integer(name, value)
    if not -max(ndim, 1) <= number < max(ndim, 1):
        raise ValueError(f"{name}={number}: expected {-max(ndim, 1)} to {max(ndim, 1) - 1} for an array of {ndim} axes")
    return number % max(ndim, 1)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> np.ndarray:
    """Make one axis out of the axes `start_dim` to `end_dim`; ``torch.flatten``.

    Parameters
    ----------
    x : ndarray
        Any dtype. An array without axes becomes one of shape (1,).
    start_dim, end_dim : int, default 0 and -1
        First and last axis to join; negative ones count from the end.

    Returns
    -------
    ndarray
        A view of `x` where its strides allow that, otherwise a copy; of an array on a GPU what its ``reshape`` gives.

    Raises
    ------
    ValueError
        An axis does not exist, or `start_dim` comes after `end_dim`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.flatten(np.zeros((8, 50, 5, 5)), 1).shape
    (8, 1250)
    """
    array = arg.operand("x", x)
    if not isinstance(array, np.ndarray):
        array = _with_reshape(array)
    axes = len(array.shape)
    first, last = axis("start_dim", start_dim, axes), axis("end_dim", end_dim, axes)
    if first > last:
        raise ValueError(f"start_dim={start_dim} comes after end_dim={end_dim} for an array of {axes} axes")
    # The product instead of -1, which is ambiguous for an empty array.
    joined = math.prod(array.shape[first : last + 1])
    shape = tuple(array.shape)
    result: np.ndarray = array.reshape(shape[:first] + (joined,) + shape[last + 1 :])
    return result


def linear(
    x: Any, weight: Any, bias: Any = None, *, activation: str | None = None, algorithm: str = "auto"
) -> np.ndarray:
    """Fully connected layer, ``x @ weight.T + bias``; ``torch.nn.functional.linear``.

    Runs as a 1x1 convolution whose pixels are the rows of `x`, on the engine of :func:`conv2d`: bitwise equal for
    any number of threads, which a matrix product of NumPy's BLAS does not promise.

    Parameters
    ----------
    x : ndarray, shape (..., in_features)
        Of the dtypes of :func:`conv2d`.
    weight : ndarray, shape (out_features, in_features) or (in_features,)
        Of the dtype of `x`. With one axis the result loses its last one.
    bias : ndarray, shape (out_features,), optional
        Added to each row; without axes where `weight` has one.
    activation, algorithm
        As in :func:`conv2d`.

    Returns
    -------
    ndarray, shape (..., out_features)

    Raises
    ------
    ValueError
        The shapes do not fit; the message names the argument, what came and what was expected.
    TypeError, NotImplementedError
        As :func:`conv2d`.
    """
    rows, matrix = _float_operand("x", x), _float_operand("weight", weight)
    offset = None if bias is None else _float_operand("bias", bias)
    if len(matrix.shape) not in (1, 2):
        raise ValueError(f"weight has shape {matrix.shape}: expected (out_features, in_features) or (in_features,)")
    features = matrix.shape[-1]
    if not rows.shape or rows.shape[-1] != features:
        raise ValueError(f"x has shape {rows.shape}: expected (..., {features}) for weight {matrix.shape}")
    if offset is not None and offset.shape != matrix.shape[:-1]:
        raise ValueError(f"bias has shape {offset.shape}: expected {matrix.shape[:-1]}, the out_features of weight")
    shape = tuple(rows.shape[:-1]) + tuple(matrix.shape[:-1])
    if 0 in rows.shape and isinstance(rows, np.ndarray):
        return _linear_of_nothing(rows, matrix).reshape(shape)
    # Without rows there is one image too few and not one pixel too few: a batch of 0, which a convolution has.
    pixels = math.prod(rows.shape[:-1])
    return conv2d(
        rows.reshape((1, 1, pixels, features) if pixels else (0, 1, 1, features)),
        matrix.reshape((-1, features, 1, 1)),
        None if offset is None else offset.reshape((-1,)),
        layout="NHWC",
        activation=activation,
        algorithm=algorithm,
    ).reshape(shape)


def _linear_of_nothing(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Give the empty result; a convolution has no image without rows, and no channel count of zero."""
    if rows.dtype != matrix.dtype:
        raise TypeError(f"weight has dtype {matrix.dtype}: expected {rows.dtype} like x")
    if matrix.shape[-1] == 0:
        raise ValueError(f"weight has shape {matrix.shape}: expected in_features of at least 1")
    return np.empty(0, rows.dtype)


def relu(x: Any, inplace: bool = False) -> np.ndarray:
    """Replace what is below zero by zero; ``torch.nn.functional.relu``.

    Parameters
    ----------
    x : ndarray
        Any real dtype, on a GPU those of :func:`conv2d`; NaN stays NaN.
    inplace : bool, default False
        Write into `x` and return it.

    Returns
    -------
    ndarray, shape and dtype of `x`
    """
    y: np.ndarray
    if arg.on_device(x):
        y = arg.engine(x).relu(x, arg.flag("inplace", inplace))
        return y
    array = arg.array("x", x)
    y = np.maximum(array, array.dtype.type(0), out=array if inplace else None)
    return y


def softmax(x: Any, dim: int | None = None) -> np.ndarray:
    """Turn scores into probabilities, ``exp(x) / sum(exp(x))`` along `dim`; ``torch.nn.functional.softmax``.

    Parameters
    ----------
    x : ndarray
        Of the dtypes of :func:`conv2d`. Sums run in this dtype, or in float32 for 16 bits, after the maximum was taken
        off.
    dim : int, optional
        Axis whose entries add up to 1. Without it, as in torch, axis 0 of an array with 0, 1 or 3 axes, else axis 1.

    Returns
    -------
    ndarray, shape and dtype of `x`

    Raises
    ------
    ValueError
        The axis does not exist.
    TypeError
        `x` has none of these dtypes.
    """
    if arg.on_device(x):
        of_device: np.ndarray = arg.engine(x).softmax(x, _scored_axis(dim, len(x.shape)), False)
        return of_device
    array, along = _scores(x, dim)
    if array.size == 0:
        return array.copy()
    if _is_half(array.dtype):
        return softmax(np.asarray(x).astype(np.float32), dim).astype(array.dtype)
    y = np.exp(array - array.max(along, keepdims=True))
    y /= y.sum(along, keepdims=True)
    return np.asarray(y).reshape(np.shape(x))


def log_softmax(x: Any, dim: int | None = None) -> np.ndarray:
    """Logarithm of :func:`softmax`, without its underflow; ``torch.nn.functional.log_softmax``.

    Parameters
    ----------
    x, dim
        As in :func:`softmax`.

    Returns
    -------
    ndarray, shape and dtype of `x`

    Raises
    ------
    ValueError, TypeError
        As :func:`softmax`.
    """
    if arg.on_device(x):
        of_device: np.ndarray = arg.engine(x).softmax(x, _scored_axis(dim, len(x.shape)), True)
        return of_device
    array, along = _scores(x, dim)
    if array.size == 0:
        return array.copy()
    if _is_half(array.dtype):
        return log_softmax(np.asarray(x).astype(np.float32), dim).astype(array.dtype)
    y = array - array.max(along, keepdims=True)
    y -= np.log(np.exp(y).sum(along, keepdims=True))
    return np.asarray(y).reshape(np.shape(x))


def _scores(x: Any, dim: int | None) -> tuple[np.ndarray, int]:
    array = _numbers("x", x)
    return np.atleast_1d(array), _scored_axis(dim, array.ndim)


def _scored_axis(dim: int | None, ndim: int) -> int:
    return axis("dim", (0 if ndim in (0, 1, 3) else 1) if dim is None else dim, ndim)
