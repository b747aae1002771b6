"""Pooling against its definition (pool_oracle.py): values, indices, gradients, on every ISA and number of threads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core, grad

from . import pool_oracle as oracle

ISAS: list[str] = _core.config()["isas_available"]
DTYPES = (np.float32, np.float64)
LAYOUTS = ("NCHW", "NHWC")


@dataclass(frozen=True)
class Case:
    """A pooling of arrays (batch, channels, *sizes); numbers are per axis or for all axes, pads are (low, high)."""

    name: str
    shape: tuple[int, ...]
    kernel: Any = 2
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    adaptive: Any = None

    def __str__(self) -> str:
        return self.name

    @property
    def spatial(self) -> int:
        return len(self.shape) - 2

    def per_axis(self, value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, tuple) else (value,) * self.spatial

    @cached_property  # the cases are few, and each is asked for again for every type, layout and ISA
    def pool(self) -> oracle.Pool:
        sizes = self.shape[2:]
        if self.adaptive is not None:
            axes = [oracle.adaptive_axis(s, o or s) for s, o in zip(sizes, self.per_axis(self.adaptive), strict=True)]
            return oracle.Pool(sizes, axes)
        kernel = self.per_axis(self.kernel)
        stride = kernel if self.stride is None else self.per_axis(self.stride)
        pads = [p if isinstance(p, tuple) else (p, p) for p in self.per_axis(self.padding)]
        dilation = self.per_axis(self.dilation)
        return oracle.Pool(
            sizes,
            [
                oracle.axis(*numbers, self.ceil_mode)
                for numbers in zip(sizes, kernel, stride, pads, dilation, strict=True)
            ],
        )


CASES = [
    Case("lecture", (2, 25, 28, 28)),
    Case("3x3s2p1", (1, 5, 56, 57), 3, 2, 1),
    Case("3x3s2_rows_of_whole_vectors", (1, 3, 33, 64), 3, 2),
    Case("3x3s1p1", (2, 3, 17, 15), 3, 1, 1),
    Case("2x2s1_wider_than_all_vectors", (1, 2, 9, 50), 2, 1),
    Case("5x5s1p2", (1, 19, 20, 21), 5, 1, 2),
    Case("kernel_1_stride_2", (1, 3, 9, 9), 1, 2),
    Case("stride_3", (1, 4, 30, 61), 3, 3),
    Case("stride_4", (1, 4, 30, 75), 4, 4),
    Case("stride_4_above_kernel", (2, 3, 13, 37), 2, 4, 1),
    Case("stride_5", (1, 4, 31, 40), 6, 5, 3),
    Case("global", (3, 70, 7, 7), 7),
    Case("nearly_global", (2, 5, 7, 8), 7),
    Case("long_windows", (1, 2, 40, 160), (3, 70), (2, 9), (1, 35)),
    Case("ceil", (1, 7, 28, 27), 3, 2, 0, ceil_mode=True),
    Case("ceil_padded", (2, 2, 4, 4), 3, 2, 1, ceil_mode=True),
    Case("ceil_kernel_above_input", (1, 2, 6, 6), 8, 3, ceil_mode=True),
    Case("ceil_last_window_would_start_in_padding", (1, 2, 5, 5), 2, 3, 1, ceil_mode=True),
    Case("one_pixel", (2, 3, 1, 1), 1),
    Case("one_pixel_padded", (2, 3, 1, 1), 3, 1, 1),
    Case("one_column", (1, 33, 40, 1), (3, 1), (2, 1), (1, 0)),
    Case("one_row", (1, 2, 1, 90), (1, 4), (1, 2), (0, 2)),
    Case("asymmetric", (1, 17, 11, 12), 3, 2, ((0, 1), (2, 0))),
    Case("onnx_pads", (1, 3, 8, 8), 3, 1, ((2, 2), (2, 2))),
    Case("signal", (2, 5, 101), 4, 3, 2),
    Case("long_signal", (1, 1, 5000), 3, 1, 1),
    Case("volume", (1, 6, 9, 10, 11), 3, 2, 1),
    Case("volume_uneven", (2, 3, 5, 6, 18), (2, 3, 2), (1, 2, 2), (1, 0, 1)),
    Case("adaptive_even", (1, 5, 12, 28), adaptive=(4, 7)),
    Case("adaptive_uneven", (2, 18, 13, 13), adaptive=6),
    Case("adaptive_larger_than_input", (1, 3, 4, 5), adaptive=(7, 9)),
    Case("adaptive_none", (1, 3, 6, 5), adaptive=(None, 2)),
    Case("adaptive_signal", (2, 3, 50), adaptive=7),
    Case("adaptive_volume", (1, 4, 5, 6, 7), adaptive=(2, 3, 4)),
]
DILATED = [
    Case("dilated", (1, 3, 20, 21), 3, 1, 2, 2),
    Case("dilated_stride_2", (1, 18, 20, 45), 3, 2, 2, (2, 3)),
    Case("dilated_volume", (1, 2, 7, 8, 20), (2, 3, 3), 1, 1, (1, 2, 2)),
    Case("dilated_ceil", (1, 2, 15, 16), 2, 3, 1, 4, ceil_mode=True),
]


def integers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Few values, so that sums are exact and maxima are often reached twice."""
    return np.random.default_rng(seed).integers(-6, 7, shape).astype(dtype)


