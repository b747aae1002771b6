"""What the expressions of test_errors.py are made of; imported by the worker process."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import fastconv
from fastconv import _core, grad

from . import oracle
from .tolerance import AMPLIFIED

f = fastconv
inf, nan = float("inf"), float("nan")


def z(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Zeros; touched, so that reading them costs no new page."""
    return np.full(shape, 0, dtype)


def huge(*shape: int) -> np.ndarray:
    """An array of any shape that takes four bytes."""
    return np.broadcast_to(np.float32(0), shape)


# x and weight of sound calls: 3 channels to 4, 4 to 4, and for transposed convolutions 4 to 3.
xw3 = (z(1, 3, 8, 8), z(4, 3, 3, 3))
xw4 = (z(1, 4, 8, 8), z(4, 4, 3, 3))
xw43 = (z(1, 4, 8, 8), z(4, 3, 3, 3))

_X = np.arange(2 * 3 * 6 * 5, dtype=np.float32).reshape(2, 3, 6, 5) % 7
_W = np.arange(4 * 3 * 3 * 2, dtype=np.float32).reshape(4, 3, 3, 2) % 5
_Y = oracle.forward(_X.astype(float), _W.astype(float), None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)


def sound() -> bool:
    """A valid call gives what it should."""
    return bool(np.array_equal(fastconv.conv2d(_X, _W, padding=1), _Y))


def warm_up() -> None:
    """Use every algorithm with threads once, so that what they keep is there before memory is limited."""
    x, w = np.ones((4, 16, 24, 24), np.float32), np.ones((16, 16, 3, 3), np.float32)
    for algorithm in ["auto", *_core.algorithms()]:
        try:
            fastconv.conv2d(x, w, algorithm=algorithm)
        except NotImplementedError:
            pass
    assert sound()


# The dictionary of reliability tests: numbers and objects that brought down other convolution libraries.
DICTIONARY: tuple[Any, ...] = (
    0, -1, 1, 2, 3, -(2**31), 2**31 - 1, 2**31, 2**32, 65536, 1879048192, -536870912, -1879048192, 36028797018963968,
    1250999896764, 4634247419717959497, 8608480567731124087, 9132760301568586890, -(2**63), 2**63 - 1, 2**63, 2**70,
    1e20, nan, inf, True, "3", "", b"3", None, [], [1], [1] * 9, [[1]], [(1, 2)], [(1, 2), (0, 1)], np.int64(2),
    np.uint64(2**63), np.float32(2), np.array([1, 2]), np.array([[1, 2]]), np.ones(2), (1,) * 100_000, 10**5000,
    b"1" * 5000, "1" * 5000, {}, object(), 1j,
)  # fmt: skip


def fuzz(function: str, argument: str, algorithm: str) -> dict[str, int]:
    """Put every entry of the dictionary, alone and within a tuple, into one argument. Returns what came of it."""
    counts: dict[str, int] = {}
    for value in DICTIONARY:
        for wrapped in (value, (value, 1), (1, value), [value, value, value]):
            kind = fuzz_once(function, argument, wrapped, algorithm)
            counts[kind] = counts.get(kind, 0) + 1
    return counts


ALLOWED = (ValueError, TypeError, NotImplementedError, MemoryError)


def fuzz_once(function: str, argument: str, value: Any, algorithm: str) -> str:
    call, arguments = base_call(function)
    arguments["algorithm"] = algorithm
    arguments[argument] = value
    try:
        result = call(**arguments)
    except ALLOWED as error:
        assert len(str(error)) < 2000, f"a message of {len(str(error))} characters"
        return type(error).__name__
    what = f"{function}({argument}={value!r:.200}, {algorithm})"
    check_result(function, arguments, result, what)
    return "result"


def base_call(function: str) -> tuple[Any, dict[str, Any]]:
    """A small valid call of a public function, by keyword."""
    axes = int(next(c for c in function if c.isdigit()))
    rng = np.random.default_rng(7)
    size, kernel = (5, 6, 4)[:axes], (3, 2, 2)[:axes]
    out = tuple(s - k + 1 for s, k in zip(size, kernel, strict=True))
    x = rng.integers(-3, 4, (2, 4, *size)).astype(np.float32)
    w = rng.integers(-3, 4, (6, 4, *kernel)).astype(np.float32)
    y = rng.integers(-3, 4, (2, 6, *out)).astype(np.float32)
    window = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "layout": "NCHW"}
    if function.endswith("_input"):
        return getattr(grad, function), {"input_size": x.shape, "weight": w, "grad_output": y, **window}
    if function.endswith("_weight"):
        return getattr(grad, function), {"input": x, "weight_size": w.shape, "grad_output": y, **window}
    if "transpose" in function:
        return getattr(f, function), {"x": y, "weight": w, "output_padding": 0, "activation": None, **window}
    return getattr(f, function), {"x": x, "weight": w, "activation": None, **window}


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(map(int, value)) if np.ndim(value) else (int(value),)
    return values * axes if len(values) == 1 else values


