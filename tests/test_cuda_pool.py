"""Pooling and flattening of the CUDA half in the emulator, against the definition (pool_oracle.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from . import pool_oracle as oracle
from .cuda_emulator.load import emulated, run_sanitized
from .test_pool import CASES, DILATED, LAYOUTS, Case, first, integers, last, with_specials

SMALL = [c for c in CASES + DILATED if np.prod(c.shape) <= 6000]
DTYPES = (np.float32, np.float64, np.float16)


def keywords(case: Case, layout: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"spatial": case.spatial, "layout": layout}
    if case.adaptive is not None:
        return {**asked, "adaptive": list(case.per_axis(case.adaptive))}
    pads = [p if isinstance(p, tuple) else (p, p) for p in case.per_axis(case.padding)]
    asked |= {"kernel": list(case.per_axis(case.kernel)), "padding": pads, "ceil_mode": case.ceil_mode}
    asked["dilation"] = list(case.per_axis(case.dilation))
    if case.stride is not None:
        asked["stride"] = list(case.per_axis(case.stride))
    return asked


def exact(x: np.ndarray, dtype: Any) -> np.ndarray:
    """Numbers of few bits, with infinities, NaN and equals among them."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(x), np.round(x * 8) / 8, x).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_maximum(case: Case, dtype: Any, layout: str) -> None:
    for seed, data in enumerate((integers, with_specials)):
        emulated().configure(seed=seed)
        x = exact(data(case.shape, np.float64), dtype)
        values, places = case.pool.maximum(x)
        y, index = emulated().pool(last(x, layout), indices=True, **keywords(case, layout))
        np.testing.assert_array_equal(first(y, layout), values)
        np.testing.assert_array_equal(first(index, layout), places)
        np.testing.assert_array_equal(first(emulated().pool(last(x, layout), **keywords(case, layout)), layout), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [c for c in SMALL if c not in DILATED], ids=str)
def test_average_and_its_gradient(case: Case, dtype: Any, layout: str) -> None:
    x, asked = integers(case.shape, dtype), keywords(case, layout)
    unit = np.finfo(dtype).eps
    for more in ({}, {"count_include_pad": False}, {"divisor_override": -3}):
        if more and case.adaptive is not None:
            continue
        options = (more.get("count_include_pad", True), more.get("divisor_override"))
        y = emulated().pool(last(x, layout), kind="avg", **asked, **more)
        # The sums are exact; the quotient is rounded, that of float16 as a float32 first.
        expected = case.pool.average(x, *options)
        quotient = expected.astype(np.float32) if dtype == np.float16 else expected
        np.testing.assert_array_equal(first(y, layout), quotient.astype(dtype), err_msg=str(more))
        g = integers(expected.shape, dtype, seed=2)
        got = emulated().average_gradient(last(x, layout).shape, last(g, layout), **asked, **more)
        shares = np.abs(case.pool.average_gradient(np.abs(g), *options))
        error = np.abs(first(got, layout) - case.pool.average_gradient(g, *options))
        assert np.all(error <= unit * (shares * 60 + 1e-30))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_placing_and_taking(case: Case, dtype: Any, layout: str) -> None:
    x = integers(case.shape, dtype)
    values, places = case.pool.maximum(x)
    g, index = integers(values.shape, dtype, seed=2), last(places.astype(np.int64), layout)
    size, asked = last(x, layout).shape, {"spatial": case.spatial, "layout": layout}
    for seed in range(2):
        emulated().configure(seed=seed)
        got = emulated().place(last(g, layout), index, size, add=True, **asked)
        np.testing.assert_array_equal(first(got, layout), oracle.placed(g, places, case.shape[2:], add=True))
        # Values that differ where they meet: the last one stays.
        numbered = np.arange(g.size, dtype=dtype).reshape(g.shape) % 1000
        got = emulated().place(last(numbered, layout), index, size, add=False, **asked)
        np.testing.assert_array_equal(first(got, layout), oracle.placed(numbered, places, case.shape[2:], add=False))
    flat = x.reshape(*x.shape[:2], -1)
    expected = np.take_along_axis(flat, places.reshape(*x.shape[:2], -1), axis=-1).reshape(places.shape)
    np.testing.assert_array_equal(first(emulated().take(last(x, layout), index, **asked), layout), expected)


