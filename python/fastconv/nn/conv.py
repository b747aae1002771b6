"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _arguments as arg
from .. import conv as functions
from .. import grad as gradients
from ..padding import MODES, pad_axes, pad_axes_gradient
from .activation import activation_gradient
from .module import Module
from .parameter import float_dtype, generator, uniform


def spread(name: str, value: Any, spatial: int) -> tuple[int, ...]:
    """Return one number per axis from one integer or as many as there are axes."""
    numbers = arg.integers(name, value)
    if len(numbers) not in (1, spatial):
        raise ValueError(f"{name}={value!r}: expected one number or {spatial}")
    return numbers * spatial if len(numbers) == 1 else numbers


def channel_counts(in_channels: Any, out_channels: Any, groups: Any) -> tuple[int, int]:
    """Return both counts once they are known to be positive multiples of `groups`."""
    counts = [arg.integer("in_channels", in_channels), arg.integer("out_channels", out_channels)]
    divisor = arg.integer("groups", groups)
    for name, count in (("groups", divisor), ("in_channels", counts[0]), ("out_channels", counts[1])):
        if count < 1:
            raise ValueError(f"{name}={count}: expected at least 1")
        if count % divisor:
            raise ValueError(f"{name}={count}: expected a multiple of groups={divisor}")
    return counts[0], counts[1]


def bias_gradient(grad_output: np.ndarray, spatial: int, layout: str) -> np.ndarray:
    """Sum over batch and pixels, in an order of NumPy's that depends on nothing but the shape."""
    if layout == "NHWC":
        of_pixels: np.ndarray = grad_output.reshape(-1, grad_output.shape[-1]).sum(0)
        return of_pixels
    channels = grad_output.shape[-spatial - 1]
    # The pixels first: they are contiguous, and einsum adds them up by vectors, which sum does not.
    rows = np.einsum("ncp->nc", grad_output.reshape(-1, channels, math.prod(grad_output.shape[-spatial:])))
    return np.asarray(rows.sum(0))


