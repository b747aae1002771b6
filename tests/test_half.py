"""float16 and bfloat16: exact where float32 is and the result fits, and rounded once everywhere else."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core

from . import tolerance
from .cases import BY_NAME, CASES, ConvCase
from .directions import DIRECTIONS, answered, operands, question

ml_dtypes = pytest.importorskip("ml_dtypes")
HALVES: tuple[Any, ...] = (np.float16, ml_dtypes.bfloat16)
LAYOUTS = ("NCHW", "NHWC")
SMALL = [case for case in CASES if case.multiply_adds < 400_000]
ALGORITHMS = _core.algorithms()


def rounded(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The oracle's cast: float64 to float32, which is exact for what comes here, and to 16 bits."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32).astype(dtype)


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_sums_are_those_of_float32(direction: str, case: ConvCase) -> None:
    """Integers exactly, rounded where they are stored; normal numbers within the bound; the same for any threads."""
    for dtype, layout in product(HALVES, LAYOUTS):
        what = f"{case} {direction} {np.dtype(dtype)} {layout}"
        integers = question(case.name, direction, True)
        exact = integers.ask(dtype, layout, "exact")
        assert exact.dtype == dtype
        np.testing.assert_array_equal(exact, rounded(integers.expected, dtype), err_msg=what)
        arrays = operands(case, direction, False)
        normal = answered(
            case, direction, {role: array.astype(dtype).astype(np.float64) for role, array in arrays.items()}
        )
        _core.set_num_threads(1)
        once = normal.ask(dtype, layout, "auto")
        tolerance.assert_within(once, normal.expected, normal.terms, normal.magnitude, "winograd", what)
        once = normal.ask(dtype, layout, "exact")
        tolerance.assert_within(once, normal.expected, normal.terms, normal.magnitude, "", what)
        _core.set_num_threads(3)
        assert normal.ask(dtype, layout, "exact").tobytes() == once.tobytes(), what


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_row_serves_them(algorithm: str, isa: str) -> None:
    """As float32 of the same numbers, rounded; and a plan gives what a call gives."""
    taken = 0
    names = ("plain", "depthwise", "pointwise", "strided", "batch_of_small_images")
    for name, layout, dtype in product(names, LAYOUTS, HALVES):
        case = BY_NAME[name]
        arrays = {role: array.astype(dtype) for role, array in operands(case, "forward", False).items()}
        if layout == "NHWC":
            arrays["x"] = np.ascontiguousarray(np.moveaxis(arrays["x"], 1, -1))
        more: dict[str, Any] = {**case.window, "layout": layout, "algorithm": algorithm, "activation": "silu"}
        wide = {role: array.astype(np.float32) for role, array in arrays.items()}
        try:
            expected = fastconv.conv2d(wide["x"], wide["w"], wide.get("bias"), **more)
        except NotImplementedError:
            with pytest.raises(NotImplementedError, match=f"cannot do forward {np.dtype(dtype)}"):
                fastconv.conv2d(arrays["x"], arrays["w"], arrays.get("bias"), **more)
            continue
        taken += 1
        got = fastconv.conv2d(arrays["x"], arrays["w"], arrays.get("bias"), **more)
        assert got.tobytes() == expected.astype(dtype).tobytes(), f"{name} {layout} {dtype}"
        plan = fastconv.plan_conv2d(arrays["x"].shape, arrays["w"], arrays.get("bias"), **more)
        out = np.empty_like(got)
        assert plan(arrays["x"], out=out) is out
        assert out.tobytes() == got.tobytes()
        residual = got.copy()
        twice = fastconv.conv2d(
            wide["x"], wide["w"], wide.get("bias"), residual=residual.astype(np.float32), **more
        ).astype(dtype)
        assert plan(arrays["x"], residual=residual, out=residual).tobytes() == twice.tobytes()
    assert taken >= 4


def test_a_batch_is_computed_in_parts() -> None:
    """More images than stay in the cache together, a number of them that no part divides but 1."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((7, 16, 150, 150)).astype(np.float16)
    w = rng.standard_normal((8, 16, 3, 3)).astype(np.float16)
    y = fastconv.conv2d(x, w, padding=1, algorithm="exact")
    for i in (0, 6):
        alone = fastconv.conv2d(x[i], w, padding=1, algorithm="exact")
        assert alone.tobytes() == y[i].tobytes()
    y /= np.float16(16)  # the sums over 157500 pixels stay below float16's largest number
    gradient = fastconv.grad.conv2d_weight(x, w.shape, y, padding=1)
    wide = x.astype(np.float64), y.astype(np.float64)
    expected = fastconv.grad.conv2d_weight(wide[0], w.shape, wide[1], padding=1)
    magnitude = fastconv.grad.conv2d_weight(np.abs(wide[0]), w.shape, np.abs(wide[1]), padding=1)
    tolerance.assert_within(gradient, expected, 7 * 150 * 150, magnitude)


