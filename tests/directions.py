"""A ConvCase run in each direction: what goes in, what the engine is asked, what the oracle says.

forward          conv{1,2,3}d             y from x, w    with the case's bias and activation
transposed       conv_transpose{1,2,3}d   x from y, w    with a bias and the activation
input_gradient   grad.conv{1,2,3}d_input  x from y, w
weight_gradient  grad.conv{1,2,3}d_weight w from x, y
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

import fastconv

from . import oracle
from .cases import BY_NAME, ConvCase, make_array

DIRECTIONS = ("forward", "transposed", "input_gradient", "weight_gradient")
Arrays = dict[str, np.ndarray]


def to_layout(array: np.ndarray, layout: str) -> np.ndarray:
    """Channels first to the layout, C-contiguous."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1) if layout == "NHWC" else array)


def from_layout(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if layout == "NHWC" else array


def operands(case: ConvCase, direction: str, integers: bool) -> Arrays:
    """The float64 arrays that the direction reads, channels first."""
    shapes: dict[str, tuple[int, ...]] = {"x": case.x_shape, "w": case.w_shape, "y": case.y_shape}
    del shapes[{"forward": "y", "weight_gradient": "w"}.get(direction, "x")]
    if case.bias and direction in ("forward", "transposed"):
        shapes["bias"] = (case.out_c if direction == "forward" else case.in_c,)
    return {role: make_array(case, role, shape, integers) for role, shape in shapes.items()}


def _sums(case: ConvCase, direction: str, arrays: Arrays) -> np.ndarray:
    window = (case.stride, case.padding, case.dilation, case.groups)
    bias = arrays.get("bias")
    if direction == "forward":
        return oracle.forward(arrays["x"], arrays["w"], bias, *window)
    if direction == "weight_gradient":
        return oracle.weight_gradient(arrays["x"], case.kernel, arrays["y"], *window)
    return oracle.input_gradient(case.size, arrays["w"], arrays["y"], *window, bias=bias)


def terms(case: ConvCase, direction: str) -> int:
    """Length of the longest sum."""
    if direction == "forward":
        return case.in_c // case.groups * int(np.prod(case.kernel))
    if direction == "weight_gradient":
        return case.batch * int(np.prod(case.out_size))
    return case.out_c // case.groups * int(np.prod(case.kernel))


@dataclass(frozen=True)
class Question:
    """One call with its answer: `expected`, the same before the activation, and the sum of the absolute values."""

    case: ConvCase
    direction: str
    arrays: Arrays
    linear: np.ndarray
    expected: np.ndarray
    magnitude: np.ndarray

    @property
    def terms(self) -> int:
        return terms(self.case, self.direction)

    def result_shape(self, layout: str) -> tuple[int, ...]:
        shape = self.expected.shape
        return shape if layout == "NCHW" or self.direction == "weight_gradient" else (shape[0], *shape[2:], shape[1])

    def ask(self, dtype: type, layout: str, algorithm: str, out: np.ndarray | None = None) -> np.ndarray:
        """Call the engine; the result has the channels first again. `out` starts as NaN: every element is written."""
        if out is None:
            out = np.full(self.result_shape(layout), np.nan, dtype)
        arrays = {
            role: array.astype(dtype) if role in ("w", "bias") else to_layout(array.astype(dtype), layout)
            for role, array in self.arrays.items()
        }
        result = call(self.case, self.direction, arrays, layout=layout, algorithm=algorithm, out=out)
        assert result is out
        return result if self.direction == "weight_gradient" else from_layout(result, layout)


def call(case: ConvCase, direction: str, arrays: Arrays, **more: Any) -> np.ndarray:
    """The public function of the direction on arrays that are in its layout already."""
    window = dict(case.window)
    function: Callable[..., np.ndarray]
    axes, layout = case.axes, more.get("layout", "NCHW")
    if direction == "forward":
        function = getattr(fastconv, f"conv{axes}d")
        return function(arrays["x"], arrays["w"], arrays.get("bias"), activation=case.activation, **window, **more)
    if direction == "transposed":
        function = getattr(fastconv, f"conv_transpose{axes}d")
        window["output_padding"] = case.output_padding
        return function(arrays["y"], arrays["w"], arrays.get("bias"), activation=case.activation, **window, **more)
    if direction == "input_gradient":
        batch = arrays["y"].shape[0]
        shape = (batch, case.in_c, *case.size) if layout == "NCHW" else (batch, *case.size, case.in_c)
        function = getattr(fastconv.grad, f"conv{axes}d_input")
        return function(shape, arrays["w"], arrays["y"], **window, **more)
    function = getattr(fastconv.grad, f"conv{axes}d_weight")
    return function(arrays["x"], case.w_shape, arrays["y"], **window, **more)


@cache
def question(name: str, direction: str, integers: bool) -> Question:
    """The question for a named case; computed once in a test run."""
    case = BY_NAME[name]
    return answered(case, direction, operands(case, direction, integers))


def answered(case: ConvCase, direction: str, arrays: Arrays) -> Question:
    """The question about these float64 arrays."""
    linear = expected = _sums(case, direction, arrays)
    if direction in ("forward", "transposed"):
        expected = oracle.activated(linear, case.activation)
    magnitude = _sums(case, direction, {role: np.abs(array) for role, array in arrays.items()})
    for array in (*arrays.values(), linear, expected, magnitude):
        array.flags.writeable = False
    return Question(case, direction, arrays, linear, expected, magnitude)


def with_activation(case: ConvCase, activation: str | None) -> ConvCase:
    return replace(case, activation=activation)


def with_batch(case: ConvCase, batch: int) -> ConvCase:
    return replace(case, batch=batch)
