"""A call that has come before takes a short way: it must see all that is not as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core

RNG = np.random.default_rng(5)
X = RNG.integers(-4, 5, (2, 4, 7, 6)).astype(np.float32)
W = RNG.integers(-4, 5, (6, 4, 3, 3)).astype(np.float32)
B = RNG.integers(-4, 5, 6).astype(np.float32)


def expected(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, **window: Any) -> np.ndarray:
    """What the long way gives, which `out` takes."""
    shape = fastconv.explain(x, w, b, **window).output_shape
    return fastconv.conv2d(x, w, b, **window, out=np.full(shape, np.nan, x.dtype))


def seen(x: Any, w: Any, b: Any, *spelled: Any) -> bool:
    """Whether this call has come before."""
    return _core.conv_again(2, x, w, b, spelled) is not None


WINDOWS: list[dict[str, Any]] = [
    {},
    {"padding": 1},
    {"padding": ((0, 1), (2, 1))},
    {"padding": "same"},
    {"stride": (2, 1), "dilation": (1, 2)},
    {"activation": "relu"},
    {"algorithm": "exact"},
]


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_in_turns(threads: int) -> None:
    """Each of several calls that differ in one thing keeps giving its own result, and a result is nobody else's."""
    fastconv.set_num_threads(threads)
    long = np.tile(X, (3, 1, 3, 3))
    calls = [(x, W.astype(x.dtype), b, window)
             for x in (X, X[:1], X[:0], long, X.astype(np.float64), X.astype(np.float16))
             for b in (None, B.astype(x.dtype)) for window in WINDOWS]  # fmt: skip
    wanted = [expected(x, w, b, **window) for x, w, b, window in calls]
    results = [fastconv.conv2d(x, w, b, **window) for _ in range(3) for x, w, b, window in calls]
    for i, result in enumerate(results):
        want = wanted[i % len(calls)]
        assert result.dtype == want.dtype and result.flags.owndata and result.flags.writeable
        np.testing.assert_array_equal(result, want)


def test_a_repeated_call_is_seen() -> None:
    spelled = (1, 0, 1, 1, "NCHW", None, "auto", "fp32")
    w = W[:5].copy()
    assert not seen(X, w, None, *spelled)
    fastconv.conv2d(X, w)
    assert seen(X, w, None, *spelled)
    assert not seen(X, w, np.zeros(5, np.float32), *spelled)
    for _ in range(2):  # tuples made anew
        one, low, high = (tuple(map(int, digits)) for digits in ("11", "01", "10"))
        fastconv.conv2d(X, w, None, one, (low, high))
    again = ((1, 1), ((0, 1), (1, 0)), 1, 1, "NCHW", None, "auto", "fp32")
    assert seen(X, w, None, *again) and not seen(X, w, None, (1, 2), *again[1:])
    assert not seen(X, w, None, again[0], ((0, 1), (1, 1)), *again[2:]) and not seen(X, w, None, 1, *again[1:])
    nested: Any = 1
    for _ in range(10_000):
        nested = (nested,)
    assert not seen(X, w, None, nested, *again[1:]) and not seen(X, w, None, *again, nested)


def test_changed_values_are_seen() -> None:
    x, w, b = X.copy(), W.copy(), B.copy()
    for _ in range(3):
        for array in (x, w, b):
            array += 1
            np.testing.assert_array_equal(fastconv.conv2d(x, w, b), expected(x, w, b))


def test_a_list_may_change() -> None:
    stride: Any = [1, 1]
    for step in (1, 2, 1):
        stride[0] = step
        for _ in range(2):
            np.testing.assert_array_equal(fastconv.conv2d(X, W, stride=stride), expected(X, W, None, stride=(step, 1)))


def test_equal_is_not_the_same() -> None:
    """True equals 1, and is refused none the less."""
    for _ in range(2):
        fastconv.conv2d(X, W, None, 1, 1)
        with pytest.raises(TypeError, match="stride=True"):
            fastconv.conv2d(X, W, None, True, 1)
        with pytest.raises(TypeError, match=r"padding=1\.0"):
            fastconv.conv2d(X, W, None, 1, 1.0)
        with pytest.raises(TypeError, match="weight has dtype float64"):
            fastconv.conv2d(X, W.astype(np.float64), None, 1, 1)
        with pytest.raises(ValueError, match="bias has shape"):
            fastconv.conv2d(X, W, B[:5], 1, 1)


@pytest.mark.parametrize("turn", ["strides", "order", "lists", "subclass"])
def test_other_arrays_go_the_long_way(turn: str) -> None:
    wanted = expected(X, W, B)
    for _ in range(2):
        np.testing.assert_array_equal(fastconv.conv2d(X, W, B), wanted)
        x: Any = {
            "strides": np.repeat(X, 2, axis=3)[..., ::2],
            "order": X.astype(X.dtype.newbyteorder()),
            "lists": X.tolist(),
            "subclass": X.view(type("Own", (np.ndarray,), {})),
        }[turn]
        np.testing.assert_array_equal(fastconv.conv2d(x, W, B), wanted)