class _Conv(Module):
    """What the convolutions of all dimensions share; `spatial` is set by the subclasses."""

    spatial: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        layout: str = "NCHW",
        activation: str | None = None,
        algorithm: str = "auto",
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.in_channels, self.out_channels = channel_counts(in_channels, out_channels, groups)
        self.kernel_size = spread("kernel_size", kernel_size, self.spatial)
        if min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size={kernel_size!r}: expected at least 1")
        self.stride = spread("stride", stride, self.spatial)
        self.padding = arg.padding(padding)
        self.dilation = spread("dilation", dilation, self.spatial)
        self.groups = groups
        if padding_mode != "zeros" and padding_mode not in MODES[1:]:
            raise ValueError(f"padding_mode={padding_mode!r}: expected one of zeros, {', '.join(MODES[1:])}")
        self.padding_mode = padding_mode
        if activation not in (None, "relu", "relu6"):
            raise ValueError(f"activation={activation!r}: expected None, 'relu' or 'relu6'")
        self.layout, self.activation, self.algorithm = layout, activation, algorithm
        self._pads = self._explicit_pads()
        draw, kind = generator(rng), float_dtype(dtype)
        shape = (self.out_channels, self.in_channels // groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        self.weight = uniform(draw, shape, fan_in, kind)
        self.bias = uniform(draw, shape[:1], fan_in, kind) if bias else None

    def _explicit_pads(self) -> tuple[tuple[int, int], ...] | None:
        """Pads per axis for the modes that need an image padded beforehand; None where the engine pads by itself."""
        if self.padding_mode == "zeros" or self.padding == "valid":
            return None
        if self.padding == "same":
            if max(self.stride) > 1:
                raise ValueError(f"padding='same' with padding_mode={self.padding_mode!r} and stride={self.stride}: "
                                 "expected stride 1, or padding in numbers")  # fmt: skip
            total = [dilation * (kernel - 1) for dilation, kernel in zip(self.dilation, self.kernel_size, strict=True)]
            return tuple((pixels // 2, pixels - pixels // 2) for pixels in total)
        if isinstance(self.padding, str) or len(self.padding) not in (1, self.spatial):
            raise ValueError(f"padding={self.padding!r}: expected 'same', 'valid', or numbers for {self.spatial} axes")
        if min(min(pair) for pair in self.padding) < 0:
            raise ValueError(f"padding={self.padding!r}: expected at least 0")
        return self.padding * self.spatial if len(self.padding) == 1 else self.padding

    def _padded(self, x: Any) -> dict[int, tuple[int, int]]:
        """Axis of `x` -> its pads."""
        first = len(x.shape) - self.spatial - (self.layout == "NHWC")
        return {first + i: pair for i, pair in enumerate(self._pads or ())}

    def _window(self) -> tuple[Any, ...]:
        """The positional arguments that forward and gradients share."""
        return (self.stride, self.padding if self._pads is None else 0, self.dilation, self.groups)

    def forward(self, x: Any, activation: str | None = None, pooled: bool = False) -> np.ndarray:
        """Convolve; `activation` here takes the place of the layer's own None.

        `pooled`, for images on a GPU: also take the maxima of 2 x 2 windows with stride 2, in the same kernel where one
        can.
        """
        activation = activation or self.activation
        image = arg.operand("x", x)
        self._input_size = image.shape
        if self._pads is not None:
            if len(image.shape) not in (self.spatial + 1, self.spatial + 2):
                raise ValueError(f"x has shape {image.shape}: expected {self.spatial + 2} or {self.spatial + 1} axes")
            image = pad_axes(image, self._padded(image), self.padding_mode)
        self._x = image
        bias = None if self.bias is None else self.bias.data
        if pooled:
            return functions.pooled_conv2d(
                image, self.weight.data, bias, *self._window(), self.layout, activation, self.algorithm
            )
        convolve = getattr(functions, f"conv{self.spatial}d")
        y: np.ndarray = convolve(
            image, self.weight.data, bias, *self._window(),
            layout=self.layout, activation=activation, algorithm=self.algorithm,
        )  # fmt: skip
        self._y = y if self.activation else None
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        x = self._saved("_x")
        grad = activation_gradient(self.activation, self._y, grad_output)
        options = {"layout": self.layout, "algorithm": self.algorithm}
        of_weight = getattr(gradients, f"conv{self.spatial}d_weight")
        self.weight.accumulate(of_weight(x, self.weight.shape, grad, *self._window(), **options))
        if self.bias is not None:
            self.bias.accumulate(bias_gradient(grad, self.spatial, self.layout))
        if not input_grad:
            return None
        of_input = getattr(gradients, f"conv{self.spatial}d_input")
        result: np.ndarray = of_input(x.shape, self.weight.data, grad, *self._window(), **options)
        if self._pads is None:
            return result
        return pad_axes_gradient(result, self._input_size, self._padded(result), self.padding_mode)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        shown = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        for name, usual in (("padding", ((0, 0),)), ("dilation", (1,) * self.spatial), ("groups", 1),
                            ("padding_mode", "zeros"), ("layout", "NCHW"), ("activation", None)):  # fmt: skip
            if getattr(self, name) != usual:
                shown.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(shown + ([] if self.bias is not None else ["bias=False"]))


class Conv1d(_Conv):
    """Convolution of signals, (N, C, L); see :class:`Conv2d`."""

    spatial = 1


class Conv2d(_Conv):
    """Convolution of images; ``torch.nn.Conv2d``.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image, and filters.
    kernel_size, stride, padding, dilation, groups
        As in :func:`fastconv.conv2d`.
    bias : bool, default True
        Whether the layer has one.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What stands in the padding; see :func:`fastconv.pad`.
    layout, activation, algorithm
        As in :func:`fastconv.conv2d`; an activation needs no layer of its own and no pass over memory.
    dtype : dtype, default float32
        Of weight and bias, and so of the images.
    rng : numpy.random.Generator or int, optional
        Where the first weights are drawn from: U(-b, b) with b = 1 / sqrt(C / groups * kernel_height * kernel_width).

    Attributes
    ----------
    weight : Parameter, shape (out_channels, in_channels / groups, kernel_height, kernel_width)
    bias : Parameter, shape (out_channels,), or None
    """

    spatial = 2


class Conv3d(_Conv):
    """Convolution of volumes, (N, C, D, H, W); see :class:`Conv2d`."""

    spatial = 3