@pytest.mark.parametrize("dtype", HALVES)
def test_conversions(dtype: Any, isa: str) -> None:
    """Every number of 16 bits comes back as it went in; float32 between two of them goes to the nearer, or the even."""
    every = np.arange(65536, dtype=np.uint16).view(dtype)
    one = np.ones((1, 1, 1), dtype)
    back = fastconv.conv1d(every[None, None], one, algorithm="reference")[0, 0]
    numbers = ~np.isnan(every.astype(np.float32))
    assert np.isnan(back.astype(np.float32)[~numbers]).all()
    np.testing.assert_array_equal(back[numbers].astype(np.float32), every[numbers].astype(np.float32))
    finite = every[np.isfinite(every.astype(np.float32))]
    rng = np.random.default_rng(0)
    a, b = rng.permutation(finite)[:20000], rng.permutation(finite)[:20000]
    x = np.stack([a, b])[None]
    got = fastconv.conv1d(x, np.ones((1, 2, 1), dtype), algorithm="reference")[0, 0]
    with np.errstate(over="ignore"):
        expected = (a.astype(np.float64) + b.astype(np.float64)).astype(np.float32).astype(dtype)
    np.testing.assert_array_equal(got.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALVES)
def test_poolings(dtype: Any, layout: str) -> None:
    x = np.random.default_rng(1).standard_normal((3, 5, 9, 11)).astype(dtype)
    wide, more = x.astype(np.float32), {"layout": layout}
    pooled, indices = fastconv.max_pool2d(x, 3, 2, 1, return_indices=True, **more)
    expected, places = fastconv.max_pool2d(wide, 3, 2, 1, return_indices=True, **more)
    assert pooled.dtype == dtype and pooled.tobytes() == expected.astype(dtype).tobytes()
    np.testing.assert_array_equal(indices, places)
    mean = fastconv.avg_pool2d(x, 3, 2, 1, **more)
    assert mean.tobytes() == fastconv.avg_pool2d(wide, 3, 2, 1, **more).astype(dtype).tobytes()
    got = fastconv.grad.max_pool2d(x.shape, pooled, indices, **more)
    assert got.tobytes() == fastconv.grad.max_pool2d(x.shape, expected, places, **more).astype(dtype).tobytes()
    got = fastconv.grad.avg_pool2d(x.shape, mean, 3, 2, 1, **more)
    wider = fastconv.grad.avg_pool2d(x.shape, mean.astype(np.float32), 3, 2, 1, **more)
    assert got.tobytes() == wider.astype(dtype).tobytes()
    adaptive = fastconv.adaptive_avg_pool2d(x, 2, **more)
    assert adaptive.tobytes() == fastconv.adaptive_avg_pool2d(wide, 2, **more).astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", HALVES)
def test_arrays_of_any_kind(dtype: Any) -> None:
    x = np.arange(72).reshape(1, 2, 6, 6).astype(dtype)
    w = np.ones((1, 2, 3, 3), dtype)
    expected = fastconv.conv2d(x, w)
    assert fastconv.conv2d(np.asfortranarray(x), w).tobytes() == expected.tobytes()
    assert fastconv.conv2d(np.repeat(x, 2, -1)[..., ::2], w).tobytes() == expected.tobytes()
    assert fastconv.conv2d(x[0], w).tobytes() == expected.tobytes()
    assert fastconv.conv2d(x[:0], w).shape == (0, 1, 4, 4)
    assert fastconv.linear(np.eye(3).astype(dtype), np.eye(3).astype(dtype)).dtype == dtype
    assert fastconv.relu(-x).dtype == dtype
    for function in (fastconv.softmax, fastconv.log_softmax):
        wide = function(x.astype(np.float32), 1).astype(dtype)
        assert function(x, 1).dtype == dtype and function(x, 1).tobytes() == wide.tobytes()
    found = fastconv.explain(x, w)
    assert str(np.dtype(dtype)) in found.problem and found.algorithm == fastconv.plan_conv2d(x.shape, w).algorithm
    with pytest.raises(TypeError, match=f"weight has dtype float32: expected {np.dtype(dtype)} like x"):
        fastconv.conv2d(x, w.astype(np.float32))
    with pytest.raises(TypeError, match=f"out has dtype float32: expected {np.dtype(dtype)}"):
        fastconv.conv2d(x, w, out=np.empty((1, 1, 4, 4), np.float32))
    with pytest.raises(TypeError, match=f"weight has dtype float32: expected {np.dtype(dtype)} like x"):
        fastconv.nn.Conv2d(2, 1, 3)(x)
    with pytest.raises(TypeError, match="expected float32 or float64"):
        fastconv.nn.Conv2d(2, 1, 3, dtype=dtype)
