"""CUDA loop nests on arrays that begin anywhere, and on arrays of more than 2^31 elements, in the emulator."""

from __future__ import annotations

import mmap
import sys
from itertools import product

import numpy as np
import pytest

from .cuda_emulator.load import emulated
from .test_cuda_conv import DIRECTIONS, SAME, Case, arrays, call, oracle


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_arrays_that_are_views_of_larger_ones(direction, layout):
    """Aligned as their elements are and no better: nothing may be read or written 16 bytes at a time."""
    case = Case("view", 1, 8, 8, (6, 5), (3, 3), padding=SAME)
    given = arrays(case, whole=True)
    expected = oracle(case, direction, *given)
    emulated().configure(views=True)
    try:
        for name, dtype in product(emulated().algorithms(), [np.float32, np.float16]):
            try:
                result = call(case, direction, *(a.astype(dtype) for a in given), layout, algorithm=name)
            except NotImplementedError:
                continue
            assert np.array_equal(result, expected.astype(dtype)), (name, dtype)
    finally:
        emulated().configure()


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs pages that exist only where they are touched")


def sparse(dtype, *shape):
    """A real array of zeros, of which only the pages that are touched ever exist."""
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux's number; Python has the name since 3.12
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    return np.frombuffer(pages, dtype).reshape(shape)


@LINUX
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("algorithm", "dtype"),
    [
        ("direct", "f4"),
        ("im2col", "f4"),
        ("im2col", "f2"),
        ("reference", "f4"),
        ("depthwise", "f4"),
        ("depthwise", "f2"),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "weight_gradient"])
def test_arrays_beyond_31_bits_of_elements(algorithm, dtype, layout, direction):
    """An array of 3 * 2^30 elements, of which a large stride meets a few."""
    height, width, step = 32768, 32767, 4681
    last, groups = layout == "NHWC", 3 if algorithm == "depthwise" else 1
    x = sparse(dtype, 1, height, width, 3) if last else sparse(dtype, 1, 3, height, width)
    assert x.size > 2**31
    planes = np.moveaxis(x[0], -1, 0) if last else x[0]
    values = np.arange(3 * 8 * 7, dtype=np.float64).reshape(3, 8, 7) + 1
    planes[0:3, 0:height:step, 0:width:step] = values
    w = np.array([[1, 2, 3], [3, -2, 1], [-1, 2, 0]]) if groups == 1 else np.array([[1], [-2], [3]])
    asked = {"stride": (step, step), "groups": groups, "layout": layout, "algorithm": algorithm}
    if direction == "weight_gradient":
        y = np.zeros((1, 3, 8, 7), dtype)
        y[0, :, 7, 6] = [1, 2, -1]
        y = np.ascontiguousarray(np.moveaxis(y, 1, -1)) if last else y
        try:
            result = emulated().convolve(direction=direction, x=x, y=y, w=(*w.shape, 1, 1), **asked)
        except NotImplementedError:
            return
        assert np.array_equal(result[:, :, 0, 0], np.outer([1, 2, -1], values[:, 7, 6]))
        return
    result = emulated().convolve(direction="forward", x=x, w=w.astype(dtype).reshape(*w.shape, 1, 1), **asked)
    result = np.moveaxis(result[0], -1, 0) if last else result[0]
    expected = np.einsum("kc,chw->khw", w, values) if groups == 1 else w[..., None] * values
    assert np.array_equal(result, expected)


@LINUX
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pools_beyond_31_bits_of_elements(layout):
    height, width, step = 32768, 32767, 4681
    last = layout == "NHWC"
    x = sparse("f4", 1, height, width, 8) if last else sparse("f4", 1, 8, height, width)
    planes = np.moveaxis(x[0], -1, 0) if last else x[0]
    values = np.arange(8 * 8 * 7, dtype=np.float32).reshape(8, 8, 7) + 1
    planes[:, 0:height:step, 0:width:step] = values
    pooled = emulated().pool(x, kernel=[1, 1], stride=[step, step], layout=layout)
    pooled = np.moveaxis(pooled[0], -1, 0) if last else pooled[0]
    assert np.array_equal(pooled, values)
