"""Batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _arguments as arg
from ..functional import float_array
from .module import Module
from .parameter import Parameter, float_dtype


class _BatchNorm(Module):
    """What batch normalisation shares over dimensions; `ranks` are the numbers of axes an input may have."""

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    ranks: tuple[int, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        layout: str = "NCHW",
        dtype: Any = np.float32,
    ) -> None:
        self.num_features = arg.integer("num_features", num_features)
        if self.num_features < 1:
            raise ValueError(f"num_features={num_features}: expected at least 1")
        if layout not in ("NCHW", "NHWC"):
            raise ValueError(f"layout={layout!r}: expected 'NCHW' or 'NHWC'")
        self.eps, self.momentum, self.layout = float(eps), momentum, layout
        kind, shape = float_dtype(dtype), (self.num_features,)
        self.weight = Parameter(np.ones(shape, kind)) if affine else None
        self.bias = Parameter(np.zeros(shape, kind)) if affine else None
        self.running_mean = np.zeros(shape, kind) if track_running_stats else None
        self.running_var = np.ones(shape, kind) if track_running_stats else None
        self.num_batches_tracked = np.zeros((), np.int64) if track_running_stats else None

    def _axes(self, x: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes to average over, and the shape that a number per channel takes beside `x`."""
        channel = x.ndim - 1 if self.layout == "NHWC" else 1
        if x.ndim not in self.ranks or x.shape[channel] != self.num_features:
            raise ValueError(f"x has shape {x.shape}: expected {' or '.join(map(str, self.ranks))} axes with "
                             f"{self.num_features} channels on axis {channel}")  # fmt: skip
        shape = [1] * x.ndim
        shape[channel] = self.num_features
        return tuple(i for i in range(x.ndim) if i != channel), tuple(shape)

    def forward(self, x: Any) -> np.ndarray:
        """Take off the mean and divide by the deviation, of the batch or of the past, then scale and shift."""
        array = float_array("x", x)
        axes, shape = self._axes(array)
        if self.running_mean is None or self.running_var is None or self.training:
            mean, var = self._of_batch(array, axes)
            self._from_batch = True
        else:
            mean, var = self.running_mean, self.running_var
            self._from_batch = False
        self._scale = (1 / np.sqrt(var.reshape(shape) + self.eps)).astype(array.dtype, copy=False)
        self._normal = array - mean.reshape(shape).astype(array.dtype, copy=False)
        self._normal *= self._scale
        if self.weight is None or self.bias is None:
            return np.array(self._normal)
        y: np.ndarray = self._normal * self.weight.data.reshape(shape)
        y += self.bias.data.reshape(shape)
        return y

    def _of_batch(self, x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and biased variance of the batch; the running ones move towards them, the variance unbiased."""
        count = x.size // self.num_features
        if self.training and count < 2:
            raise ValueError(f"x has shape {x.shape}: expected more than one value per channel while training")
        mean, var = x.mean(axes), x.var(axes)
        if self.training and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
            for running, value in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
                running *= 1 - share
                running += share * value
        return mean, var

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        normal, scale = self._saved("_normal"), self._scale
        axes, shape = self._axes(grad_output)
        along = (grad_output * normal).sum(axes)
        total = grad_output.sum(axes)
        if self.weight is not None and self.bias is not None:
            self.weight.accumulate(along)
            self.bias.accumulate(total)
            scale = scale * self.weight.data.reshape(shape)
        if not input_grad:
            return None
        if not self._from_batch:
            unchanged: np.ndarray = grad_output * scale
            return unchanged
        # The batch's own mean and deviation answer to x: what lies along 1 and along the result does not get through.
        count = grad_output.dtype.type(grad_output.size // self.num_features)
        grad: np.ndarray = normal * (along / -count).reshape(shape)
        grad += grad_output
        grad -= (total / count).reshape(shape)
        grad *= scale
        return grad

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features, (N, C) or (N, C, L); see :class:`BatchNorm2d`."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images; ``torch.nn.BatchNorm2d``.

    Ioffe and Szegedy, Batch normalization: accelerating deep network training, 2015.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        Share of the new batch in the running mean and variance; None averages over all batches.
    affine : bool, default True
        Whether there is a weight and a bias to scale and shift with.
    track_running_stats : bool, default True
        Without them the batch's own mean and variance are taken after ``eval()`` too.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        Where the channels are.
    dtype : dtype, default float32
        Of all numbers of the layer.

    Attributes
    ----------
    weight, bias : Parameter, shape (num_features,), or None
    running_mean, running_var : ndarray, shape (num_features,), or None
        The variance is the unbiased one.
    num_batches_tracked : ndarray of int64 without axes, or None
    """

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of volumes, (N, C, D, H, W); see :class:`BatchNorm2d`."""

    ranks = (5,)
