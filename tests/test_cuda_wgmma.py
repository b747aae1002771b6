"""im2col on Hopper's tensor cores in the emulator, and the emulator's models of barriers, bulk copies and wgmma."""

from __future__ import annotations

import numpy as np
import pytest

from .cuda_emulator.load import emulated
from .test_cuda_conv import SAME, Case, arrays, oracle
from .test_cuda_emulator import trial
from .test_cuda_epilogue import ACTIVATIONS
from .test_cuda_half import HALVES, narrow, run, widen

CASES = [
    Case("pointwise", 1, 64, 64, (8, 8), (1, 1)),
    Case("tails", 2, 72, 136, (9, 10), (3, 3), padding=SAME),  # of pixels, of input and of output channels
    Case("strided", 3, 8, 8, (11, 7), (3, 3), (2, 2), SAME),
    Case("uneven", 2, 136, 16, (13, 9), (3, 2), (1, 2), ((2, 1), (0, 3)), (2, 2)),
    Case("wide_step", 1, 16, 24, (20, 20), (5, 5), (3, 3)),
    Case("many_images", 5, 128, 128, (5, 5), (3, 3), padding=SAME),
    Case("signal", 2, 24, 8, (19,), (5,), (2,), ((2, 2),), (1,)),
    Case("padding_only", 1, 8, 8, (2, 2), (3, 3), padding=((4, 4), (4, 4))),
]
BY_NAME = {"algorithm": "im2col_wgmma", "arch": 90}


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_small_integers_are_exact(case):
    given = [np.clip(a, -2, 2) for a in arrays(case, whole=True)]
    expected = oracle(case, "forward", *given)
    for seed in (0, 1):
        emulated().configure(seed=seed, lazy_copies=seed == 1, counting=True)
        kind = HALVES[(seed + CASES.index(case)) % 2]
        result = run(case, "forward", given, kind, "NHWC", **BY_NAME)
        assert np.array_equal(result, widen(narrow(expected, kind), kind))
        tiles = -(-case.batch * int(np.prod(case.out)) // 128) * -(-case.out_c // 128)
        steps = int(np.prod(case.kernel)) * -(-case.in_c // 64)
        assert emulated().counts()["im2col_wgmma"]["mma"] == 2 * tiles * steps * 4  # no product more than needed


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_bias_residual_and_activation(activation):
    case = CASES[1]
    given = [np.clip(a, -1, 1) for a in arrays(case, whole=True)]
    bias = np.arange(case.out_c) % 5 - 2.0
    residual = np.random.default_rng(5).integers(-4, 5, given[2].shape).astype(np.float64)
    exact = ACTIVATIONS[activation](oracle(case, "forward", *given) + bias.reshape(-1, 1, 1) + residual)
    emulated().configure()
    more = {"bias": narrow(bias, "float16"), "residual": narrow(np.moveaxis(residual, 1, -1).copy(), "float16")}
    result = run(case, "forward", given, "float16", "NHWC", activation=activation, **more, **BY_NAME)
    assert np.all(np.abs(result - exact) <= 2.0**-11 * 1.01 * np.abs(exact) + 2.0**-24)


def test_views_that_are_not_aligned_are_refused():
    """No other row takes them over, whose order of sums is another one; the bindings copy them before."""
    given = [np.clip(a, -2, 2) for a in arrays(CASES[0], whole=True)]
    emulated().configure(views=True)
    with pytest.raises(NotImplementedError, match="im2col_wgmma: an array is not aligned to 16 bytes"):
        run(CASES[0], "forward", given, "float16", "NHWC", **BY_NAME)


def test_it_is_taken_by_name_alone_and_says_what_it_cannot():
    asked = {"direction": "forward", "spatial": 2, "layout": "NHWC", "dtype": "float16", "groups": 1,
             "x": (32, 56, 56, 256), "w": (256, 256, 3, 3), "padding": ((1, 1), (1, 1))}  # fmt: skip
    rows = {row["name"]: row for row in emulated().explain(**asked, arch=90, multiprocessors=132)}
    assert "has not run on a device yet" in rows["im2col_wgmma"]["reason"] and rows["im2col"]["chosen"]
    named = emulated().explain(**asked, **BY_NAME, multiprocessors=132)
    found = {row["name"]: row for row in named}
    assert found["im2col_wgmma"]["chosen"] and found["im2col_wgmma"]["cycles"] < found["im2col"]["cycles"]
    for changes, reason in [
        ({"arch": 100}, "architecture 9.0"), ({"dtype": "float32"}, "16-bit"), ({"pooled": True}, "does not pool"),
        ({"layout": "NCHW", "x": (32, 256, 56, 56)}, "for NHWC"), ({"groups": 2, "w": (256, 128, 3, 3)}, "one group"),
        ({"x": (2, 56, 56, 12), "w": (8, 12, 3, 3)}, "multiples of 8"), ({"stride": (9, 9)}, "a tensor map can walk"),
    ]:  # fmt: skip
        if "pooled" in changes:  # convolved by its name, and pooled by a kernel of its own
            assert not emulated().plan(**(asked | BY_NAME | changes))["fused"]
            continue
        with pytest.raises(NotImplementedError, match=reason):
            emulated().plan(**(asked | BY_NAME | changes))


IM2COL = {"base": 4096, "element_bytes": 2, "extent": [64, 9, 7, 2], "stride": [128, 1152, 8064], "lower": [-1, -1],
          "upper": [-1, -1], "channels": 64, "pixels": 128, "step": [1, 1, 1, 1]}  # fmt: skip
TILED = {"base": 4096, "element_bytes": 2, "extent": [64, 128, 9], "stride": [128, 16384], "box": [64, 128, 1]}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("im2col", {"base": 4104}, "not aligned to 16 bytes"),
        ("im2col", {"extent": [64, 9, 7, 0]}, "the extent of axis 3 is not from 1"),
        ("im2col", {"stride": [120, 1080, 7560]}, "the stride of axis 0 is no multiple of 16 bytes"),
        ("im2col", {"stride": [128, 1152, 1 << 40]}, "the stride of axis 2 is 2.40 bytes"),
        ("im2col", {"stride": [128, 1168, 8176]}, "the stride of axis 1 is no multiple of that before"),
        ("im2col", {"step": [1, 9, 1, 1]}, "the step of axis 1 is not from 1 to 8"),
        ("im2col", {"channels": 128}, "longer than the swizzle"),
        ("im2col", {"channels": 4}, "row is no multiple of 16 bytes"),
        ("im2col", {"pixels": 1025}, "pixels of a column are not from 1 to 1024"),
        ("im2col", {"lower": [-129, 0]}, "a corner of the bounding box is not from -128 to 127"),
        ("im2col", {"upper": [-1, 128]}, "a corner of the bounding box is not from -128 to 127"),
        ("im2col", {"upper": [-1, -8]}, "the bounding box is empty"),
        ("tiled", {"base": 4104}, "not aligned to 16 bytes"),
        ("tiled", {"stride": [132, 16896]}, "the stride of axis 0 is no multiple of 16 bytes"),
        ("tiled", {"box": [64, 257, 1]}, "the box's extent of axis 1 is not from 1 to 256"),
        ("tiled", {"box": [72, 128, 1]}, "longer than the swizzle"),
    ],
)
def test_a_tensor_map_that_the_driver_would_refuse(kind, changes, message):
    encode, usual = {"im2col": (emulated().encode_im2col, IM2COL), "tiled": (emulated().encode_tiled, TILED)}[kind]
    encode(**usual)
    with pytest.raises(emulated().EmulationError, match=message):
        encode(**(usual | changes))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("group_beyond", "the operand is not in shared memory"),
        ("group_misaligned", "does not begin at a multiple of 1024 bytes"),
        ("group_unfenced", "wgmma without a fence"),
        ("fence_of_the_last_group", "wgmma without a fence"),
        ("fence_of_some", "threads of one warpgroup are at different instructions"),
        ("no_barrier_init", "used before it is initialised"),
        ("missing_arrival", "mbarrier is reached by 32 of 32 threads .* waits for ever"),
    ],
)
def test_mistakes_are_found(name, message):
    emulated().configure()
    with pytest.raises(emulated().EmulationError, match=message):
        trial(name)