def test_bfloat16() -> None:
    x = integers((2, 8, 6, 6), np.float32)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    for layout in LAYOUTS:
        y = emulated().pool(last(bits, layout), kernel=[2, 2], layout=layout)
        np.testing.assert_array_equal(
            (first(y, layout).astype(np.uint32) << 16).view(np.float32), x.reshape(2, 8, 3, 2, 3, 2).max((3, 5))
        )


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_arrays_that_are_views_of_larger_ones(dtype: Any, kind: str) -> None:
    x = integers((1, 4, 6, 8), dtype)
    expected = emulated().pool(x, kernel=[2, 2], layout="NHWC", kind=kind)
    gradient = emulated().average_gradient(x.shape, expected, kernel=[2, 2], layout="NHWC")
    emulated().configure(views=True)
    try:
        np.testing.assert_array_equal(emulated().pool(x, kernel=[2, 2], layout="NHWC", kind=kind), expected)
        got = emulated().average_gradient(x.shape, expected, kernel=[2, 2], layout="NHWC")
        np.testing.assert_array_equal(got, gradient)
    finally:
        emulated().configure()


def test_the_first_index_outside_is_found() -> None:
    index = np.zeros((1, 3, 30, 31), np.int64)
    assert emulated().bad_index(index, [1, 3, 2, 2], 2) == -1
    index.reshape(-1)[[2500, 1471, 1470]] = [-1, 4, 10**12]
    assert emulated().bad_index(index, [1, 3, 2, 2], 2) == 1470


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 37, 50), (1, 1, 70), (3, 33, 1), (1, 64, 32)])
def test_transpose(shape: tuple[int, ...], dtype: Any) -> None:
    x = integers(shape, dtype)
    np.testing.assert_array_equal(emulated().transpose(x), x.transpose(0, 2, 1))


def counted(run: Any, name: str) -> dict[str, int]:
    emulated().configure(counting=True)
    run()
    counts: dict[str, int] = emulated().counts()[name]
    return counts


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_transpose_meets_no_bank_twice_and_moves_whole_sectors(dtype: Any) -> None:
    x = integers((2, 64, 96), dtype)
    count = counted(lambda: emulated().transpose(x), "transpose")
    assert count["shared_load_wavefronts"] == count["shared_load_phases"]
    assert count["shared_store_wavefronts"] == count["shared_store_phases"]
    assert count["global_load_sectors"] == count["global_store_sectors"] == x.nbytes // 32


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_pools_move_whole_sectors(dtype: Any, kind: str) -> None:
    """2 x 2 windows, NHWC: each access of a thread is 16 bytes, and x and y pass once."""
    x = integers((1, 8, 8, 64), dtype)
    count = counted(lambda: emulated().pool(x, kernel=[2, 2], layout="NHWC", kind=kind), "pool_windows")
    assert count["global_load_sectors"] == count["global_load_bytes"] // 32 == x.nbytes // 32
    assert count["global_store_sectors"] == count["global_store_bytes"] // 32 == x.nbytes // 128
    # NCHW: lanes read every second column, so each sector is met by two accesses; results are whole sectors.
    x = integers((1, 2, 8, 64), dtype)
    count = counted(lambda: emulated().pool(x, kernel=[2, 2], kind=kind), "pool_windows")
    assert count["global_load_sectors"] == 2 * x.nbytes // 32
    assert count["global_store_sectors"] == x.nbytes // 128


def test_under_sanitizers() -> None:
    done = run_sanitized(
        "import numpy as np\n"
        "for layout, shape in (('NCHW', (2, 5, 9, 11)), ('NHWC', (2, 9, 11, 8)), ('NHWC', (2, 9, 11, 5))):\n"
        "  for t in ('f4', 'f8', 'f2'):\n"
        "    x = np.ones(shape, t)\n"
        "    for k in ({'kernel': [3, 3], 'stride': [2, 2], 'padding': [(1, 1)] * 2}, {'adaptive': [4, 1]},\n"
        "              {'adaptive': [1, 1]}, {'kernel': [2, 4], 'dilation': [2, 3]}):\n"
        "      y, i = m.pool(x, indices=True, layout=layout, **k)\n"
        "      m.pool(x, layout=layout, **k); m.place(y, i, x.shape, add=True, spatial=2, layout=layout)\n"
        "      m.take(x, i, spatial=2, layout=layout)\n"
        "      if 'dilation' not in k:\n"
        "        m.average_gradient(x.shape, m.pool(x, kind='avg', layout=layout, **k), layout=layout, **k)\n"
        "    m.transpose(x.reshape(2, -1, 5 if shape[3] != 8 else 8))\n"
    )
    assert done.returncode == 0, done.stderr[-4000:]
