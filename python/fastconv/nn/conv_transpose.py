"""Transposed convolution layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _arguments as arg
from .. import conv as functions
from .. import grad as gradients
from .conv import bias_gradient, channel_counts, spread
from .module import Module
from .parameter import float_dtype, generator, uniform


class _ConvTranspose(Module):
    """What the transposed convolutions of all dimensions share; `spatial` is set by the subclasses."""

    spatial: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        *,
        layout: str = "NCHW",
        algorithm: str = "auto",
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.in_channels, self.out_channels = channel_counts(in_channels, out_channels, groups)
        self.kernel_size = spread("kernel_size", kernel_size, self.spatial)
        if min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size={kernel_size!r}: expected at least 1")
        self.stride = spread("stride", stride, self.spatial)
        pads = arg.padding(padding)
        if isinstance(pads, str) or len(pads) not in (1, self.spatial):
            raise ValueError(f"padding={padding!r}: expected one number or pair, or {self.spatial}")
        self.padding = pads * self.spatial if len(pads) == 1 else pads
        self.output_padding = spread("output_padding", output_padding, self.spatial)
        self.dilation = spread("dilation", dilation, self.spatial)
        self.groups = groups
        self.layout, self.algorithm = layout, algorithm
        draw, kind = generator(rng), float_dtype(dtype)
        shape = (self.in_channels, self.out_channels // groups, *self.kernel_size)
        # torch takes the second axis for the inputs of a unit here as well.
        fan_in = math.prod(shape[1:])
        self.weight = uniform(draw, shape, fan_in, kind)
        self.bias = uniform(draw, (self.out_channels,), fan_in, kind) if bias else None

    def forward(self, x: Any) -> np.ndarray:
        """See :func:`fastconv.conv_transpose2d`."""
        self._x = arg.operand("x", x)
        bias = None if self.bias is None else self.bias.data
        transpose = getattr(functions, f"conv_transpose{self.spatial}d")
        y: np.ndarray = transpose(
            self._x, self.weight.data, bias, self.stride, self.padding, self.output_padding, self.groups,
            self.dilation, layout=self.layout, algorithm=self.algorithm,
        )  # fmt: skip
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`.

        Transposing twice gives the convolution back: the gradient with respect to x is the convolution of
        `grad_output`, and that of the weight is the one of this convolution.
        """
        x = self._saved("_x")
        if self.bias is not None:
            self.bias.accumulate(bias_gradient(grad_output, self.spatial, self.layout))
        grad, pads = self._without_output_padding(grad_output)
        window = (self.stride, pads, self.dilation, self.groups)
        options = {"layout": self.layout, "algorithm": self.algorithm}
        of_weight = getattr(gradients, f"conv{self.spatial}d_weight")
        self.weight.accumulate(of_weight(grad, self.weight.shape, x, *window, **options))
        if not input_grad:
            return None
        convolve = getattr(functions, f"conv{self.spatial}d")
        result: np.ndarray = convolve(grad, self.weight.data, None, *window, **options)
        return result

    def _without_output_padding(self, grad: np.ndarray) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
        """The image and the pads of the convolution back: `output_padding` shortens the padding at the end.

        Where it is the larger of the two the last rows are of no use to any window, and are cut off.
        """
        first = grad.ndim - self.spatial - (self.layout == "NHWC")
        kept = [slice(None)] * grad.ndim
        pads = []
        for i, ((low, high), more) in enumerate(zip(self.padding, self.output_padding, strict=True)):
            pads.append((low, max(high - more, 0)))
            if more > high:
                kept[first + i] = slice(0, grad.shape[first + i] - (more - high))
        return grad[tuple(kept)], tuple(pads)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of signals, (N, C, L); see :class:`ConvTranspose2d`."""

    spatial = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of images; ``torch.nn.ConvTranspose2d``.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image, and of the result.
    kernel_size, stride, padding, output_padding, groups, dilation, layout, algorithm
        As in :func:`fastconv.conv_transpose2d`.
    bias : bool, default True
        Whether the layer has one.
    dtype : dtype, default float32
        Of weight and bias, and so of the images.
    rng : numpy.random.Generator or int, optional
        Where the first weights are drawn from.

    Attributes
    ----------
    weight : Parameter, shape (in_channels, out_channels / groups, kernel_height, kernel_width)
    bias : Parameter, shape (out_channels,), or None
    """

    spatial = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of volumes, (N, C, D, H, W); see :class:`ConvTranspose2d`."""

    spatial = 3
