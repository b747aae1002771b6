"""Every CUDA loop nest, in the emulator, against a float64 sum written differently from it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from .cuda_emulator.load import emulated, run_sanitized


@dataclass(frozen=True)
class Case:
    name: str
    batch: int
    in_c: int
    out_c: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    @property
    def out(self):
        parts = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=False)
        return tuple(len(range(0, i + sum(p) - (k - 1) * d, s)) for i, k, s, p, d in parts)


SAME = ((1, 1), (1, 1))
CASES = [
    Case("one_pixel", 1, 1, 1, (1, 1), (1, 1)),
    Case("plain_3x3", 2, 5, 7, (9, 11), (3, 3), padding=SAME),
    Case("channel_tails", 1, 17, 70, (6, 5), (3, 3), padding=SAME),
    Case("pointwise", 2, 20, 33, (7, 7), (1, 1)),
    Case("pointwise_planes", 2, 20, 70, (6, 8), (1, 1)),
    Case("pointwise_grouped", 2, 24, 48, (4, 4), (1, 1), groups=3),
    Case("stem", 1, 3, 16, (23, 21), (7, 7), (2, 2), ((3, 3), (3, 3))),
    Case("strided_gap", 1, 4, 6, (11, 12), (2, 2), (3, 3)),
    Case("dilated", 1, 6, 8, (13, 12), (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    Case("stride_and_dilation", 2, 3, 4, (15, 14), (3, 2), (2, 3), ((2, 1), (0, 3)), (3, 2)),
    Case("uneven", 1, 4, 5, (8, 10), (4, 3), (1, 2), ((0, 3), (2, 0))),
    Case("grouped", 2, 12, 18, (7, 8), (3, 3), padding=SAME, groups=3),
    Case("depthwise", 2, 9, 9, (10, 13), (3, 3), padding=SAME, groups=9),
    Case("depthwise_5x5_strided", 1, 6, 12, (14, 15), (5, 5), (2, 2), ((2, 2), (2, 2)), groups=6),
    Case("depthwise_wide", 1, 36, 36, (5, 40), (3, 3), padding=SAME, groups=36),
    Case("padding_only", 1, 2, 3, (2, 2), (3, 3), padding=((4, 4), (4, 4))),
    Case("signal", 2, 4, 6, (19,), (5,), (2,), ((2, 2),), (1,)),
    Case("volume", 1, 3, 4, (5, 6, 7), (3, 2, 3), (1, 2, 1), ((1, 1), (0, 1), (1, 1)), (1, 1, 2)),
]
DIRECTIONS = ["forward", "input_gradient", "weight_gradient"]
IDS = [case.name for case in CASES]


def taps(case):
    """Each tap, with the places of the padded input that it meets."""
    for tap in product(*map(range, case.kernel)):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, s, o in zip(tap, case.dilation, case.stride, case.out, strict=False)
            ),
        )


def oracle(case, direction, x, w, y):
    """The result, and the same sum over absolute values: what its rounding error is measured by."""
    x, w, y = (np.asarray(a, np.float64) for a in (x, w, y))
    g, pads = case.groups, [(0, 0), (0, 0), *case.padding]
    split = lambda a, axis: a.reshape(*a.shape[:axis], g, a.shape[axis] // g, *a.shape[axis + 1 :])  # noqa: E731
    padded = np.pad(x, pads)
    result = {
        "forward": np.zeros(y.shape),
        "input_gradient": np.zeros(padded.shape),
        "weight_gradient": np.zeros(w.shape),
    }[direction]
    for tap, places in taps(case):
        at = (slice(None), slice(None), *places)
        filters, source, slopes = split(w, 0)[(..., *tap)], split(padded[at], 1), split(y, 1)
        if direction == "forward":
            result += np.einsum("gkc,ngc...->ngk...", filters, source).reshape(y.shape)
        elif direction == "input_gradient":
            result[at] += np.einsum("gkc,ngk...->ngc...", filters, slopes).reshape(padded[at].shape)
        else:
            flat = [a.reshape(*a.shape[:3], -1) for a in (source, slopes)]
            result[(slice(None), slice(None), *tap)] = np.einsum("ngcp,ngkp->gkc", *flat).reshape(w.shape[:2])
    if direction == "input_gradient":
        inside = tuple(slice(lo, lo + i) for i, (lo, _) in zip(case.size, case.padding, strict=False))
        result = result[(slice(None), slice(None), *inside)]
    return result


def arrays(case, dtype=np.float32, whole=False):
    rng = np.random.default_rng(len(case.name))
    shapes = (
        (case.batch, case.in_c, *case.size),
        (case.out_c, case.in_c // case.groups, *case.kernel),
        (case.batch, case.out_c, *case.out),
    )
    if whole:
        return [rng.integers(-4, 5, shape).astype(dtype) for shape in shapes]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def call(case, direction, x, w, y, layout="NCHW", **keywords):
    """Run one direction; arrays are channels first here, whatever the layout of the call."""
    last = layout == "NHWC"
    there = (lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1))) if last else np.ascontiguousarray
    shape = lambda a: there(a).shape  # noqa: E731
    given = {
        "forward": {"x": there(x), "w": w},
        "input_gradient": {"x": shape(x), "w": w, "y": there(y)},
        "weight_gradient": {"x": there(x), "w": w.shape, "y": there(y)},
    }[direction]
    result = emulated().convolve(
        direction=direction, spatial=len(case.size), stride=case.stride, padding=case.padding, dilation=case.dilation,
        groups=case.groups, layout=layout, **given, **keywords,
    )  # fmt: skip
    return np.moveaxis(result, -1, 1) if last and direction != "weight_gradient" else result


def check(case, direction, result, x, w, y, unit):
    """|error| <= unit * sum of |products|, plus what storing rounds."""
    expected = oracle(case, direction, x, w, y)
    size = oracle(case, direction, np.abs(x), np.abs(w), np.abs(y))
    assert result.shape == expected.shape
    worst = np.abs(result - expected) - unit * size
    assert np.all(worst <= 0), f"error {np.max(np.abs(result - expected) / (size + 1e-30)):.3g} of the sum's size"


# Rounding of a float32 sum: half an ulp for each of a few dozen additions in a row, as on the CPU; tf32 rounds each
# operand by up to 2^-11. Where sums are in double only storing rounds.
UNITS = {"fp32": 32 * 2.0**-24, "fp32-simt": 32 * 2.0**-24, "tf32": 2.0**-10 * 1.05}


MATRICES = {"im2col": list(UNITS), "pointwise": ["fp32", "tf32"]}
TILES = [("large", 1), ("medium", 1), ("small", 3)]  # with the number of splits


def runs(turn):
    """Which algorithm with which precision; im2col and pointwise with the tiles by turns."""
    for name in emulated().algorithms():
        if name in MATRICES:
            for i, precision in enumerate(MATRICES[name]):
                tile, splits = TILES[(turn + i) % 3]
                yield precision, {"algorithm": name, "precision": precision, "tile": tile, "splits": splits}
        else:
            yield "fp32", {"algorithm": name}


def one_of_each(turn):
    """Each algorithm once: of the precisions and tiles of im2col and pointwise one by turns."""
    found = {}
    for run in runs(turn):
        found.setdefault(run[1]["algorithm"], []).append(run)
    return [of_name[turn % len(of_name)] for of_name in found.values()]


def unsplit(direction):
    """A weight gradient has one tile, and splits of its own."""
    return {"tile": None, "splits": None} if direction == "weight_gradient" else {}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_against_float64(case, direction, layout):
    x, w, y = arrays(case)
    seed, done = 0, 0
    for precision, keywords in runs(CASES.index(case) + (layout == "NHWC")):
        emulated().configure(seed=seed, lazy_copies=seed % 2 == 1)
        seed += 1
        name = keywords["algorithm"]
        try:
            result = call(case, direction, x, w, y, layout, **(keywords | unsplit(direction)))
        except NotImplementedError as refusal:
            assert name != "reference" and f"; {name}: " in str(refusal)
            continue
        done += 1
        check(case, direction, result, x, w, y, UNITS[precision])
    assert done >= 1


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_small_integers_are_exact(case):
    x, w, y = arrays(case, whole=True)
    for direction in DIRECTIONS:
        expected = oracle(case, direction, x, w, y)
        for precision in UNITS:
            result = call(case, direction, x, w, y, "NHWC", precision=precision)
            assert np.array_equal(result, expected), (direction, precision)


def test_float64_and_empty_batch():
    case = CASES[1]
    x, w, y = arrays(case, np.float64)
    for direction in DIRECTIONS:
        result = call(case, direction, x, w, y)
        check(case, direction, result, x, w, y, 32 * 2.0**-53)
    empty = call(case, "weight_gradient", x[:0], w, y[:0])
    assert not empty.any() and call(case, "forward", x[:0], w, y[:0]).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("precision", UNITS)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinities_and_nan_stay_what_they_are(precision, value):
    case = CASES[1]
    x, w, y = (np.abs(a) + np.float32(0.5) for a in arrays(case))
    x[0, 2, 4, 4] = value
    result = call(case, "forward", x, w, y, algorithm="im2col", precision=precision)
    touched = np.zeros(result.shape, bool)
    touched[0, :, 3:6, 3:6] = True
    assert np.all(np.isfinite(result[~touched]))
    assert np.array_equal(result[touched], np.full(touched.sum(), value, np.float32), equal_nan=True)


def test_the_order_of_threads_does_not_show():
    case = CASES[2]
    x, w, y = arrays(case)
    for direction, precision in product(DIRECTIONS, UNITS):
        results = set()
        for seed in range(3):
            emulated().configure(seed=seed, lazy_copies=seed == 1)
            results.add(call(case, direction, x, w, y, precision=precision).tobytes())
        assert len(results) == 1


def test_errors_name_the_reason():
    case = CASES[1]
    x, w, y = arrays(case)
    with pytest.raises(NotImplementedError, match="direct: it has no weight gradient"):
        call(case, "weight_gradient", x, w, y, algorithm="direct")
    with pytest.raises(ValueError, match="algorithm='none': expected one of 'auto', 'exact', .*'reference'"):
        call(case, "forward", x, w, y, algorithm="none")
    with pytest.raises(ValueError, match="precision='half': expected 'fp32', 'fp32-simt' or 'tf32'"):
        call(case, "forward", x, w, y, precision="half")


def counted(precision, layout="NCHW", tile=("medium", 1)):
    """A layer whose every tile is whole: 64 channels to 64, 8 x 8 pixels, 2 images."""
    case = Case("whole_tiles", 2, 64, 128, (8, 8), (3, 3), padding=SAME)
    emulated().configure(counting=True)
    call(case, "forward", *arrays(case), layout, algorithm="im2col", precision=precision, tile=tile[0], splits=tile[1])
    (name,) = [n for n in emulated().counts() if n.startswith("im2col")]
    return case, emulated().counts()[name]


@pytest.mark.parametrize(("precision", "terms"), [("tf32", 1), ("fp32", 3), ("fp32-simt", 0)])
@pytest.mark.parametrize("tile", TILES)
def test_no_multiplication_is_wasted(precision, terms, tile):
    _case, count = counted(precision, tile=tile)
    macs = 2 * 128 * 64 * 9 * 64
    assert count["mma"] == terms * macs // (16 * 8 * 8)


@pytest.mark.parametrize("precision", UNITS)
def test_fragment_reads_meet_no_bank_twice(precision):
    _, count = counted(precision)
    assert count["shared_load_wavefronts"] == count["shared_load_phases"]


def test_results_are_stored_in_whole_sectors():
    for layout in ("NCHW", "NHWC"):
        _, count = counted("tf32", layout)
        assert count["global_store_bytes"] == 4 * 2 * 128 * 64
        assert count["global_store_sectors"] == count["global_store_bytes"] // 32


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (7, 1), (7, 2)])
def test_depthwise_windows_of_a_template(kernel, stride, layout):
    """Exact results; results of whole rows are whole sectors, and with stride 1 each read of a warp is one row's."""
    pad = (kernel // 2,) * 2
    case = Case("window", 2, 32, 32, (9 * stride, 32 * stride), (kernel,) * 2, (stride,) * 2, (pad, pad), groups=32)
    x, w, y = arrays(case, whole=True)
    emulated().configure(counting=True, seed=kernel)
    result = call(case, "forward", x, w, y, layout, algorithm="depthwise")
    count = emulated().counts()["depthwise"]
    assert np.array_equal(result, oracle(case, "forward", x, w, y))
    assert count["global_store_sectors"] * 32 == count["global_store_bytes"] == result.nbytes
    if layout == "NHWC":  # lanes are channels: every read is whole sectors
        assert count["global_load_bytes"] >= x.nbytes
        weights = 4 * 32 * kernel**2  # read by each thread for itself, far apart
        assert count["global_load_sectors"] * 32 <= count["global_load_bytes"] + 7 * weights * count["blocks"] * 4
    result = call(case, "input_gradient", x, w, y, layout, algorithm="depthwise")
    assert np.array_equal(result, oracle(case, "input_gradient", x, w, y))


def test_under_sanitizers():
    """A few cases with every algorithm in a child process under AddressSanitizer and UBSan."""
    lines = ["import numpy as np"]
    for case in CASES[1:14:4] + CASES[15:]:
        shapes = {"x": (case.batch, case.in_c, *case.size), "y": (case.batch, case.out_c, *case.out)}
        shapes["w"] = (case.out_c, case.in_c // case.groups, *case.kernel)
        for direction, target in zip(DIRECTIONS, "yxw", strict=False):
            given = ", ".join(
                f"{role}={shape}" if role == target and role != "y" else f"{role}=np.ones({shape}, 'f4')"
                for role, shape in shapes.items()
                if not (role == target == "y")
            )
            lines.append(
                f"for name in m.algorithms():\n  try: m.convolve(direction={direction!r}, {given},"
                f" spatial={len(case.size)}, stride={case.stride}, padding={case.padding}, dilation={case.dilation},"
                f" groups={case.groups}, algorithm=name)\n  except NotImplementedError: pass"
            )
    done = run_sanitized("\n".join(lines))
    assert done.returncode == 0, done.stderr[-4000:]
