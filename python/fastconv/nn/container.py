"""Layers one behind the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _arguments as arg
from .activation import ReLU
from .conv import Conv1d, Conv2d, Conv3d
from .linear import Linear
from .module import Module
from .pool import MaxPool2d


class Sequential(Module):
    """Run layers one behind the other; ``torch.nn.Sequential``.

    Parameters
    ----------
    *layers : Module, or one dict of them
        Their names are "0", "1", ..., or the keys of the dict.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 25, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4225, 10))
    >>> model(np.zeros((8, 1, 28, 28), np.float32)).shape
    (8, 10)
    """

    #: Whether a layer applies the ReLU behind it.
    fuses: bool = True

    def __init__(self, *layers: Module | dict[str, Module]) -> None:
        if len(layers) == 1 and isinstance(layers[0], dict):
            named: dict[str, Any] = layers[0]
        else:
            named = {str(i): layer for i, layer in enumerate(layers)}
        for name, layer in named.items():
            if not isinstance(layer, Module):
                raise TypeError(f"layer {name} is {type(layer).__name__}: expected a fastconv.nn.Module")
            if "." in arg.text("the name of a layer", name):
                raise ValueError(f"the name of a layer={name!r}: expected a string without a dot")
        self._layers: dict[str, Module] = dict(named)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the layers, with their names."""
        yield from self._layers.items()

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers.values())

    def __getitem__(self, index: int) -> Module:
        return list(self._layers.values())[index]

    def forward(self, x: Any) -> np.ndarray:
        """Run all layers; a ReLU behind a convolution or a linear layer is applied by that layer's kernel.

        On a GPU a ``MaxPool2d(2)`` behind a ``Conv2d``, with or without a ReLU between them, is taken by the kernel of
        the convolution as well, unless the pool is in training.
        """
        layers = list(self)
        i = 0
        while i < len(layers):
            layer, *behind = layers[i : i + 3]
            taken = int(self.fuses and _fuses(layer, behind[0] if behind else None))
            activation = "relu" if taken else None
            if self.fuses and len(behind) > taken and arg.on_device(x) and _pools(layer, behind[taken]):
                x = layer.forward(x, activation, pooled=True)  # type: ignore[call-arg]
                taken += 1
            elif taken:
                x = layer.forward(x, activation=activation)  # type: ignore[call-arg]
            else:
                x = layer(x)
            for done in behind[:taken]:
                done.keep(x)  # type: ignore[attr-defined]
            i += 1 + taken
        result: np.ndarray = x
        return result

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """See :meth:`Module.backward`; without `input_grad` it ends at the first layer that has parameters."""
        layers = list(self)
        end = 0
        if not input_grad:
            end = next((i for i, layer in enumerate(layers) if layer.parameters()), len(layers))
        grad: Any = grad_output
        for i in reversed(range(end, len(layers))):
            grad = layers[i].backward(grad, input_grad=input_grad or i > end)
        return grad if input_grad else None


def _fuses(layer: Module | None, following: Module | None) -> bool:
    """Whether `following` is a plain ReLU that `layer` can apply to its result before it is stored."""
    if type(following) is not ReLU or type(layer) not in (Conv1d, Conv2d, Conv3d, Linear):
        return False
    return layer.activation is None  # type: ignore[union-attr]


def _pools(layer: Module, following: Module) -> bool:
    """Whether `following` takes the maxima that `layer` can store in place of its results."""
    if type(layer) is not Conv2d or type(following) is not MaxPool2d or following.training:
        return False
    return following.halves and following.layout == layer.layout
