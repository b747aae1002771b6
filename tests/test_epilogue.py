"""What happens to a sum before it is stored: residual, bounds and curves, in every row of the table."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core

from . import oracle, tolerance
from .cases import BY_NAME, CASES, ConvCase, make_array
from .directions import call, from_layout, question, to_layout, with_activation

ALGORITHMS: list[str] = _core.algorithms()
LAYOUTS = ("NCHW", "NHWC")
ACTIVATIONS = (None, "relu", "relu6", "silu", "hardswish")
# All that is special about where results lie, and few multiply-adds.
SMALL = [case for case in CASES if case.multiply_adds < 400_000]


def arrays_of(case: ConvCase, dtype: Any, layout: str, integers: bool = False) -> dict[str, np.ndarray]:
    arrays = {role: array.astype(dtype) for role, array in question(case.name, "forward", integers).arrays.items()}
    arrays["x"] = to_layout(arrays["x"], layout)
    residual = make_array(case, "residual", case.y_shape, integers).astype(dtype)
    return arrays | {"residual": to_layout(residual, layout)}


def asked(case: ConvCase, arrays: dict[str, np.ndarray], activation: str | None, **more: Any) -> np.ndarray:
    function = getattr(fastconv, f"conv{case.axes}d")
    result: np.ndarray = function(arrays["x"], arrays["w"], arrays.get("bias"), activation=activation,
                                  residual=arrays["residual"], **case.window, **more)  # fmt: skip
    return result


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_residual_and_activation(algorithm: str, case: ConvCase, isa: str) -> None:
    """Within the bound, bitwise the same for 1 and 2 threads, and in place of the residual; integers exactly."""
    q, whole = question(case.name, "forward", False), question(case.name, "forward", True)
    for number, (dtype, layout) in enumerate(product((np.float32, np.float64), LAYOUTS)):
        arrays, more = arrays_of(case, dtype, layout), {"layout": layout, "algorithm": algorithm}
        residual = from_layout(arrays["residual"], layout).astype(np.float64)
        magnitude = q.magnitude + np.abs(residual)
        for activation in ACTIVATIONS[number % 2 :: 2] + ("silu",):
            what = f"{case} {algorithm} {isa} {np.dtype(dtype)} {layout} {activation}"
            try:
                got = asked(case, arrays, activation, **more)
            except NotImplementedError:
                continue
            expected = oracle.activated(q.linear + residual, activation)
            tolerance.assert_within(
                from_layout(got, layout), expected, q.terms + 1, magnitude, algorithm, what, activation
            )
            _core.set_num_threads(2)
            out = arrays["residual"].copy()
            assert asked(case, arrays | {"residual": out}, activation, out=out, **more) is out
            assert out.tobytes() == got.tobytes(), f"in place of the residual: {what}"
            _core.set_num_threads(1)
        integers = arrays_of(case, dtype, layout, True)
        if algorithm not in tolerance.AMPLIFIED:
            try:
                got = asked(case, integers, "relu6", **more)
            except NotImplementedError:
                continue
            exact = np.clip(whole.linear + from_layout(integers["residual"], layout), 0, 6)
            np.testing.assert_array_equal(from_layout(got, layout), exact, err_msg=f"{case} {algorithm} {isa}")


@pytest.mark.parametrize("direction", ["forward", "transposed"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_curves_without_a_residual(algorithm: str, direction: str, isa: str) -> None:
    for case, layout, dtype in product(SMALL, LAYOUTS, (np.float32, np.float64)):
        q = question(case.name, direction, False)
        arrays = {role: array.astype(dtype) for role, array in q.arrays.items()}
        source = "x" if direction == "forward" else "y"
        arrays[source] = to_layout(arrays[source], layout)
        for activation in ("silu", "hardswish"):
            try:
                got = call(with_activation(case, activation), direction, arrays, layout=layout, algorithm=algorithm)
            except NotImplementedError:
                continue
            expected = oracle.activated(q.linear, activation)
            what = f"{case} {direction} {algorithm} {isa} {np.dtype(dtype)} {layout} {activation}"
            tolerance.assert_within(
                from_layout(got, layout), expected, q.terms, q.magnitude, algorithm, what, activation
            )


def test_plans_take_a_residual(isa: str) -> None:
    for name, layout, activation in product(("plain", "depthwise", "pointwise"), LAYOUTS, ("relu", "silu")):
        case = BY_NAME[name]
        arrays = arrays_of(case, np.float32, layout)
        expected = asked(case, arrays, activation, layout=layout)
        plan = fastconv.plan_conv2d(
            arrays["x"].shape, arrays["w"], arrays.get("bias"), layout=layout, activation=activation, **case.window
        )
        assert plan(arrays["x"], residual=arrays["residual"]).tobytes() == expected.tobytes()
        out = arrays["residual"].copy()
        assert plan(arrays["x"], residual=out, out=out) is out
        assert out.tobytes() == expected.tobytes()
        without = getattr(fastconv, f"conv{case.axes}d")(
            arrays["x"], arrays["w"], arrays.get("bias"), layout=layout, activation=activation, **case.window
        )
        assert plan(arrays["x"]).tobytes() == without.tobytes()
        with pytest.raises(ValueError, match="residual has shape .*: expected .*, the shape of the result"):
            plan(arrays["x"], residual=arrays["residual"][:1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_curves_at_the_ends_of_the_numbers(dtype: Any, isa: str) -> None:
    """A 1x1 convolution by 1 is the activation itself: NaN, infinity, large, small and subnormal numbers."""
    info = np.finfo(dtype)
    inner = np.concatenate([np.linspace(-90, 90, 1801), np.logspace(-30, 30, 61), -np.logspace(-30, 30, 61)])
    ends = np.array([np.nan, np.inf, 0, -0.0, info.max, -info.max, info.tiny, -info.tiny, info.tiny / 4])
    x = np.concatenate([inner, ends]).astype(dtype)
    one = np.ones((1, 1, 1), dtype)
    for activation, units in (("silu", 4), ("hardswish", 3)):
        got = fastconv.conv1d(x[None, None], one, activation=activation)[0, 0].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            expected = oracle.activated(x.astype(np.longdouble), activation)
            allowed = units * tolerance.unit_roundoff(np.dtype(dtype)) * np.abs(expected) + 1e-35
            right = (np.abs(got - expected) <= allowed) | (got == expected) | (np.isnan(got) & np.isnan(expected))
        assert right.all(), (activation, x[~right], got[~right], expected[~right])
        minus = fastconv.conv1d(np.full((1, 1, 5), -np.inf, dtype), one, activation=activation)
        assert np.isnan(minus).all(), "-inf * 0, as torch has it"


def test_out_and_residual_may_be_the_same_array_or_apart() -> None:
    x, w = np.ones((1, 2, 6, 6), np.float32), np.ones((2, 2, 1, 1), np.float32)
    memory = np.zeros(2 * 72, np.float32)
    residual = memory[:72].reshape(1, 2, 6, 6)
    for start in (1, 36, 71):
        with pytest.raises(ValueError, match="out overlaps residual in memory: expected residual itself or"):
            fastconv.conv2d(x, w, residual=residual, out=memory[start : start + 72].reshape(1, 2, 6, 6))
    beside = memory[72:].reshape(1, 2, 6, 6)
    assert fastconv.conv2d(x, w, residual=residual, out=beside) is beside
    np.testing.assert_array_equal(beside, 2)
    with pytest.raises(ValueError, match="out overlaps an input"):
        fastconv.conv2d(x, w, residual=residual, out=x)
    strided = np.full((1, 2, 6, 12), 3, np.float32)[..., ::2]
    np.testing.assert_array_equal(fastconv.conv2d(x, w, residual=strided), 5)


def test_linear_has_the_curves() -> None:
    x, w = np.linspace(-4, 4, 24, dtype=np.float32).reshape(4, 6), np.eye(6, dtype=np.float32)
    for activation in ("silu", "hardswish"):
        got = fastconv.linear(x, w, activation=activation)
        np.testing.assert_allclose(got, oracle.activated(x.astype(np.float64), activation), rtol=1e-6, atol=1e-7)
