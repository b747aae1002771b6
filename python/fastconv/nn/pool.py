"""Pooling layers: no parameters, and windows that mostly do not overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _arguments as arg
from .. import grad as gradients
from .. import pool as functions
from .module import Module


def _is(given: Any, number: int) -> bool:
    """Whether an argument, as the user spelled it, is plainly `number` along both axes."""
    items = given if type(given) is tuple and len(given) == 2 else (given,)
    return all(type(item) is int and item == number for item in items)


class _Pool(Module):
    """What the poolings share; `name` is the function, `_arguments` are its arguments behind x."""

    name: str
    layout: str
    _arguments: tuple[Any, ...]

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return ", ".join(map(repr, self._arguments[:2])).removesuffix(", None")


class _MaxPool(_Pool):
    _x: Any
    _indices: np.ndarray | None

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        *,
        layout: str = "NCHW",
    ) -> None:
        self._arguments = (kernel_size, stride, padding, dilation, ceil_mode)
        self.layout = layout

    @property
    def halves(self) -> bool:
        """Whether the windows are 2 along every axis, side by side from the beginning."""
        size, stride, padding, dilation, ceil_mode = self._arguments
        side_by_side = _is(size, 2) and (stride is None or _is(stride, 2))
        return side_by_side and _is(padding, 0) and _is(dilation, 1) and ceil_mode is False

    def keep(self, y: np.ndarray) -> None:
        """Take note that the layer before has pooled as well; `y`, on a GPU, is for the refusal of ``backward``."""
        self._x, self._input_size, self._indices = y, y.shape, None

    def forward(self, x: Any) -> np.ndarray:
        """See :func:`fastconv.max_pool2d`."""
        image = arg.operand("x", x)
        self._x, self._input_size = image, image.shape
        self._indices = None
        y: np.ndarray
        if not self.training:
            # Where the maxima are is written down only for a backward pass, which is not to be expected now.
            y = getattr(functions, self.name)(image, *self._arguments, layout=self.layout)
            return y
        y, self._indices = getattr(functions, self.name)(image, *self._arguments, True, layout=self.layout)
        # The indices say all that a backward pass needs: while caches still hold the image, its memory is free for the
        # layers behind. One on a GPU stays, for the refusal.
        if isinstance(image, np.ndarray):
            self._x = None
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        x = self._saved("_x")
        if not input_grad:
            return None
        if self._indices is None:
            _, self._indices = getattr(functions, self.name)(x, *self._arguments, True, layout=self.layout)
        of_input = getattr(gradients, self.name)
        result: np.ndarray = of_input(self._input_size, grad_output, self._indices, layout=self.layout)
        return result


class _AvgPool(_Pool):
    def forward(self, x: Any) -> np.ndarray:
        """See :func:`fastconv.avg_pool2d`."""
        image = arg.operand("x", x)
        y: np.ndarray = getattr(functions, self.name)(image, *self._arguments, layout=self.layout)
        self._input_size = image.shape
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        size = self._saved("_input_size")
        if not input_grad:
            return None
        of_input = getattr(gradients, self.name)
        result: np.ndarray = of_input(size, grad_output, *self._backward_arguments(), layout=self.layout)
        return result

    def _backward_arguments(self) -> tuple[Any, ...]:
        return self._arguments


class _AdaptiveAvgPool(_AvgPool):
    def __init__(self, output_size: Any, *, layout: str = "NCHW") -> None:
        self._arguments = (output_size,)
        self.layout = layout

    def _backward_arguments(self) -> tuple[Any, ...]:
        return ()  # grad_output has the output size


class MaxPool1d(_MaxPool):
    """Maximum of each window of signals; see :class:`MaxPool2d`."""

    name = "max_pool1d"


class MaxPool2d(_MaxPool):
    """Maximum of each window of images; ``torch.nn.MaxPool2d``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode, layout
        As in :func:`fastconv.max_pool2d`.
    """

    name = "max_pool2d"


class MaxPool3d(_MaxPool):
    """Maximum of each window of volumes; see :class:`MaxPool2d`."""

    name = "max_pool3d"


class AvgPool1d(_AvgPool):
    """Average of each window of signals; see :class:`AvgPool2d`."""

    name = "avg_pool1d"

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        layout: str = "NCHW",
    ) -> None:
        self._arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.layout = layout


class AvgPool2d(_AvgPool):
    """Average of each window of images; ``torch.nn.AvgPool2d``.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout
        As in :func:`fastconv.avg_pool2d`.
    """

    name = "avg_pool2d"

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        layout: str = "NCHW",
    ) -> None:
        self._arguments = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        self.layout = layout


class AvgPool3d(AvgPool2d):
    """Average of each window of volumes; see :class:`AvgPool2d`."""

    name = "avg_pool3d"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Average of as many windows as the output is to have; see :class:`AdaptiveAvgPool2d`."""

    name = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Average of as many windows as the output is to have; ``torch.nn.AdaptiveAvgPool2d``.

    Parameters
    ----------
    output_size, layout
        As in :func:`fastconv.adaptive_avg_pool2d`.
    """

    name = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Average of as many windows as the output is to have; see :class:`AdaptiveAvgPool2d`."""

    name = "adaptive_avg_pool3d"
