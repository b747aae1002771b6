"""Padding with constants and with pixels of the image itself, and its gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _arguments as arg

# torch's words and NumPy's for the same thing.
_NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
MODES = ("constant", *_NUMPY_MODES)

# Axis of the array -> (before, after), in pixels.
Pads = Mapping[int, tuple[int, int]]


def pad(x: Any, pad: Any, mode: str = "constant", value: float | None = None) -> np.ndarray:
    """Pad an array at the ends of its last axes; ``torch.nn.functional.pad``.

    Parameters
    ----------
    x : ndarray
        Any dtype, on a GPU those of :func:`conv2d`.
    pad : sequence of int
        (left, right, top, bottom, front, back): two numbers for each axis, beginning with the last axis. Negative
        ones take pixels away.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
        Where the new pixels come from. All but "constant" pad one, two or three axes of an array that has one or two
        more than that (channels, or batch and channels).
    value : float, optional
        The new pixels of "constant"; 0 if not given.

    Returns
    -------
    ndarray
        A new array of the dtype of `x`.

    Raises
    ------
    ValueError
        `pad` does not fit the array: an odd count, more axes than there are, more pixels than the mode can take from
        the image (reflect: fewer than the axis has; circular: as many), or less than nothing left.
    TypeError
        An argument has the wrong type.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.pad(np.array([[1.0, 2.0, 3.0]]), (2, 1), "reflect")
    array([[3., 2., 1., 2., 3., 2.]])
    """
    array = arg.operand("x", x)
    ndim = len(array.shape)
    numbers = () if isinstance(pad, (tuple, list)) and not pad else arg.shape("pad", pad)
    if arg.text("mode", mode) not in MODES:
        raise ValueError(f"mode={mode!r}: expected one of {', '.join(MODES)}")
    if len(numbers) % 2 or len(numbers) > 2 * ndim:
        raise ValueError(f"pad={pad!r}: expected two numbers for each of at most {ndim} axes")
    if mode != "constant":
        if value not in (None, 0):
            raise ValueError(f"value={value!r}: expected None with mode={mode!r}")
        axes = len(numbers) // 2
        if axes > 3 or ndim not in (axes + 1, axes + 2):
            raise ValueError(f"pad={pad!r} on an array of shape {array.shape}: mode={mode!r} pads one, two or three "
                             "axes of an array that has one or two more")  # fmt: skip
    pads = {ndim - 1 - i: (numbers[2 * i], numbers[2 * i + 1]) for i in range(len(numbers) // 2)}
    return pad_axes(array, pads, mode, 0 if value is None else value)


def pad_axes(x: Any, pads: Pads, mode: str = "constant", value: float = 0) -> np.ndarray:
    """Pad the axes named in `pads`."""
    for axis, (before, after) in pads.items():
        _check(tuple(x.shape), axis, before, after, mode)
    if not isinstance(x, np.ndarray):
        result: np.ndarray = arg.engine(x).pad(x, [pads.get(i, (0, 0)) for i in range(len(x.shape))], mode, value)
        return result
    if mode != "constant":
        for axis, (before, after) in pads.items():
            if before or after:
                x = np.take(x, source(x.shape[axis], before, after, mode), axis)
        taken: np.ndarray = x
        return taken
    everything = [slice(None)] * x.ndim
    inner, kept = list(everything), list(everything)
    shape = list(x.shape)
    for axis, (before, after) in pads.items():
        shape[axis] += before + after
        inner[axis] = slice(max(before, 0), shape[axis] - max(after, 0))
        kept[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
    y = np.full(shape, value, x.dtype)
    y[tuple(inner)] = x[tuple(kept)]
    return y


def pad_axes_gradient(grad_output: np.ndarray, input_size: tuple[int, ...], pads: Pads, mode: str) -> np.ndarray:
    """Gradient of :func:`pad_axes` for an input of shape `input_size`: each pixel gathers what its copies got."""
    grad = grad_output
    for axis, (before, after) in reversed(list(pads.items())):
        if not (before or after):
            continue
        grad = np.moveaxis(grad, axis, 0)
        gathered = np.zeros((input_size[axis],) + grad.shape[1:], grad.dtype)
        start, stop = max(before, 0), len(grad) - max(after, 0)
        origin = source(input_size[axis], before, after, mode)
        gathered[origin[start:stop]] = grad[start:stop]
        for i in (*range(start), *range(stop, len(grad))):
            gathered[origin[i]] += grad[i]
        grad = np.moveaxis(gathered, 0, axis)
    return np.ascontiguousarray(grad)


def source(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Index in the image of every pixel of the padded axis."""
    lost = slice(max(-before, 0), size - max(-after, 0))
    index = np.arange(size)
    if mode == "circular":
        index = index[lost]  # torch takes away first and closes the circle of what is left
    index = np.pad(index, (max(before, 0), max(after, 0)), _NUMPY_MODES[mode])  # type: ignore[call-overload]
    if mode != "circular":
        index = index[max(-before, 0) : len(index) - max(-after, 0)]
    return np.asarray(index)


def _check(shape: tuple[int, ...], axis: int, before: int, after: int, mode: str) -> None:
    size = shape[axis]
    most = {"reflect": size - 1, "circular": size + min(before, 0) + min(after, 0)}.get(mode, 2**62)
    if max(before, after) > most:
        raise ValueError(f"pad=({before}, {after}) of axis {axis} of an array of shape {shape}: expected at most "
                         f"{most} with mode={mode!r}")  # fmt: skip
    if mode == "replicate" and size == 0 and (before > 0 or after > 0):
        raise ValueError(f"pad=({before}, {after}) of axis {axis} of an array of shape {shape}: no pixel to repeat")
    left = size - max(-before, 0) - max(-after, 0)
    if left < 0 or (mode != "constant" and (left == 0 or size + before + after == 0)):
        raise ValueError(f"pad=({before}, {after}) of axis {axis} of an array of shape {shape}: nothing is left")