def test_settings_count() -> None:
    """Fewer threads, another instruction set: another plan."""
    fastconv.set_num_threads(1)
    wanted = fastconv.conv2d(X, W, B)
    spelled = (1, 0, 1, 1, "NCHW", None, "auto", "fp32")
    fastconv.conv2d(X, W, B)
    assert seen(X, W, B, *spelled)
    fastconv.set_num_threads(2)
    assert not seen(X, W, B, *spelled)
    np.testing.assert_array_equal(fastconv.conv2d(X, W, B), wanted)


def test_poolings_in_turns() -> None:
    """As test_calls_in_turns, for poolings."""
    calls = [(x, function, arguments)
             for x in (X, X[:1], X[:0], X.astype(np.float64), X.astype(np.float16), X[..., ::2],
                       X.astype(X.dtype.newbyteorder()))
             for function, arguments in ((fastconv.max_pool2d, (2,)), (fastconv.max_pool2d, (2, 1)),
                                         (fastconv.max_pool2d, ((2, 1),)), (fastconv.avg_pool2d, (2,)),
                                         (fastconv.avg_pool2d, (2, 1, 1)), (fastconv.avg_pool2d, (2, 1, 1, True)),
                                         (fastconv.adaptive_avg_pool2d, (1,)),
                                         (fastconv.adaptive_max_pool2d, (1,)))]  # fmt: skip
    own = type("Own", (np.ndarray,), {})  # goes the long way
    wanted = [function(x.view(own), *arguments) for x, function, arguments in calls]
    for _ in range(3):
        for (x, function, arguments), want in zip(calls, wanted, strict=True):
            result = function(x, *arguments)
            assert result.dtype == x.dtype.newbyteorder("=") and result.flags.owndata and result.flags.writeable
            np.testing.assert_array_equal(result, want)
        with pytest.raises(TypeError, match="kernel_size=True"):
            fastconv.max_pool2d(X, True)
        with pytest.raises(TypeError, match="ceil_mode=1"):
            fastconv.max_pool2d(X, 2, 2, 0, 1, 1)  # type: ignore[arg-type]


def test_a_repeated_pooling_is_seen() -> None:
    spelled = (False, 2, (1, 3), 2, 0, 1, False, True, None, "NCHW")
    ask = lambda x, *spelled: _core.pool_again("max_pool2d", x, spelled) is not None  # noqa: E731
    assert not ask(X, *spelled)
    fastconv.max_pool2d(X, (1, 3), 2, return_indices=True)
    fastconv.max_pool2d(X, (1, 3), 2, out=np.empty((2, 4, 4, 2), np.float32))
    assert not ask(X, *spelled)
    fastconv.max_pool2d(X, (1, 3), 2)
    assert ask(X, *spelled) and ask(X, *spelled[:2], tuple(map(int, "13")), *spelled[3:])
    assert not ask(X[:1], *spelled) and not ask(X, *spelled[:-1], "NHWC") and not ask(X.tolist(), *spelled)
    assert not ask(X, *spelled[:3], True, *spelled[4:]) and not ask(X, *spelled[:6], 0, *spelled[7:])
    size: Any = [2, 2]
    for step in (1, 2, 1):
        size[0] = step
        for _ in range(2):
            np.testing.assert_array_equal(fastconv.max_pool2d(X, size), fastconv.max_pool2d(X, (step, 2)))


def test_a_plan_looks_at_its_input() -> None:
    plan = fastconv.plan_conv2d(X.shape, W, B)
    again, wanted = plan._prepared.again(), expected(X, W, B, algorithm=plan.algorithm)
    swapped, strided = X.astype(X.dtype.newbyteorder()), np.repeat(X, 2, axis=3)[..., ::2]
    for other in (X.tolist(), X[:1], X.astype(np.float64), swapped, strided):
        assert again(other, None) is None
    for _ in range(2):
        np.testing.assert_array_equal(plan(X), wanted)
        np.testing.assert_array_equal(plan(X.astype(X.dtype.newbyteorder())), wanted)
        with pytest.raises(ValueError, match="x has shape"):
            plan(X[:1])
        with pytest.raises(TypeError, match="x has dtype float64"):
            plan(X.astype(np.float64))
    del plan
    np.testing.assert_array_equal(again(X, None), wanted)


def test_a_plan_looks_at_out() -> None:
    plan = fastconv.plan_conv2d(X.shape, W, B)
    again, wanted = plan._prepared.again(), expected(X, W, B, algorithm=plan.algorithm)
    shape = plan.output_shape
    memory = np.zeros(X.size + wanted.size, np.float32)
    x = memory[-X.size :].reshape(X.shape)
    x[...] = X
    near, inside = (memory[begin : begin + wanted.size].reshape(shape) for begin in (0, 1))
    read_only = np.empty(shape, np.float32)
    read_only.flags.writeable = False
    unfit = {
        "out has shape": np.empty(shape[1:], np.float32),
        "out has dtype": np.empty(shape),
        "out is read-only": read_only,
        "out is not C-contiguous": np.empty((*shape, 2), np.float32)[..., 0],
        "out overlaps an input": inside,
        "out is list": [],
    }
    for message, out in unfit.items():
        assert again(x, out) is None
        with pytest.raises((ValueError, TypeError), match=message):
            plan(x, out)  # type: ignore[arg-type]
    for _ in range(2):
        near[...] = 0
        assert plan(x, near) is near and again(x, near) is near
        np.testing.assert_array_equal(near, wanted)
