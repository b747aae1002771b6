"""The definition of pooling and of its gradients in float64 NumPy, written differently from the kernels.

Nothing is shared with the engine, least of all shapes. Every window is a list of input positions per axis, and a window
of the plane is their product; a pooling gathers the elements of each window into a row, and every answer is read off
that row. Arrays have the channels first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

Pair = tuple[int, int]


class Axis:
    """Positions of each window along an axis, -1 for padding, and the length that count_include_pad divides by."""

    def __init__(self, windows: list[list[int]], lengths: list[int]) -> None:
        self.windows, self.lengths = windows, lengths


def axis(size: int, kernel: int, stride: int, pads: Pair, dilation: int = 1, ceil_mode: bool = False) -> Axis:
    """Return the windows of PyTorch's documentation, found by walking over the padded axis."""
    low, high = pads
    span = (kernel - 1) * dilation + 1
    windows, lengths = [], []
    start = -low
    while True:
        fits = start + span <= size + high
        # A window that does not fit counts with ceil_mode if less than a stride is missing and it starts in the
        # input or in the padding before it.
        hangs = ceil_mode and start + span < size + high + stride and start < size
        if not fits and not hangs:
            return Axis(windows, lengths)
        taps = [start + t * dilation for t in range(kernel)]
        windows.append([t if 0 <= t < size else -1 for t in taps])
        lengths.append(len([t for t in range(start, start + span) if t < size + high]))
        start += stride


def same_axis(size: int, kernel: int, stride: int, dilation: int = 1) -> Axis:
    """Return the windows of TensorFlow's SAME: ceil(size / stride) of them, centred, the odd element at the end."""
    out = math.ceil(size / stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return axis(size, kernel, stride, (total // 2, total - total // 2), dilation)


def adaptive_axis(size: int, out: int) -> Axis:
    windows = [list(range(i * size // out, math.ceil((i + 1) * size / out))) for i in range(out)]
    return Axis(windows, [len(w) for w in windows])


class Pool:
    """A pooling of arrays [batch, channels, *sizes] given by its axes."""

    def __init__(self, sizes: Sequence[int], axes: Sequence[Axis]) -> None:
        self.sizes, self.out = tuple(sizes), tuple(len(a.windows) for a in axes)
        self.members, self.lengths = [], []  # flat positions in the order of the plane; the product of the lengths
        for place in product(*(range(o) for o in self.out)):
            taps = product(*(a.windows[i] for a, i in zip(axes, place, strict=True)))
            inside = [t for t in taps if min(t) >= 0]
            self.members.append([int(np.ravel_multi_index(t, self.sizes)) for t in inside])
            self.lengths.append(math.prod(a.lengths[i] for a, i in zip(axes, place, strict=True)))

    def _shaped(self, columns: list[np.ndarray], like: np.ndarray) -> np.ndarray:
        return np.stack(columns, axis=-1).reshape(*like.shape[:2], *self.out)

    def maximum(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and flat indices: the first of equals; with NaN in a window the last one of them."""
        planes = x.reshape(*x.shape[:2], -1).astype(np.float64)
        values, places = [], []
        for members in self.members:
            window = planes[..., members]
            at = np.argmax(np.where(np.isnan(window), -np.inf, window), axis=-1)
            nan = np.isnan(window)
            last = window.shape[-1] - 1 - np.argmax(nan[..., ::-1], axis=-1)
            at = np.where(nan.any(axis=-1), last, at)
            values.append(np.take_along_axis(window, at[..., None], axis=-1)[..., 0])
            places.append(np.asarray(members)[at])
        return self._shaped(values, x), self._shaped(places, x)

    def divisors(self, count_include_pad: bool, override: int | None) -> list[int]:
        if override is not None:
            return [override] * len(self.members)
        return self.lengths if count_include_pad else [len(m) for m in self.members]

    def average(self, x: np.ndarray, count_include_pad: bool = True, override: int | None = None) -> np.ndarray:
        planes = x.reshape(*x.shape[:2], -1).astype(np.float64)
        divisors = self.divisors(count_include_pad, override)
        return self._shaped([planes[..., m].sum(axis=-1) / d for m, d in zip(self.members, divisors, strict=True)], x)

    def average_gradient(
        self, g: np.ndarray, count_include_pad: bool = True, override: int | None = None
    ) -> np.ndarray:
        """The transposed matrix of the average, times g."""
        matrix = np.zeros((len(self.members), math.prod(self.sizes)))
        for row, (members, divisor) in enumerate(
            zip(self.members, self.divisors(count_include_pad, override), strict=True)
        ):
            matrix[row, members] = 1 / divisor
        flat = g.reshape(*g.shape[:2], -1).astype(np.float64) @ matrix
        return flat.reshape(*g.shape[:2], *self.sizes)


def placed(values: np.ndarray, indices: np.ndarray, sizes: Sequence[int], add: bool) -> np.ndarray:
    """Planes of zeros with the values at their indices, summed or the last one kept."""
    target = np.zeros((values.shape[0] * values.shape[1], math.prod(sizes)))
    rows = values.reshape(len(target), -1).astype(np.float64)
    places = indices.reshape(len(target), -1)
    for plane, row, at in zip(target, rows, places, strict=True):
        if add:
            np.add.at(plane, at, row)
        else:
            for value, i in zip(row, at, strict=True):
                plane[i] = value
    return target.reshape(*values.shape[:2], *sizes)
