"""ReLU as a layer, and the gradient of the activations that the engine fuses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import functional
from .module import Module


def activation_gradient(activation: str | None, y: np.ndarray | None, grad_output: np.ndarray) -> np.ndarray:
    """Gradient with respect to what the activation was applied to, from its result `y`.

    Where y is not above 0 nothing gets through, nor where relu6 has cut at 6; NaN lets it through, as in torch.
    """
    if activation is None or y is None:
        return grad_output
    if grad_output.shape != y.shape:
        raise ValueError(f"grad_output has shape {grad_output.shape}: expected {y.shape}, the shape of the output")
    closed = y <= 0
    if activation == "relu6":
        closed |= y >= 6
    grad = grad_output.copy()
    np.copyto(grad, 0, where=closed)
    return grad


class ReLU(Module):
    """Replace what is below zero by zero; ``torch.nn.ReLU``.

    Behind a convolution or a linear layer of a :class:`Sequential` it costs no pass of its own.
    """

    def forward(self, x: Any) -> np.ndarray:
        """See :func:`fastconv.relu`."""
        self._y = functional.relu(x)
        return self._y

    def keep(self, y: np.ndarray) -> None:
        """Remember a result that the layer before has computed on its way."""
        self._y = y

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`."""
        return activation_gradient("relu", self._saved("_y"), grad_output) if input_grad else None