def _pads(value: Any, axes: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, (tuple, list, np.ndarray)):
        return ((int(value),) * 2,) * axes
    pairs = tuple(
        (int(v[0]), int(v[1])) if isinstance(v, (tuple, list, np.ndarray)) and len(v) == 2 else (int(v),) * 2
        for v in value
    )
    return pairs * axes if len(pairs) == 1 else pairs


def check_result(function: str, arguments: dict[str, Any], result: np.ndarray, what: str) -> None:
    """Compare the result of a fuzzed call with the oracle that takes any stride and padding."""
    for name in ("x", "weight", "input", "grad_output", "bias"):
        if name in arguments and not isinstance(arguments[name], np.ndarray):
            return  # an array spelled as a list: that it was taken is enough here
    assert isinstance(result, np.ndarray), what
    if result.size > 200_000 or arguments["layout"] != "NCHW" or isinstance(arguments["padding"], str):
        return
    axes = int(next(c for c in function if c.isdigit()))
    stride, dilation = _each(arguments["stride"], axes), _each(arguments["dilation"], axes)
    window = (stride, _pads(arguments["padding"], axes), dilation, int(arguments["groups"]))
    picks = [stride, window[1], dilation]
    if function in ("conv1d", "conv2d", "conv3d"):
        x, w = arguments["x"], arguments["weight"]
        _expect_out(x.shape[2:], w.shape[2:], picks, result.shape[2:], what)
        expected = oracle.by_selection(x, w, *window, result.shape[2:])
    elif function.endswith("_weight"):
        kernel = tuple(map(int, arguments["weight_size"]))[2:]
        expected = _weight_by_selection(arguments["input"], kernel, arguments["grad_output"], *window)
    else:
        y = arguments["x"] if "transpose" in function else arguments["grad_output"]
        if "transpose" not in function:
            assert result.shape == tuple(map(int, arguments["input_size"])), what
        _expect_out(result.shape[2:], arguments["weight"].shape[2:], picks, y.shape[2:], what)
        expected = _input_by_selection(result.shape, arguments["weight"], y, *window)
    if arguments.get("activation"):
        expected = oracle.activated(expected, arguments["activation"])
    if arguments["algorithm"] in AMPLIFIED:
        source = next(arguments[name] for name in ("x", "input", "grad_output") if name in arguments)
        other = arguments["weight"] if "weight" in arguments else arguments["grad_output"]
        largest = np.abs(other).sum() * np.abs(source).max(initial=0)
        assert np.abs(result - expected).max(initial=0) <= AMPLIFIED[arguments["algorithm"]] * largest, what
    else:
        assert np.array_equal(result, expected), what


def _expect_out(size: Any, kernel: Any, window: list[Any], out: Any, what: str) -> None:
    for extent, k, s, (low, high), d, o in zip(size, kernel, *window, out, strict=True):
        assert o == (extent + low + high - ((k - 1) * d + 1)) // s + 1, what


def _picks(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, out: Any) -> list[np.ndarray]:
    pads = [low for low, _ in padding]
    return list(itertools.starmap(oracle.selection, zip(size, kernel, stride, pads, dilation, out, strict=True)))


def _letters(axes: int) -> tuple[str, str, str, str]:
    inputs, taps, places = "abd"[:axes], "pqr"[:axes], "hij"[:axes]
    return inputs, taps, places, ",".join(places[a] + taps[a] + inputs[a] for a in range(axes))


def _input_by_selection(
    shape: Any, w: Any, y: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> np.ndarray:
    inputs, taps, places, letters = _letters(len(shape) - 2)
    picks = _picks(shape[2:], w.shape[2:], stride, padding, dilation, y.shape[2:])
    filters, gradients = oracle.grouped(w, 0, groups), oracle.grouped(y, 1, groups)
    x: np.ndarray = np.einsum(
        f"ngk{places},gkc{taps},{letters}->ngc{inputs}", gradients, filters, *picks, optimize=True
    )
    return x.reshape(shape)


def _weight_by_selection(
    x: Any, kernel: Any, y: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> np.ndarray:
    inputs, taps, places, letters = _letters(x.ndim - 2)
    picks = _picks(x.shape[2:], kernel, stride, padding, dilation, y.shape[2:])
    values, gradients = oracle.grouped(x, 1, groups), oracle.grouped(y, 1, groups)
    w: np.ndarray = np.einsum(f"ngc{inputs},ngk{places},{letters}->gkc{taps}", values, gradients, *picks, optimize=True)
    return w.reshape(y.shape[1], x.shape[1] // groups, *kernel)
