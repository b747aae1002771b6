"""What a network costs, beside the fully connected network that it replaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _arguments as arg
from .container import Sequential
from .conv import _Conv
from .conv_transpose import _ConvTranspose
from .linear import Linear
from .module import Module


@dataclass(frozen=True)
class SummaryRow:
    """One layer.

    Attributes
    ----------
    name : str
        Its name in the network, as in ``state_dict``.
    layer : str
        Its class.
    input_shape, output_shape : tuple of int
        Without the batch.
    parameters : int
        The numbers that it learns.
    fully_connected : int or None
        The numbers that a fully connected layer between the same shapes would learn, ``in * out + out`` with a bias;
        None for a layer that would not be one (pooling, activation, normalisation, ...).
    """

    name: str
    layer: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    fully_connected: int | None


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order in which they run; ``str`` of it is a table.

    Attributes
    ----------
    rows : tuple of SummaryRow
    """

    rows: tuple[SummaryRow, ...]

    @property
    def parameters(self) -> int:
        """The numbers that the network learns."""
        return sum(row.parameters for row in self.rows)

    @property
    def fully_connected(self) -> int:
        """The numbers that it would learn with a fully connected layer for each convolution."""
        return sum(row.parameters if row.fully_connected is None else row.fully_connected for row in self.rows)

    def __str__(self) -> str:
        header = ("layer", "output shape", "parameters", "if fully connected")
        lines = [(f"{row.name} {row.layer}".strip(), " x ".join(map(str, row.output_shape)), f"{row.parameters:,}",
                  "" if row.fully_connected is None else f"{row.fully_connected:,}") for row in self.rows]  # fmt: skip
        total = ("total", "", f"{self.parameters:,}", f"{self.fully_connected:,}")
        widths = [max(map(len, column)) for column in zip(header, *lines, total, strict=True)]

        def text(cells: tuple[str, ...]) -> str:
            left = (cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True))
            right = (cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True))
            return "  ".join([*left, *right]).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([text(header), rule, *map(text, lines), rule, text(total)])


def summary(model: Module, input_size: Any) -> Summary:
    """Run a network once on zeros and note what each layer gives and learns.

    Parameters
    ----------
    model : Module
        Is left as it was, but for what the latest ``forward`` leaves behind.
    input_size : sequence of int
        Shape of one input, without the batch: (1, 28, 28) for grey images.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError, TypeError
        Those of the layers, where `input_size` does not fit them.

    Examples
    --------
    >>> from fastconv import nn
    >>> print(nn.summary(nn.Sequential(nn.Conv2d(1, 25, 3), nn.MaxPool2d(2)), (1, 28, 28)))
    layer        output shape  parameters  if fully connected
    ---------------------------------------------------------
    0 Conv2d     25 x 26 x 26         250          13,266,500
    1 MaxPool2d  25 x 13 x 13           0
    ---------------------------------------------------------
    total                             250          13,266,500
    """
    size = arg.shape("input_size", input_size)
    modules = list(model.named_modules())
    dtype = next((parameter.dtype for parameter in model.parameters()), np.dtype(np.float32))
    rows: list[SummaryRow] = []
    were_training = [module.training for _, module in modules]
    model.eval()
    try:
        for name, module in modules:
            if isinstance(module, Sequential):
                module.fuses = False  # a layer that another one computes on its way would not be seen
            elif "forward" not in vars(module) and not any(module.children()):
                vars(module)["forward"] = _Recorder(name, module, rows)
        model(np.zeros((1, *size), dtype))
    finally:
        for (_, module), training in zip(modules, were_training, strict=True):
            module.training = training
            vars(module).pop("forward", None)
            vars(module).pop("fuses", None)
    return Summary(tuple(rows))


class _Recorder:
    """Stands in front of a layer's ``forward`` and adds a row for each run."""

    def __init__(self, name: str, module: Module, rows: list[SummaryRow]) -> None:
        self.name, self.module, self.rows, self.forward = name, module, rows, module.forward
        self.runs = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = self.forward(x)
        # A layer that runs twice learns its numbers once.
        count = sum(parameter.size for parameter in self.module.parameters()) if self.runs == 0 else 0
        self.runs += 1
        replaced = None
        if isinstance(self.module, (_Conv, _ConvTranspose, Linear)):
            outputs = math.prod(y.shape[1:])
            replaced = math.prod(x.shape[1:]) * outputs + (outputs if self.module.bias is not None else 0)
        layer = type(self.module).__name__
        self.rows.append(SummaryRow(self.name, layer, x.shape[1:], y.shape[1:], count, replaced))
        return y
