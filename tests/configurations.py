"""Random configurations of the public functions, each computed by fastconv and by PyTorch; test_torch.py compares.

A family covers one or several functions (COVERS). A configuration yields pairs (what, got, expected); indices are
pairs as well. Sizes are drawn so that everything is legal for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastconv

Pairs = Iterator[tuple[str, np.ndarray, Any]]


class Draw:
    """The random numbers of one configuration; the same seed gives the same one."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.axes = int(self.rng.choice((1, 2, 2, 2, 3)))
        self.dtype = np.dtype(self.rng.choice(("f4", "f8")))
        self.batch = self.number(1, 4)
        self.story: list[str] = [f"seed={seed} {self.dtype}"]

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, max(low, high) + 1))

    def each(self, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.number(low, high) for _ in range(self.axes))

    def yes(self) -> bool:
        return bool(self.rng.integers(2))

    def array(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def tell(self, **what: Any) -> dict[str, Any]:
        """Remember the arguments for the message of a failure, and return them."""
        self.story += [f"{key}={value}" for key, value in what.items()]
        return what

    def sizes(self, kernel: tuple[int, ...], dilation: tuple[int, ...], padding: tuple[int, ...]) -> tuple[int, ...]:
        """A size for each axis in which the window fits at least once."""
        more = 22 if self.axes < 3 else 6
        spans = [(k - 1) * d + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
        return tuple(self.number(max(1, span), max(1, span) + more) for span in spans)


def _torch() -> tuple[Any, Any]:
    import torch

    return torch.nn.functional, torch.from_numpy


def _convolution(draw: Draw) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    kind = draw.rng.choice(("plain", "plain", "grouped", "depthwise", "pointwise"))
    top = 40 if draw.axes < 3 else 8
    groups = draw.number(2, 4) if kind == "grouped" else 1
    in_c, out_c = (groups * draw.number(1, top // groups) for _ in range(2))
    if kind == "depthwise":
        groups, out_c = in_c, in_c * draw.number(1, 2)
    kernel = (1,) * draw.axes if kind == "pointwise" else draw.each(1, 5 if draw.axes < 3 else 3)
    window = draw.tell(stride=draw.each(1, 3), padding=draw.each(0, 3), dilation=draw.each(1, 3), groups=groups)
    x = draw.array(draw.batch, in_c, *draw.sizes(kernel, window["dilation"], window["padding"]))
    w = draw.array(out_c, in_c // groups, *kernel)
    draw.tell(x=x.shape, w=w.shape)
    return x, w, window


def conv(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x, w, window = _convolution(draw)
    bias = draw.array(w.shape[0]) if draw.yes() else None
    name = f"conv{draw.axes}d"
    expected = getattr(functional, name)(tensor(x), tensor(w), None if bias is None else tensor(bias), **window)
    yield name, getattr(fastconv, name)(x, w, bias, **window), expected


def conv_transpose(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x, w, window = _convolution(draw)
    bounds = zip(window["stride"], window["dilation"], strict=True)
    window |= draw.tell(output_padding=tuple(draw.number(0, max(pair) - 1) for pair in bounds))
    # As large as x and the padding: what is left of it after the padding is cut off is never empty.
    size = (n + 2 * p for n, p in zip(x.shape[2:], window["padding"], strict=True))
    y = draw.array(draw.batch, w.shape[0], *size)
    bias = draw.array(x.shape[1]) if draw.yes() else None
    name = f"conv_transpose{draw.axes}d"
    expected = getattr(functional, name)(tensor(y), tensor(w), None if bias is None else tensor(bias), **window)
    yield name, getattr(fastconv, name)(y, w, bias, **window), expected


def conv_gradients(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x, w, window = _convolution(draw)
    x_leaf, w_leaf = tensor(x).requires_grad_(), tensor(w).requires_grad_()
    result = getattr(functional, f"conv{draw.axes}d")(x_leaf, w_leaf, **window)
    y = draw.array(*result.shape)
    result.backward(tensor(y))
    name = f"conv{draw.axes}d"
    yield f"grad.{name}_input", getattr(fastconv.grad, f"{name}_input")(x.shape, w, y, **window), x_leaf.grad
    yield f"grad.{name}_weight", getattr(fastconv.grad, f"{name}_weight")(x, w.shape, y, **window), w_leaf.grad


def _pool_window(draw: Draw) -> tuple[np.ndarray, dict[str, Any]]:
    kernel = draw.each(1, 4)
    window = draw.tell(
        kernel_size=kernel,
        stride=None if draw.number(0, 3) == 0 else draw.each(1, 4),
        padding=tuple(draw.number(0, k // 2) for k in kernel),
        ceil_mode=draw.yes(),
    )
    # PyTorch wants some windows to fit without the padding.
    x = draw.array(draw.batch, draw.number(1, 20), *draw.sizes(kernel, (1,) * draw.axes, (0,) * draw.axes))
    draw.tell(x=x.shape)
    return x, window


def max_pool(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x, window = _pool_window(draw)
    if draw.yes():
        x = np.round(x)  # ties: the first of equals wins
    window["dilation"] = tuple(  # no further than the input, or a window could lie in the padding altogether
        draw.number(1, min(n, (n + 2 * p - 1) // (k - 1)) if k > 1 else 2)
        for n, p, k in zip(x.shape[2:], window["padding"], window["kernel_size"], strict=True)
    )
    draw.tell(dilation=window["dilation"])
    name = f"max_pool{draw.axes}d"
    leaf = tensor(x).requires_grad_()
    expected, expected_indices = getattr(functional, name)(leaf, return_indices=True, **window)
    got, indices = getattr(fastconv, name)(x, return_indices=True, **window)
    yield name, got, expected
    yield f"indices of {name}", indices, expected_indices
    y = draw.array(*expected.shape)
    expected.backward(tensor(y))
    yield f"grad.{name}", getattr(fastconv.grad, name)(x.shape, y, indices), leaf.grad


def avg_pool(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x, window = _pool_window(draw)
    window |= draw.tell(count_include_pad=draw.yes())
    if draw.axes > 1 and draw.number(0, 3) == 0:
        window |= draw.tell(divisor_override=draw.number(1, 9))
    name = f"avg_pool{draw.axes}d"
    leaf = tensor(x).requires_grad_()
    expected = getattr(functional, name)(leaf, **window)
    yield name, getattr(fastconv, name)(x, **window), expected
    y = draw.array(*expected.shape)
    expected.backward(tensor(y))
    yield f"grad.{name}", getattr(fastconv.grad, name)(x.shape, y, **window), leaf.grad


def adaptive_pool(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x = draw.array(draw.batch, draw.number(1, 12), *draw.each(1, 12))
    size = draw.tell(x=x.shape, output_size=draw.each(1, 12))["output_size"]
    for kind in ("avg", "max"):
        name = f"adaptive_{kind}_pool{draw.axes}d"
        leaf = tensor(x).requires_grad_()
        indices = {"return_indices": True} if kind == "max" else {}
        expected, got = getattr(functional, name)(leaf, size, **indices), getattr(fastconv, name)(x, size, **indices)
        more: tuple[np.ndarray, ...] = ()
        if kind == "max":
            yield f"indices of {name}", got[1], expected[1]
            (expected, _), (got, positions) = expected, got
            more = (positions,)
        yield name, got, expected
        y = draw.array(*expected.shape)
        expected.backward(tensor(y))
        yield f"grad.{name}", getattr(fastconv.grad, name)(x.shape, y, *more), leaf.grad


def max_unpool(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    kernel = draw.each(1, 3)  # windows side by side: no two maxima at one place
    x = draw.array(draw.batch, draw.number(1, 8), *(k * draw.number(1, 5) for k in kernel))
    draw.tell(x=x.shape, kernel=kernel)
    pooled, indices = getattr(functional, f"max_pool{draw.axes}d")(tensor(x), kernel, return_indices=True)
    name = f"max_unpool{draw.axes}d"
    expected = getattr(functional, name)(pooled, indices, kernel)
    yield name, getattr(fastconv, name)(pooled.numpy(), indices.numpy(), kernel), expected


def dense(draw: Draw) -> Pairs:
    """linear, and what stands around it in a network."""
    functional, tensor = _torch()
    x, w = draw.array(draw.batch, draw.number(1, 300)), draw.number(1, 120)
    weight, bias = draw.array(w, x.shape[1]), draw.array(w) if draw.yes() else None
    draw.tell(x=x.shape, weight=weight.shape)
    expected = functional.linear(tensor(x), tensor(weight), None if bias is None else tensor(bias))
    yield "linear", fastconv.linear(x, weight, bias), expected
    yield "relu", fastconv.relu(x), functional.relu(tensor(x))
    for dim in (0, -1):
        yield "softmax", fastconv.softmax(10 * x, dim), functional.softmax(10 * tensor(x), dim)
        yield "log_softmax", fastconv.log_softmax(10 * x, dim), functional.log_softmax(10 * tensor(x), dim)


def pad_and_flatten(draw: Draw) -> Pairs:
    functional, tensor = _torch()
    x = draw.array(draw.batch, draw.number(1, 4), *draw.each(4, 9))
    mode = str(draw.rng.choice(("constant", "reflect", "replicate", "circular")))
    pads = tuple(draw.number(0, 3) for _ in range(2 * draw.axes))
    draw.tell(x=x.shape, mode=mode, pads=pads)
    yield "pad", fastconv.pad(x, pads, mode=mode), functional.pad(tensor(x), pads, mode=mode)
    start = draw.number(0, x.ndim - 1)
    end = draw.number(start, x.ndim - 1)
    yield "flatten", fastconv.flatten(x, start, end), tensor(x).flatten(start, end)


Family = Callable[[Draw], Pairs]
# Which public functions a family covers: every function that is also one of torch.nn.functional must be named.
COVERS: dict[Family, tuple[str, ...]] = {
    conv: ("conv1d", "conv2d", "conv3d"),
    conv_transpose: ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    conv_gradients: ("conv1d", "conv2d", "conv3d"),
    max_pool: ("max_pool1d", "max_pool2d", "max_pool3d"),
    avg_pool: ("avg_pool1d", "avg_pool2d", "avg_pool3d"),
    adaptive_pool: tuple(f"adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2, 3)),
    max_unpool: ("max_unpool1d", "max_unpool2d", "max_unpool3d"),
    dense: ("linear", "relu", "softmax", "log_softmax"),
    pad_and_flatten: ("pad", "flatten"),
}
FAMILIES: tuple[Family, ...] = tuple(f for f, names in COVERS.items() if all(hasattr(fastconv, n) for n in names))
