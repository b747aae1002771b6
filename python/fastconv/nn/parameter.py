"""The numbers a layer learns, and how they begin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Parameter:
    """An array that training changes, and the gradient of the loss with respect to it.

    Parameters
    ----------
    data : ndarray
        float32 or float64; used as it is, not copied.

    Attributes
    ----------
    data : ndarray
        The values. Optimisers and ``load_state_dict`` write into this array.
    grad : ndarray or None
        Of the shape and dtype of `data`; None until the first ``backward`` and after ``zero_grad``.
    """

    __slots__ = ("data", "grad")

    def __init__(self, data: np.ndarray) -> None:
        came: Any = data
        if not isinstance(came, np.ndarray):
            raise TypeError(f"data is {type(came).__name__}: expected a NumPy array of float32 or float64")
        if came.dtype not in (np.float32, np.float64):
            raise TypeError(f"data has dtype {came.dtype}: expected float32 or float64")
        self.data = data
        self.grad: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of `data`."""
        return self.data.dtype

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.data.size

    def accumulate(self, grad: np.ndarray) -> None:
        """Add to the gradient; the first one since ``zero_grad`` is kept as it is, without a copy."""
        if self.grad is None:
            self.grad = grad
        else:
            self.grad += grad

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.dtype})"


def generator(rng: Any) -> np.random.Generator:
    """Return a Generator from one, from a seed, or from None (unpredictable)."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng={rng!r}: expected a numpy.random.Generator, an integer or None ({error})") from None


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, dtype: np.dtype[Any]) -> Parameter:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), where torch's layers begin.

    This is He's uniform initialisation with a = sqrt(5) (He et al., Delving deep into rectifiers, 2015): its bound
    is sqrt(6 / ((1 + a**2) * fan_in)).
    """
    bound = 1 / math.sqrt(fan_in)
    return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))


def float_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype of a layer's numbers, float32 or float64."""
    try:
        known: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype={dtype!r}: expected float32 or float64") from None
    if dtype is None or known not in (np.float32, np.float64):
        raise TypeError(f"dtype={dtype!r}: expected float32 or float64")
    return known
