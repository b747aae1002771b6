"""What becomes of a CUDA kernel's sums, in the emulator: bias, residual, activation, and the pool after it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from .cuda_emulator.load import emulated
from .test_cuda_conv import CASES, SAME, Case, arrays, call, one_of_each, oracle

ACTIVATIONS = {
    "none": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "relu6": lambda v: np.clip(v, 0, 6),
    "silu": lambda v: v / (1 + np.exp(-v)),
    "hardswish": lambda v: v * np.clip(v + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("name", ["plain_3x3", "strided_gap", "depthwise", "pointwise_planes"])
@pytest.mark.parametrize("direction", ["forward", "input_gradient"])
def test_bias_and_activation(name, direction):
    case = next(c for c in CASES if c.name == name)
    x, w, y = arrays(case, whole=True)
    sums = oracle(case, direction, x, w, y)
    bias = np.arange(sums.shape[1], dtype=np.float32) - 2
    sums = sums + bias.reshape(-1, 1, 1)
    residual = np.random.default_rng(5).integers(-4, 5, sums.shape).astype(np.float32)
    if direction == "forward":
        sums = sums + residual
    for turn, activation in enumerate(ACTIVATIONS):
        expected = ACTIVATIONS[activation](sums)
        for layout, (_, keywords) in product(["NCHW", "NHWC"], one_of_each(turn)):
            more = {"bias": bias, "activation": activation}
            if direction == "forward":
                more["residual"] = residual if layout == "NCHW" else np.moveaxis(residual, 1, -1).copy()
            try:
                result = call(case, direction, x, w, y, layout, **keywords, **more)
            except NotImplementedError:
                continue
            if activation in ("silu", "hardswish"):  # their sums are exact too; each rounds a few times
                assert np.all(np.abs(result - expected) <= 6 * 2.0**-24 * np.abs(expected) + 1e-35), (
                    activation,
                    keywords,
                )
            else:
                assert np.array_equal(result, expected), (activation, keywords, layout)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["plain_3x3", "channel_tails", "stem", "uneven", "grouped", "depthwise", "volume"])
def test_a_convolution_and_its_pool(name, layout):
    """In one kernel where the row can, in two where not; small integers, so that all are exact."""
    case = next(c for c in CASES if c.name == name)
    x, w, y = (np.clip(a, -2, 2) for a in arrays(case, whole=True))
    height, width = (extent // 2 for extent in case.out[-2:])
    bias = np.arange(case.out_c) - 5.0
    sums = oracle(case, "forward", x, w, y) + bias.reshape(-1, *(1,) * len(case.size))
    windows = sums[..., : 2 * height, : 2 * width].reshape(*sums.shape[:-2], height, 2, width, 2)
    expected = np.maximum(windows.max((-1, -3)), 0)
    for turn, (dtype, seed) in enumerate(product([np.float32, np.float16, np.float64], [0, 1])):
        for _, keywords in one_of_each(turn):
            emulated().configure(seed=seed, lazy_copies=seed == 1)
            given = {"bias": bias.astype(dtype), "activation": "relu", "pooled": True, **keywords}
            try:
                result = call(case, "forward", *(a.astype(dtype) for a in (x, w, y)), layout, **given)
            except NotImplementedError:
                continue
            assert np.array_equal(result, expected.astype(dtype)), (dtype, keywords)


def test_a_pool_passes_nan_and_writes_only_maxima():
    case = Case("pooled", 1, 16, 64, (8, 16), (3, 3), padding=SAME)
    x, w, y = arrays(case, whole=True)
    x[0, 3, 3, 5] = np.nan
    touched = np.zeros((4, 8), bool)
    touched[1:3, 2:4] = True
    for algorithm, layout in product(["direct", "im2col"], ["NCHW", "NHWC"]):
        emulated().configure(counting=True)
        result = call(case, "forward", x, w, y, layout, algorithm=algorithm, pooled=True)
        assert np.array_equal(np.isnan(result[0]), np.broadcast_to(touched, (64, 4, 8)))
        counts = emulated().counts()
        assert "pool_windows" not in counts
        (count,) = [c for name, c in counts.items() if name.startswith(("direct", "im2col"))]
        assert count["global_store_bytes"] == result.nbytes == 32 * count["global_store_sectors"]


def test_a_pool_needs_windows():
    case = Case("thin", 1, 2, 2, (1, 9), (1, 1))
    with pytest.raises(ValueError, match="expected a forward convolution of two or three axes with results of at"):
        call(case, "forward", *arrays(case), pooled=True)
