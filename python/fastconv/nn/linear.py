"""Flatten, the fully connected layer behind it, and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _arguments as arg
from .. import functional
from ..grad import conv2d_input, conv2d_weight
from .activation import activation_gradient
from .module import Module
from .parameter import float_dtype, generator, uniform


class Flatten(Module):
    """Make one axis out of several, by default out of all but the batch; ``torch.nn.Flatten``.

    Parameters
    ----------
    start_dim, end_dim : int, default 1 and -1
        As in :func:`fastconv.flatten`.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = arg.integer("start_dim", start_dim), arg.integer("end_dim", end_dim)

    def forward(self, x: Any) -> np.ndarray:
        """See :func:`fastconv.flatten`."""
        array = arg.operand("x", x)
        y = functional.flatten(array, self.start_dim, self.end_dim)
        self._input_size = array.shape
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        size: tuple[int, ...] = self._saved("_input_size")
        return grad_output.reshape(size) if input_grad else None

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Linear(Module):
    """Fully connected layer; ``torch.nn.Linear``.

    Parameters
    ----------
    in_features, out_features : int
        Numbers that come in, and units.
    bias : bool, default True
        Whether the layer has one.
    activation, algorithm
        As in :func:`fastconv.linear`.
    dtype : dtype, default float32
        Of weight and bias, and so of the input.
    rng : numpy.random.Generator or int, optional
        Where the first weights are drawn from: U(-b, b) with b = 1 / sqrt(in_features).

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        activation: str | None = None,
        algorithm: str = "auto",
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.in_features = arg.integer("in_features", in_features)
        self.out_features = arg.integer("out_features", out_features)
        for name in ("in_features", "out_features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1")
        if activation not in (None, "relu", "relu6"):
            raise ValueError(f"activation={activation!r}: expected None, 'relu' or 'relu6'")
        self.activation, self.algorithm = activation, algorithm
        draw, kind = generator(rng), float_dtype(dtype)
        self.weight = uniform(draw, (self.out_features, self.in_features), self.in_features, kind)
        self.bias = uniform(draw, (self.out_features,), self.in_features, kind) if bias else None

    def forward(self, x: Any, activation: str | None = None) -> np.ndarray:
        """Multiply and add; `activation` here takes the place of the layer's own None."""
        activation = activation or self.activation
        self._x = arg.operand("x", x)
        bias = None if self.bias is None else self.bias.data
        y = functional.linear(self._x, self.weight.data, bias, activation=activation, algorithm=self.algorithm)
        self._y = y if self.activation else None
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`.

        Both products run as convolutions whose pixels are the rows, like the forward pass.
        """
        x = self._saved("_x")
        expected = x.shape[:-1] + (self.out_features,)
        if grad_output.shape != expected:
            raise ValueError(f"grad_output has shape {grad_output.shape}: expected {expected}")
        grad = activation_gradient(self.activation, self._y, grad_output).reshape(-1, self.out_features)
        rows = x.reshape(-1, self.in_features)
        if self.bias is not None:
            self.bias.accumulate(grad.sum(0))
        if not len(rows):
            self.weight.accumulate(np.zeros_like(self.weight.data))
            return np.zeros_like(x) if input_grad else None
        pixels = grad.reshape(1, 1, -1, self.out_features)
        size = (self.out_features, self.in_features, 1, 1)
        images = rows.reshape(1, 1, -1, self.in_features)
        of_weight = conv2d_weight(images, size, pixels, layout="NHWC", algorithm=self.algorithm)
        self.weight.accumulate(of_weight.reshape(self.weight.shape))
        if not input_grad:
            return None
        filters = self.weight.data.reshape(size)
        of_input = conv2d_input(images.shape, filters, pixels, layout="NHWC", algorithm=self.algorithm)
        return of_input.reshape(x.shape)

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        more = "" if self.activation is None else f", activation={self.activation!r}"
        return f"{self.in_features}, {self.out_features}{'' if self.bias is not None else ', bias=False'}{more}"


class Dropout(Module):
    """While training, zero each number with probability `p` and scale the rest by 1 / (1 - p); ``torch.nn.Dropout``.

    Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.

    Parameters
    ----------
    p : float, default 0.5
        0 to 1.
    rng : numpy.random.Generator or int, optional
        Where the choices come from; with a seed every run makes the same ones.
    """

    def __init__(self, p: float = 0.5, *, rng: Any = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p={p!r}: expected 0 to 1")
        self.p = float(p)
        self._rng = generator(rng)

    def forward(self, x: Any) -> np.ndarray:
        """Drop, or give x itself when not training."""
        self._scale: np.ndarray | None = None
        if not self.training or self.p == 0:
            unchanged: np.ndarray = x if arg.on_device(x) else functional.float_array("x", x)
            return unchanged
        array = functional.float_array("x", x)
        kept = self._rng.random(array.shape, np.float32) >= self.p
        self._scale = kept * array.dtype.type(1 / (1 - self.p) if self.p < 1 else 0)
        y: np.ndarray = array * self._scale
        return y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        scale = self._saved("_scale")
        if not input_grad:
            return None
        return grad_output if scale is None else grad_output * scale

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return f"p={self.p}"
