"""Second opinions: PyTorch and SciPy on random configurations, where they are installed.

``pytest`` asks a few hundred times; ``python -m tests.test_torch 2000`` or FASTCONV_CONFIGURATIONS=2000 as often as
wanted. float32 must agree to 1e-5 of the largest value, float64 to 1e-12; shapes and indices exactly.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

import fastconv

from .configurations import COVERS, FAMILIES, Draw

AGREEMENT = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
CONFIGURATIONS = int(os.environ.get("FASTCONV_CONFIGURATIONS", "600"))


def agree(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    if expected.dtype.kind in "iu":
        np.testing.assert_array_equal(got, expected, err_msg=what)
        return
    assert got.dtype == expected.dtype, what
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite], err_msg=what)
    worst = np.abs(got - expected, where=finite, out=np.zeros_like(got)).max(initial=0)
    largest = np.abs(expected[finite]).max(initial=0)
    assert worst <= AGREEMENT[got.dtype] * largest, f"{what}: differs by {worst}, the largest value is {largest}"


def check(seed: int) -> str:
    """One configuration; returns the name of its family."""
    family = FAMILIES[seed % len(FAMILIES)]
    draw = Draw(seed)
    for what, got, expected in family(draw):
        agree(np.asarray(got), expected.detach().numpy(), f"{what} ({' '.join(draw.story)})")
    return family.__name__


@pytest.mark.parametrize("part", range(8))
def test_torch(part: int) -> None:
    pytest.importorskip("torch")
    for seed in range(part, CONFIGURATIONS, 8):
        check(seed)


def test_every_function_has_a_second_opinion() -> None:
    torch = pytest.importorskip("torch")
    covered = {name for family in FAMILIES for name in COVERS[family]}
    shared = {name for name in fastconv.__all__ if callable(getattr(torch.nn.functional, name, None))}
    assert shared - {"threads"} <= covered


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_scipy(axes: int, mode: str) -> None:
    """One channel against scipy.signal.correlate, which knows three kinds of padding."""
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(axes)
    x, w = rng.standard_normal((11, 9, 8)[:axes]), rng.standard_normal((3, 5, 3)[:axes])
    padding: Any = [(k - 1, k - 1) for k in w.shape] if mode == "full" else mode
    got = getattr(fastconv, f"conv{axes}d")(x[None, None], w[None, None], padding=padding)
    agree(got[0, 0], signal.correlate(x, w, mode=mode, method="direct"), f"correlate {axes} {mode}")


def test_scipy_convolve_is_the_transposed_one() -> None:
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((7, 6)), rng.standard_normal((3, 4))
    got = fastconv.conv_transpose2d(x[None, None], w[None, None])[0, 0]
    agree(got, signal.convolve(x, w, method="direct"), "convolve")


def main(configurations: int) -> None:
    """Check so many configurations and say how many of each family agreed; stops at the first that does not."""
    agreed = Counter(check(seed) for seed in range(configurations))
    for family, count in sorted(agreed.items()):
        print(f"{family:20} {count}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CONFIGURATIONS)
