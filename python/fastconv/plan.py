"""Convolutions with their weights packed once and called many times."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _arguments as arg
from . import _core
from .conv import window


class ConvPlan:
    """A convolution for one shape, with its algorithm chosen and its filters packed; made by :func:`plan_conv2d`.

    It keeps copies of filters and bias: later changes of those arrays do not reach it. Calls may come from several
    Python threads at once.

    Attributes
    ----------
    algorithm : str
        Name of the algorithm it runs.
    x_shape, output_shape : tuple of int
        Shapes of the input and of the result.
    packed_bytes : int
        Memory that the packed filters take, in bytes; 0 where the algorithm reads them as they are.
    workspace_bytes : int
        Scratch memory of a call, in bytes.
    """

    __slots__ = ("_again", "_prepared")

    def __init__(self, prepared: Any) -> None:
        self._prepared: _core.PreparedConv = prepared  # or that of fastconv.cuda
        self._again = prepared.again()

    def __call__(self, x: Any, out: np.ndarray | None = None, *, residual: Any = None) -> np.ndarray:
        """Convolve.

        Parameters
        ----------
        x : ndarray, shape `x_shape`
            Input, of the dtype of the plan's filters.
        out : ndarray, optional
            Where to write the result: C-contiguous, of its shape and dtype, overlapping no input; `residual` itself
            may be given.
        residual : ndarray, optional
            Added to the result before the activation, as in :func:`conv2d`; shape `output_shape`.

        Returns
        -------
        ndarray, shape `output_shape`

        Raises
        ------
        ValueError
            `x`, `residual` or `out` has another shape than the plan was made for, or `out` is not fit.
        TypeError
            `x`, `residual` or `out` is no array or has another dtype.
        """
        if residual is None:
            result: np.ndarray | None = self._again(x, out)
            if result is not None:
                return result
        added = None if residual is None else arg.operand("residual", residual)
        return self._prepared(arg.operand("x", x), added, out)

    @property
    def algorithm(self) -> str:
        return self._prepared.algorithm

    @property
    def x_shape(self) -> tuple[int, ...]:
        return self._prepared.x_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self._prepared.y_shape

    @property
    def packed_bytes(self) -> int:
        return self._prepared.packed_bytes

    @property
    def workspace_bytes(self) -> int:
        return self._prepared.workspace_bytes

    def __repr__(self) -> str:
        return f"<ConvPlan {self.algorithm}: {self._prepared.problem}>"


def _plan(spatial: int, x_shape: Any, weight: Any, bias: Any, window: tuple[Any, ...]) -> ConvPlan:
    size, filters = arg.shape("x_shape", x_shape), arg.operand("weight", weight)
    offset = None if bias is None else arg.operand("bias", bias)
    prepared = arg.engine(filters).PreparedConv(f"conv{spatial}d", size, filters, offset, window)
    return ConvPlan(prepared)


def plan_conv1d(
    x_shape: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
) -> ConvPlan:
    """Prepare :func:`conv1d` for inputs of one shape; see :func:`plan_conv2d`."""
    return _plan(
        1, x_shape, weight, bias, window(1, stride, padding, dilation, groups, layout, activation, algorithm, precision)
    )


def plan_conv2d(
    x_shape: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
) -> ConvPlan:
    """Prepare :func:`conv2d` for inputs of one shape: check, choose the algorithm and pack the filters once.

    Parameters
    ----------
    x_shape : sequence of int
        Shape of the inputs to come: (N, C, H, W) or (C, H, W), or channels last with ``layout="NHWC"``.
    weight, bias, stride, padding, dilation, groups, layout, activation, algorithm, precision
        As in :func:`conv2d`.

    Returns
    -------
    ConvPlan
        ``plan(x)`` gives bit for bit what ``conv2d(x, weight, ..., algorithm=plan.algorithm)`` gives. With "auto" the
        call may choose otherwise, since it packs the filters each time: Winograd's algorithm pays later there.

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As :func:`conv2d`.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> plan = fastconv.plan_conv2d((1, 3, 32, 32), np.ones((8, 3, 3, 3), np.float32), padding=1)
    >>> plan(np.ones((1, 3, 32, 32), np.float32)).shape
    (1, 8, 32, 32)
    """
    return _plan(
        2, x_shape, weight, bias, window(2, stride, padding, dilation, groups, layout, activation, algorithm, precision)
    )


def plan_conv3d(
    x_shape: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
) -> ConvPlan:
    """Prepare :func:`conv3d` for inputs of one shape; see :func:`plan_conv2d`."""
    return _plan(
        3, x_shape, weight, bias, window(3, stride, padding, dilation, groups, layout, activation, algorithm, precision)
    )
