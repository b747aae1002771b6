"""Convolutions of one tap as plain matrix products, in the emulator; test_cuda_conv.py has their results."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from .cuda_emulator.load import emulated
from .test_cuda_conv import TILES, UNITS, Case, arrays, call, oracle
from .test_cuda_half import narrow, widen
from .test_cuda_plan import H100, RTX_4090, explained, layer, plan

# 64 channels to 128, 8 x 8 pixels, 2 images: every tile is whole.
WHOLE = Case("whole_tiles", 2, 64, 128, (8, 8), (1, 1))
PARTS = Case("parts", 3, 48, 80, (4, 6), (1, 1), groups=2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("kind", "macs"), [("tf32", 1024), ("fp32", 1024 / 3), ("float16", 2048)])
def test_counts(kind, macs, tile, layout):
    """No product more than needed, no bank met twice, each element of a tile copied once and in whole sectors."""
    given = [np.clip(a, -2, 2) for a in arrays(WHOLE, whole=True)]
    if kind == "float16":
        given = [narrow(a, kind) for a in given]
    precision = "fp32" if kind == "float16" else kind
    emulated().configure(counting=True)
    more = {"algorithm": "pointwise", "precision": precision, "tile": tile[0], "splits": tile[1]}
    result = call(WHOLE, "forward", *given, layout, **more)
    assert np.array_equal(result, oracle(WHOLE, "forward", *given))
    counts = emulated().counts()
    assert "pack_rows" not in counts  # the filters are read where they are
    (count,) = [c for name, c in counts.items() if name.startswith("im2col_mma")]
    assert count["mma"] == 2 * 64 * 64 * 128 / macs
    assert count["shared_load_wavefronts"] == count["shared_load_phases"]
    m, n = {"large": (128, 64 if kind == "fp32" else 128), "medium": (64, 64), "small": (64, 32)}[tile[0]]
    copied = given[0].itemsize * 64 * 128 * (128 // m + 128 // n)  # pixels for each tile of channels, and the other way
    assert count["global_load_bytes"] == copied == 32 * count["global_load_sectors"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", ["forward", "input_gradient"])
@pytest.mark.parametrize("case", [WHOLE, PARTS], ids=lambda case: case.name)
def test_the_same_bits_as_im2col(case, direction, layout):
    """A tile's sums are the same in the same order, also of arrays that begin anywhere."""
    given = arrays(case)
    asked = [(precision, "f4") for precision in ("fp32", "tf32")] + [("fp32", "f2")]
    for seed, ((precision, dtype), (tile, splits)) in enumerate(product(asked, TILES)):
        there = [a.astype(dtype) for a in given]
        more: dict[str, Any] = {"precision": precision, "tile": tile, "splits": splits}
        # Of float32 im2col might take multiply-adds: with the rates of an A100 it does not.
        wanted = call(case, direction, *there, layout, algorithm="im2col", multiprocessors=1000, **more)
        for views in (False, True):
            emulated().configure(seed=seed, lazy_copies=seed % 2 == 1, views=views)
            try:
                found = call(case, direction, *there, layout, algorithm="pointwise", multiprocessors=1000, **more)
            except NotImplementedError as refusal:
                assert views and direction == "forward" and "the weights are not aligned to 16 bytes" in str(refusal)
                continue
            finally:
                emulated().configure()
            assert found.tobytes() == wanted.tobytes(), (precision, dtype, tile, views)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_pixel(value):
    x, w, y = (np.abs(a) + np.float32(0.5) for a in arrays(PARTS))
    x[0, 2, 1, 4] = value
    for layout, precision in product(["NCHW", "NHWC"], ["fp32", "tf32"]):
        result = call(PARTS, "forward", x, w, y, layout, algorithm="pointwise", precision=precision)
        touched = np.zeros(result.shape, bool)
        touched[0, :40, 1, 4] = True  # of the first group
        assert np.all(np.isfinite(result[~touched]))
        assert np.array_equal(result[touched], np.full(40, value, np.float32), equal_nan=True)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves(kind):
    given = [widen(narrow(a, kind), kind) for a in arrays(PARTS)]
    for layout, direction in product(["NCHW", "NHWC"], ["forward", "input_gradient"]):
        expected = oracle(PARTS, direction, *given)
        size = oracle(PARTS, direction, *map(np.abs, given))
        there = [narrow(a, kind) for a in given]
        result = widen(call(PARTS, direction, *there, layout, algorithm="pointwise"), kind)
        bits = 11 if kind == "float16" else 8
        assert np.all(np.abs(result - expected) <= 2.0**-bits * np.abs(expected) + 64 * 2.0**-23 * size + 2.0**-24)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [1, 32])
def test_it_is_chosen(dtype, layout, batch):
    more = {"dtype": dtype, **H100}
    for in_c, out_c, size in [(64, 256, 56), (256, 512, 28), (1024, 256, 28), (96, 576, 28)]:
        assert plan(layer(batch, in_c, out_c, size, 1, layout), **more)["algorithm"] == "pointwise"
    assert plan(layer(batch, 512, 2048, 7, 1, "NCHW"), **more)["algorithm"] == "im2col"
    if dtype == "float32":  # where three products take longer than multiply-adds
        assert plan(layer(32, 512, 512, 28, 1, layout), dtype=dtype, **RTX_4090)["simt"]
    pooled = plan(layer(batch, 64, 256, 56, 1, layout, pooled=True), **more)
    assert pooled["algorithm"] in ("im2col", "pointwise") and pooled["fused"] == (pooled["algorithm"] == "im2col")


def test_what_it_refuses():
    asked = layer(2, 64, 64, 8, 1, "NHWC")
    for changes, reason in [
        ({"stride": (2, 2)}, "kernel 1, stride 1"), ({"padding": [(0, 1), (0, 0)]}, "no padding"),
        ({"w": (64, 64, 1, 3)}, "kernel 1"), ({"dtype": "float64"}, "float64"),
        ({"precision": "fp32-simt"}, "no fused multiply-adds"), ({"x": (2, 8, 8, 6), "w": (8, 6, 1, 1)}, "channels"),
        ({"layout": "NCHW", "x": (2, 64, 7, 7)}, "a plane is no multiple of 16 bytes"),
        ({"direction": "weight_gradient", "y": (2, 8, 8, 64)}, "no weight gradient"),
    ]:  # fmt: skip
        assert reason in explained(asked | changes)["pointwise"]["reason"]


@pytest.mark.parametrize("precision", [p for p in UNITS if p != "fp32-simt"])
def test_exact_sums_do_not_depend_on_the_batch(precision):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((9, 40, 4, 4)).astype("f4"), rng.standard_normal((70, 40, 1, 1)).astype("f4")
    more = {"w": w, "algorithm": "exact", "precision": precision, "multiprocessors": 8}
    whole = emulated().convolve(x=x, **more)
    assert np.array_equal(whole[3:5], emulated().convolve(x=x[3:5], **more))
