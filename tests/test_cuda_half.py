"""Convolutions of float16 and bfloat16 in the emulator: exact on small integers, and within a bound of float64 sums."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from .cuda_emulator.load import emulated, run_sanitized
from .test_cuda_conv import CASES, DIRECTIONS, SAME, TILES, Case, arrays, call, oracle
from .test_cuda_epilogue import ACTIVATIONS

HALVES = ["float16", "bfloat16"]
# Bits of a significand: storing a result rounds it by half a unit of its last place.
BITS = {"float16": 11, "bfloat16": 8}
TILED = [c for c in CASES if c.name != "depthwise_wide"]


def narrow(x: np.ndarray, kind: str) -> np.ndarray:
    """The array as the element type; bfloat16 as its bits, rounded to nearest even."""
    if kind == "float16":
        return x.astype(np.float16)
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widen(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "float16":
        return x.astype(np.float64)
    return (np.ascontiguousarray(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def run(case: Case, direction: str, given: list[np.ndarray], kind: str, layout: str, **more: Any) -> np.ndarray:
    return widen(call(case, direction, *(narrow(a, kind) for a in given), layout, **more), kind)


def tiled(tile: tuple[str, int]) -> dict[str, Any]:
    return {"tile": tile[0], "splits": tile[1]}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", TILED, ids=[c.name for c in TILED])
def test_small_integers_are_exact(case: Case, direction: str, layout: str) -> None:
    given = [np.clip(a, -2, 2) for a in arrays(case, whole=True)]
    expected = oracle(case, direction, *given)
    turn = TILED.index(case) + (layout == "NHWC")
    for seed, (algorithm, tile) in enumerate(
        [*product(["im2col", "pointwise"], TILES), ("direct", None), ("depthwise", None)], turn
    ):
        kind = HALVES[seed % 2]
        emulated().configure(seed=seed, lazy_copies=seed // 2 % 2 == 1)
        more = tiled(tile) if tile and direction != "weight_gradient" else {}
        try:
            result = run(case, direction, given, kind, layout, algorithm=algorithm, **more)
        except NotImplementedError:
            assert algorithm != "im2col"
            continue
        stored = widen(narrow(expected, kind), kind)  # the sums are exact; a large one is rounded where it is stored
        assert np.array_equal(result, stored), (kind, algorithm, tile)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["plain_3x3", "channel_tails", "stride_and_dilation", "grouped", "signal", "volume"])
def test_against_float64(name: str, direction: str, layout: str) -> None:
    case = next(c for c in CASES if c.name == name)
    for kind, algorithm in product(HALVES, ["auto", "reference"]):
        given = [widen(narrow(a, kind), kind) for a in arrays(case)]
        expected = oracle(case, direction, *given)
        size = oracle(case, direction, *(np.abs(a) for a in given))
        result = run(case, direction, given, kind, layout, algorithm=algorithm, multiprocessors=100)
        # Products are exact in float32; a tensor core rounds each step's sum toward zero.
        bound = 2.0 ** -BITS[kind] * np.abs(expected) + 64 * 2.0**-23 * size + 2.0**-24
        assert np.all(np.abs(result - expected) <= bound), (kind, algorithm)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", ["forward", "input_gradient"])
@pytest.mark.parametrize("name", ["plain_3x3", "strided_gap", "depthwise", "pointwise_grouped"])
def test_bias_and_activation(name: str, direction: str, layout: str) -> None:
    case = next(c for c in CASES if c.name == name)
    given = [np.clip(a, -1, 1) for a in arrays(case, whole=True)]
    sums = oracle(case, direction, *given)
    bias = np.arange(sums.shape[1], dtype=np.float64) % 5 - 2
    sums = sums + bias.reshape(-1, 1, 1)
    residual = np.random.default_rng(5).integers(-4, 5, sums.shape).astype(np.float64)
    if direction == "forward":
        sums = sums + residual
    for turn, (activation, function) in enumerate(ACTIVATIONS.items()):
        for i, algorithm in enumerate(["im2col", "pointwise", "direct", "depthwise"]):
            kind = HALVES[(turn + i) % 2]
            more = {"bias": narrow(bias, kind), "activation": activation, "algorithm": algorithm}
            if direction == "forward":
                there = residual if layout == "NCHW" else np.moveaxis(residual, 1, -1).copy()
                more["residual"] = narrow(there, kind)
            if algorithm in ("im2col", "pointwise"):
                more |= tiled(TILES[turn % 3])
            try:
                result = run(case, direction, given, kind, layout, **more)
            except NotImplementedError:
                continue
            expected = function(sums)
            bound = (2.0 ** -BITS[kind] * 1.001 + 2.0**-21) * np.abs(expected) + 2.0**-24
            if activation not in ("silu", "hardswish"):
                expected, bound = widen(narrow(expected, kind), kind), 0
            assert np.all(np.abs(result - expected) <= bound), (activation, kind, algorithm)


def test_the_order_of_threads_does_not_show() -> None:
    case = CASES[2]
    given = arrays(case)
    for layout, tile, direction in product(["NCHW", "NHWC"], TILES, ["forward", "weight_gradient"]):
        results = set()
        for seed in range(3):
            emulated().configure(seed=seed, lazy_copies=seed == 1)
            more = tiled(tile) if direction == "forward" else {"multiprocessors": tile[1]}
            results.add(run(case, direction, given, "float16", layout, algorithm="im2col", **more).tobytes())
        assert len(results) == 1


def counted(layout: str, tile: tuple[str, int]) -> dict[str, dict[str, int]]:
    """A layer whose every tile is whole: 64 channels to 128, 8 x 8 pixels, 2 images."""
    case = Case("whole_tiles", 2, 64, 128, (8, 8), (3, 3), padding=SAME)
    emulated().configure(counting=True)
    given = arrays(case)
    run(case, "forward", given, "float16", layout, algorithm="im2col", **tiled(tile))
    counts: dict[str, dict[str, int]] = emulated().counts()
    return counts


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("chosen", "tile"), [(("large", 1), "128x128"), (("medium", 1), "64x64"), (("small", 4), "64x32")]
)
def test_tiles_waste_nothing(layout: str, chosen: tuple[str, int], tile: str) -> None:
    counts = counted(layout, chosen)
    count = counts[f"im2col_mma_{tile}"]
    assert count["mma"] == 2 * 128 * 64 * 9 * 64 // (16 * 8 * 16)
    # Neither the reads of fragments, nor those of c, nor the copies meet a bank twice.
    assert count["shared_load_wavefronts"] == count["shared_load_phases"]
    if tile != "64x32":
        assert count["global_store_sectors"] * 32 == count["global_store_bytes"] == 2 * 2 * 128 * 64
        assert "finish_splits" not in counts
    else:
        assert count["blocks"] == 8 * 4 and counts["finish_splits"]["global_store_bytes"] == 2 * 2 * 128 * 64


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_weight_gradients_waste_nothing(layout: str) -> None:
    case = Case("whole_tiles", 2, 64, 128, (8, 8), (3, 3), padding=SAME)
    emulated().configure(counting=True)
    run(case, "weight_gradient", arrays(case), "float16", layout, algorithm="im2col", multiprocessors=1)
    count = emulated().counts()["weight_gradient_mma"]
    assert count["mma"] == 2 * 128 * 64 * 9 * 64 // (16 * 8 * 16)
    assert count["shared_load_wavefronts"] == count["shared_load_phases"]
    assert count["shared_store_wavefronts"] == count["shared_store_phases"]


def test_refusals() -> None:
    given = arrays(CASES[1])
    with pytest.raises(NotImplementedError, match="direct: it has no weight gradient"):
        run(CASES[1], "weight_gradient", given, "float16", "NCHW", algorithm="direct")
    with pytest.raises(NotImplementedError, match="depthwise: each result sums 5 channels, not 1"):
        run(CASES[1], "forward", given, "float16", "NCHW", algorithm="depthwise")


def test_under_sanitizers() -> None:
    lines = ["import numpy as np"]
    for case in (CASES[1], CASES[2], CASES[9], CASES[13]):
        for layout, tile, channels in product(("NCHW", "NHWC"), TILES, (case.in_c, case.groups * 8)):
            x = (case.batch, channels, *case.size) if layout == "NCHW" else (case.batch, *case.size, channels)
            w = (case.out_c, channels // case.groups, *case.kernel)
            lines.append(
                f"m.convolve(direction='forward', x=np.ones({x}, 'f2'), w=np.ones({w}, 'f2'), padding={case.padding},"
                f" groups={case.groups}, layout={layout!r}, algorithm='im2col', tile={tile[0]!r}, splits={tile[1]})"
            )
    lines.append(
        "for layout in ('NCHW', 'NHWC'):\n"
        "  x, y = np.ones((2, 7, 7, 8), 'f2'), np.ones((2, 7, 7, 8), 'f2')\n"
        "  w, more = np.ones((8, 1, 3, 3), 'f2'), {'padding': [(1, 1)] * 2, 'layout': layout}\n"
        "  if layout == 'NCHW': x, y = (np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in (x, y))\n"
        "  m.convolve(x=x, w=w, groups=8, algorithm='depthwise', residual=y, activation='silu', **more)\n"
        "  m.convolve(x=x, y=y, w=(8, 8, 3, 3), direction='weight_gradient', algorithm='im2col', **more)\n"
        "  for name in ('direct', 'im2col', 'reference'):\n"
        "    m.convolve(x=x, w=np.ones((8, 8, 3, 3), 'f2'), algorithm=name, pooled=True, **more)"
    )
    done = run_sanitized("\n".join(lines))
    assert done.returncode == 0, done.stderr[-4000:]
