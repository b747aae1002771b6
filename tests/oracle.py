"""The definition of convolution and of its gradients in float64 NumPy, written differently from the kernels.

Nothing here is shared with the engine, least of all shapes: the forward convolution takes strided windows of a
padded array and contracts them, the transposed ones scatter tap by tap into a padded array and crop it. Arrays have
the channels first; `w` is (out_c, in_c / groups, *kernel).

`by_selection` is a third way, through one 0/1 matrix per axis: it never pads, so that it also does the absurd strides
and paddings of the error tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

Pair = tuple[int, int]
Ints = Sequence[int]


def padded(x: np.ndarray, padding: Sequence[Pair]) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, 0), *padding])


def grouped(array: np.ndarray, axis: int, groups: int) -> np.ndarray:
    """Split the channel axis into (groups, channels of a group)."""
    shape = (*array.shape[:axis], groups, array.shape[axis] // groups, *array.shape[axis + 1 :])
    return array.reshape(shape)


def activated(y: np.ndarray, activation: str | None) -> np.ndarray:
    if activation is None:
        return y
    if activation == "silu":
        with np.errstate(over="ignore"):
            return y / (1 + np.exp(-y))
    if activation == "hardswish":
        return y * np.clip(y + 3, 0, 6) / 6
    return np.clip(y, 0, 6 if activation == "relu6" else None)


def _plus_bias(y: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return y if bias is None else y + bias.reshape(1, -1, *(1,) * (y.ndim - 2))


def forward(
    x: np.ndarray,
    w: np.ndarray,
    bias: np.ndarray | None,
    stride: Ints,
    padding: Sequence[Pair],
    dilation: Ints,
    groups: int,
) -> np.ndarray:
    """Convolution, without activation."""
    axes = x.ndim - 2
    spatial = tuple(range(2, 2 + axes))
    spans = tuple((k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded(x, padding), spans, axis=spatial)
    every = (slice(None), slice(None))
    windows = windows[
        every + tuple(slice(None, None, s) for s in stride) + tuple(slice(None, None, d) for d in dilation)
    ]
    windows, filters = grouped(windows, 1, groups), grouped(w, 0, groups)
    # n group channel place... tap...  with  group out channel tap...
    places, taps = "hij"[:axes], "pqr"[:axes]
    y = np.einsum(f"ngc{places}{taps},gkc{taps}->ngk{places}", windows, filters, optimize=True)
    return _plus_bias(y.reshape(x.shape[0], w.shape[0], *y.shape[3:]), bias)


def _taps(kernel: Ints, stride: Ints, dilation: Ints, out: Ints) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each tap with the slice of the padded input that it meets, one place per output."""
    for tap in product(*map(range, kernel)):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, s, o in zip(tap, dilation, stride, out, strict=True)
            ),
        )


def input_gradient(
    size: Ints,
    w: np.ndarray,
    y: np.ndarray,
    stride: Ints,
    padding: Sequence[Pair],
    dilation: Ints,
    groups: int,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """What forward does to x, transposed; `size` is the spatial size of x. With a bias: a transposed convolution."""
    in_c = w.shape[1] * groups
    room = [low + extent + high for extent, (low, high) in zip(size, padding, strict=True)]
    total = np.zeros((y.shape[0], in_c, *room))
    filters, gradients = grouped(w, 0, groups), grouped(y, 1, groups)
    for tap, places in _taps(w.shape[2:], stride, dilation, y.shape[2:]):
        part = np.einsum("gkc,ngk...->ngc...", filters[(..., *tap)], gradients, optimize=True)
        total[(slice(None), slice(None), *places)] += part.reshape(y.shape[0], in_c, *y.shape[2:])
    inside = tuple(slice(low, low + extent) for extent, (low, _) in zip(size, padding, strict=True))
    return _plus_bias(total[(slice(None), slice(None), *inside)], bias)


def weight_gradient(
    x: np.ndarray, kernel: Ints, y: np.ndarray, stride: Ints, padding: Sequence[Pair], dilation: Ints, groups: int
) -> np.ndarray:
    """What forward does to w, transposed."""
    source, gradients = padded(x, padding), grouped(y, 1, groups)
    result = np.empty((y.shape[1], x.shape[1] // groups, *kernel))
    for tap, places in _taps(kernel, stride, dilation, y.shape[2:]):
        met = grouped(source[(slice(None), slice(None), *places)], 1, groups)
        part = np.einsum("ngc...,ngk...->gkc", met, gradients, optimize=True)
        result[(slice(None), slice(None), *tap)] = part.reshape(result.shape[:2])
    return result


def selection(size: int, kernel: int, stride: int, pad_low: int, dilation: int, out: int) -> np.ndarray:
    """0/1 array [out, kernel, size]: 1 where output o reads input i through tap t. Any integers, however large."""
    chosen = np.zeros((out, kernel, size))
    for o, t in product(range(out), range(kernel)):
        i = o * stride + t * dilation - pad_low
        if 0 <= i < size:
            chosen[o, t, i] = 1
    return chosen


def by_selection(
    x: np.ndarray, w: np.ndarray, stride: Ints, padding: Sequence[Pair], dilation: Ints, groups: int, out: Ints
) -> np.ndarray:
    """Forward convolution with the output size given."""
    values, filters = grouped(x, 1, groups), grouped(w, 0, groups)
    axes = x.ndim - 2
    inputs, taps, places = "abd"[:axes], "pqr"[:axes], "hij"[:axes]
    picks = [
        selection(x.shape[2 + a], w.shape[2 + a], stride[a], padding[a][0], dilation[a], out[a]) for a in range(axes)
    ]
    letters = ",".join(places[a] + taps[a] + inputs[a] for a in range(axes))
    equation = f"ngc{inputs},gkc{taps},{letters}->ngk{places}"
    y = np.einsum(equation, values, filters, *picks, optimize=True)
    return y.reshape(x.shape[0], w.shape[0], *out)