def with_specials(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(dtype)
    x[rng.random(shape) < 0.4] = -np.inf
    x[rng.random(shape) < 0.08] = np.nan
    x[rng.random(shape) < 0.05] = np.inf
    return x


def last(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def first(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "NCHW" else np.moveaxis(x, -1, 1)


def pooled(case: Case, kind: str, x: np.ndarray, **more: Any) -> Any:
    """Call fastconv for a case; kind is "max" or "avg"."""
    if case.adaptive is not None:
        return getattr(fastconv, f"adaptive_{kind}_pool{case.spatial}d")(x, case.adaptive, **more)
    if kind == "max":
        more["dilation"] = case.dilation
    function = getattr(fastconv, f"{kind}_pool{case.spatial}d")
    return function(x, case.kernel, case.stride, case.padding, ceil_mode=case.ceil_mode, **more)


def average_gradient(case: Case, size: tuple[int, ...], g: np.ndarray, **more: Any) -> np.ndarray:
    if case.adaptive is not None:
        result: np.ndarray = getattr(grad, f"adaptive_avg_pool{case.spatial}d")(size, g, **more)
        return result
    function = getattr(grad, f"avg_pool{case.spatial}d")
    result = function(size, g, case.kernel, case.stride, case.padding, case.ceil_mode, **more)
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("data", [integers, with_specials], ids=["integers", "specials"])
@pytest.mark.parametrize("case", CASES + DILATED, ids=str)
def test_maximum(case: Case, data: Any, isa: str, dtype: Any, layout: str) -> None:
    _core.hold_isa(isa)
    x = data(case.shape, dtype)
    values, places = case.pool.maximum(x)
    source = last(x, layout)
    y, indices = pooled(case, "max", source, return_indices=True, layout=layout)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(first(y, layout), values)
    np.testing.assert_array_equal(first(indices, layout), places)
    np.testing.assert_array_equal(first(pooled(case, "max", source, layout=layout), layout), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_average(case: Case, isa: str, dtype: Any, layout: str) -> None:
    _core.hold_isa(isa)
    x = integers(case.shape, dtype)
    # The sums are exact; what is rounded is one quotient.
    for more in ({}, {"count_include_pad": False}, {"divisor_override": -3}):
        if more and (case.adaptive is not None or (case.spatial == 1 and "divisor_override" in more)):
            continue
        expected = case.pool.average(x, more.get("count_include_pad", True), more.get("divisor_override"))
        y = pooled(case, "avg", last(x, layout), layout=layout, **more)
        np.testing.assert_array_equal(first(y, layout), expected.astype(dtype), err_msg=str(more))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES + DILATED, ids=str)
def test_gradients(case: Case, isa: str, dtype: Any, layout: str) -> None:
    _core.hold_isa(isa)
    x, pool = integers(case.shape, dtype), case.pool
    source = last(x, layout)
    y, indices = pooled(case, "max", source, return_indices=True, layout=layout)
    g = integers(first(y, layout).shape, dtype, seed=2)
    name = f"{'adaptive_' if case.adaptive is not None else ''}max_pool{case.spatial}d"
    got = getattr(grad, name)(source.shape, last(g, layout), indices, layout=layout)
    expected = oracle.placed(g, pool.maximum(x)[1], pool.sizes, add=True)
    np.testing.assert_array_equal(first(got, layout), expected)
    if case in DILATED:
        return
    got = average_gradient(case, source.shape, last(g, layout), layout=layout)
    # One rounding for each share and each sum of shares; a window holds at most as many as there are results.
    shares = pool.average_gradient(np.abs(g))
    unit = np.finfo(dtype).eps
    assert np.all(np.abs(first(got, layout) - pool.average_gradient(g)) <= unit * (shares * 60 + 1e-30))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [c for c in CASES + DILATED if np.prod(c.shape) > 2000], ids=str)
def test_threads_change_nothing(case: Case, layout: str) -> None:
    # Several images, so that there is enough work for a second thread.
    shape = (case.shape[0] * 24, *case.shape[1:])
    x = last(np.random.default_rng(0).standard_normal(shape).astype(np.float32), layout)
    answers = []
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        y, indices = pooled(case, "max", x, return_indices=True, layout=layout)
        answers.append([y, indices, getattr(grad, f"max_pool{case.spatial}d")(x.shape, y, indices, layout=layout)])
        if case not in DILATED:
            mean = pooled(case, "avg", x, layout=layout)
            answers[-1] += [mean, average_gradient(case, x.shape, mean, layout=layout)]
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            assert one.tobytes() == two.tobytes()


def test_lecture() -> None:
    maps = np.array(
        [[[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]],
         [[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]]],
        np.float32,
    )  # fmt: skip
    np.testing.assert_array_equal(fastconv.max_pool2d(maps, 2), [[[3, 0], [3, 1]], [[-1, 1], [0, 3]]])


def test_divisor_stops_at_the_padding() -> None:
    y = fastconv.avg_pool2d(np.ones((1, 1, 4, 4)), 3, 2, 1, ceil_mode=True)
    np.testing.assert_allclose(y[0, 0], np.outer([2 / 3, 1, 1 / 2], [2 / 3, 1, 1 / 2]), rtol=1e-15)


@pytest.mark.parametrize("size", [(7, 8), (9, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3)])
def test_same_is_the_rule_of_tensorflow(size: tuple[int, int], kernel: int, stride: int) -> None:
    x = integers((2, 3, *size), np.float64)
    pool = oracle.Pool(size, [oracle.same_axis(s, kernel, stride) for s in size])
    np.testing.assert_array_equal(fastconv.max_pool2d(x, kernel, stride, "same"), pool.maximum(x)[0])
    np.testing.assert_array_equal(fastconv.avg_pool2d(x, kernel, stride, "same"), pool.average(x, False))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [CASES[0], CASES[1], Case("signal", (2, 3, 31), 3), CASES[26]], ids=str)
def test_unpool(case: Case, layout: str) -> None:
    x = integers(case.shape, np.float32)
    y, indices = pooled(case, "max", last(x, layout), return_indices=True, layout=layout)
    size = case.shape[2:]
    unpool, gradient = (getattr(m, f"max_unpool{case.spatial}d") for m in (fastconv, grad))
    got = unpool(y, indices, case.kernel, case.stride, case.padding, output_size=size, layout=layout)
    planes = first(indices, layout)
    np.testing.assert_array_equal(first(got, layout), oracle.placed(first(y, layout), planes, size, add=False))
    g = integers(got.shape, np.float32, seed=3)
    flat = first(g, layout).reshape(*case.shape[:2], -1)
    expected = np.take_along_axis(flat, planes.reshape(*case.shape[:2], -1), axis=-1).reshape(planes.shape)
    np.testing.assert_array_equal(first(gradient(g, indices, layout=layout), layout), expected)


def test_unpool_size() -> None:
    y, indices = fastconv.max_pool2d(integers((1, 2, 6, 6), np.float32), 2, return_indices=True)
    assert fastconv.max_unpool2d(y, indices, 2).shape == (1, 2, 6, 6)
    assert fastconv.max_unpool2d(y, indices, 2, output_size=(7, 7)).shape == (1, 2, 7, 7)
    assert fastconv.max_unpool2d(y, indices, 2, output_size=(1, 2, 7, 6)).shape == (1, 2, 7, 6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_kind(layout: str) -> None:
    x = integers((2, 5, 12, 14), np.float32)
    expected = fastconv.max_pool2d(last(x, layout), 3, 2, 1, layout=layout)
    wide = np.zeros((2, 5, 24, 14), np.float32)
    wide[:, :, ::2] = x
    unaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (
        wide[:, :, ::2],
        x[:, :, ::-1, ::-1][:, :, ::-1, ::-1],
        x.astype(">f4"),
        unaligned,
        frozen,
        np.asfortranarray(x),
    ):
        view = other if layout == "NCHW" else np.moveaxis(other, 1, -1)
        np.testing.assert_array_equal(fastconv.max_pool2d(view, 3, 2, 1, layout=layout), expected)
    np.testing.assert_array_equal(fastconv.max_pool2d(last(x, layout)[1], 3, 2, 1, layout=layout), expected[1])
    out = np.empty_like(expected)
    assert fastconv.max_pool2d(last(x, layout), 3, 2, 1, layout=layout, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_empty_batch() -> None:
    x = np.empty((0, 3, 8, 8), np.float32)
    y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
    assert y.shape == indices.shape == (0, 3, 4, 4)
    assert fastconv.adaptive_avg_pool2d(x, 2).shape == (0, 3, 2, 2)
    assert grad.max_pool2d(x.shape, y, indices).shape == x.shape
    assert grad.avg_pool2d(x.shape, y, 2).shape == x.shape
    assert fastconv.max_unpool2d(y, indices, 2).shape == x.shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_outside_the_result_is_written(layout: str) -> None:
    """Vectors reach beyond a row; never beyond the array."""
    for size in (1, 3, 7, 8, 15, 16, 17, 33):
        x = last(integers((1, 3, size, size), np.float32), layout)
        y = fastconv.max_pool2d(x, 3, 1, 1, layout=layout)
        room = np.full(y.size + 64, 99, np.float32)
        out = room[32:-32].reshape(y.shape)
        fastconv.max_pool2d(x, 3, 1, 1, layout=layout, out=out)
        np.testing.assert_array_equal(out, y)
        assert np.all(room[:32] == 99) and np.all(room[-32:] == 99)
