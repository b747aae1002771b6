"""The emulator itself: each instruction against NumPy, and each kind of mistake must be found."""

from __future__ import annotations

import numpy as np
import pytest

from .cuda_emulator.load import emulated

ZEROS = np.zeros(256, np.float32)


@pytest.fixture(autouse=True)
def _plain():
    emulated().configure()


def trial(name, a=ZEROS, b=ZEROS, length=64):
    return emulated().run_trial(name, np.asarray(a, np.float32), np.asarray(b, np.float32), length)


@pytest.mark.parametrize("seed", range(4))
def test_threads_meet_in_any_order(seed):
    emulated().configure(seed=seed)
    a = np.arange(64)
    assert trial("block_sum", a, length=1) == [a.sum()]
    assert trial("atomics", a, length=1) == [a.sum()]
    assert np.array_equal(trial("half_blocks", a), np.concatenate([a[31::-1], a[:31:-1]]))


def test_shuffles_and_votes():
    a = np.arange(64) % 3 - 1.0
    out = trial("votes", a)
    for warp in (0, 32):
        votes = sum(1 << lane for lane in range(16) if a[warp + lane] > 0)
        down = np.append(a[warp + 1 : warp + 32], a[warp + 31])
        assert np.array_equal(out[warp : warp + 32], np.float32(votes + 0.5 * down + a[warp]))


@pytest.mark.parametrize(
    ("kind", "bits", "depth"), [("half", 11, 16), ("half_turned", 11, 16), ("bfloat", 8, 16), ("tf32", 11, 8)]
)
def test_matrix_instructions(kind, bits, depth):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, depth)), rng.standard_normal((depth, 8))
    out = trial(f"matrix_{kind}", a.ravel(), b.ravel(), 128).reshape(16, 8)
    assert np.all(np.abs(out - a @ b) <= 2.0 ** (1 - bits) * 1.1 * (np.abs(a) @ np.abs(b)))
    whole = rng.integers(-9, 9, (16, depth)), rng.integers(-9, 9, (depth, 8))
    out = trial(f"matrix_{kind}", whole[0].ravel(), whole[1].ravel(), 128).reshape(16, 8)
    assert np.array_equal(out, whole[0] @ whole[1])


def test_half_conversion_is_numpys():
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, 64 * 400, dtype=np.uint64).astype(np.uint32)
    sized = rng.standard_normal(6400) * 10.0 ** rng.integers(-8, 5, 6400)
    special = np.tile([0, -0.0, np.inf, -np.inf, np.nan, 65519, 65520, 2**-25, 2**-24, 6e-8], 32)
    values = np.concatenate([bits.view(np.float32), sized.astype(np.float32), special.astype(np.float32)])
    assert values.size % 64 == 0
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    got = np.concatenate([trial("round_trip_half", part) for part in values.reshape(-1, 64)])
    assert np.array_equal(got, expected, equal_nan=True)


def test_bfloat_and_tf32_conversions():
    one, half_ulp = np.float32(1), np.float32(2**-8)
    values = np.full(64, one)
    values[:4] = [one + half_ulp, one + 3 * half_ulp, -np.inf, one + half_ulp * np.float32(1.01)]
    assert np.array_equal(trial("round_trip_bfloat", values)[:4], [1, 1 + 2**-6, -np.inf, 1 + 2**-7])
    values[:3] = [1 + 2**-11, 1 + 2**-12, -(1 + 2**-11)]
    assert np.array_equal(trial("round_trip_tf32", values)[:3], [1 + 2**-10, 1, -(1 + 2**-10)])


@pytest.mark.parametrize("lazy", [False, True])
def test_copies_arrive_at_the_wait(lazy):
    emulated().configure(lazy_copies=lazy)
    a = np.arange(1, 65)
    assert np.array_equal(trial("copies", a), np.where(a % 2 == 1, a, 0)[::-1])


@pytest.mark.parametrize(
    ("name", "wavefronts", "phases", "sectors"),
    [("stride_1", 1, 1, 4), ("stride_2", 2, 1, 8), ("stride_32", 32, 1, 2), ("wide", 4, 4, None)],
)
def test_counts_are_exact(name, wavefronts, phases, sectors):
    emulated().configure(counting=True)
    memory = np.zeros(256 + 8, np.float32)
    start = -(memory.ctypes.data // 4) % 8  # a sector begins here
    emulated().run_trial(name, memory[start : start + 256], ZEROS, 32)
    count = emulated().counts()[name]
    assert count["shared_loads"] == count["shared_stores"] == 1
    assert count["shared_load_wavefronts"] == count["shared_store_wavefronts"] == wavefronts
    assert count["shared_load_phases"] == phases
    if sectors:
        assert count["global_load_sectors"] == sectors
    assert count["barriers"] == 1 and count["blocks"] == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing_thread", r"trials\.cu:\d+: __syncthreads is reached by 63 of 64 threads.*\(5, 0, 0\) has returned"),
        ("two_places", r"trials\.cu:\d+: threads meet at one barrier from two places, the other at trials\.cu:\d+"),
        ("missing_lane", r"trials\.cu:\d+: __shfl_xor_sync is reached by .* threads .* has returned"),
        ("wrong_mask", r"trials\.cu:\d+: __shfl_sync: the mask does not name the calling lane"),
        ("misaligned", r"trials\.cu:\d+: an access of 16 bytes is misaligned"),
    ],
)
def test_mistakes_are_errors_with_their_line(name, words):
    with pytest.raises(emulated().EmulationError, match=words):
        trial(name)
    assert trial("block_sum", np.ones(64), length=1) == [64]  # and the next launch is well


def test_a_missing_barrier_shows():
    a = np.arange(1, 65)
    results = []
    for seed in range(3):
        emulated().configure(seed=seed)
        results.append(trial("no_barrier", a))
    assert all(np.isnan(r).any() for r in results)  # what nobody wrote yet is NaN
    assert len({r.tobytes() for r in results}) == 3


def test_a_missing_wait_shows_with_lazy_copies():
    emulated().configure(lazy_copies=True)
    assert np.isnan(trial("no_wait", np.ones(64))).all()


def test_sanitizer_sees_the_end_of_shared_memory():
    from .cuda_emulator.load import run_sanitized

    done = run_sanitized("import numpy as np; a = np.zeros(64, 'f4'); m.run_trial('beyond_shared', a, a, 64)")
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
    done = run_sanitized("import numpy as np; a = np.ones(64, 'f4'); assert m.run_trial('block_sum', a, a, 1) == 64")
    assert done.returncode == 0, done.stderr
