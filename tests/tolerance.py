"""The one rule for how far a result may be from the oracle.

A sum of K products and a bias, added in any order, with or without fused multiply-adds, is off by at most

    gamma(K + 1) * (sum of |x| |w| + |bias|)      gamma(n) = n u / (1 - n u)      for each element by itself

(Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1; u is half the machine epsilon.)
Nothing here is a guess that was widened until the tests passed. The oracle computes in float64 and rounds by the
same rule, so that for float64 its own bound is added.

Winograd's algorithm amplifies rounding, and its error is bounded by the largest element of a tile only: AMPLIFIED
holds what the row of the engine's table claims, relative to the largest sum of |x| |w| (Barabasz et al.,
arXiv 1803.10986, say why a bound is no better than that).
"""

from __future__ import annotations

import numpy as np

from fastconv import _core

AMPLIFIED: dict[str, float] = _core.algorithm_errors()

# An activation passes the error of its argument on by its steepest slope, and adds its own: units of roundoff, as the
# kernels state it (csrc/cpu/kernels/curve/curve.h).
CURVES: dict[str | None, tuple[float, float]] = {"silu": (1.1, 4), "hardswish": (1.5, 3)}

# Numbers of 16 bits are computed in float32 and rounded once, to nearest, where they are stored: half a unit of the
# last place, as a share of the result; below the smallest normal number of float16 half the spacing there.
STORED: dict[str, tuple[float, float]] = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134)}


def unit_roundoff(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).eps) / 2


def gamma(terms: int, dtype: np.dtype) -> float:
    product = terms * unit_roundoff(dtype)
    assert product < 1, "the bound says nothing about so long a sum"
    return product / (1 - product)


def bound(terms: int, magnitude: np.ndarray, dtype: np.dtype, algorithm: str = "") -> np.ndarray:
    """Return the largest error allowed per element; `magnitude` is the oracle of the absolute values."""
    if algorithm in AMPLIFIED:
        return np.full_like(magnitude, AMPLIFIED[algorithm] * magnitude.max(initial=0))
    return (gamma(terms + 1, dtype) + gamma(terms + 1, np.dtype(np.float64))) * magnitude


def assert_within(
    got: np.ndarray, expected: np.ndarray, terms: int, magnitude: np.ndarray, algorithm: str = "", what: str = "",
    activation: str | None = None,
) -> None:  # fmt: skip
    """Fail with the worst element if any is further from `expected` than the rule allows."""
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, expected {expected.shape}"
    slope, own = CURVES.get(activation, (1, 0))
    dtype = np.dtype(np.float32) if got.dtype.name in STORED else got.dtype
    allowed = slope * bound(terms, magnitude, dtype, algorithm) + own * unit_roundoff(dtype) * np.abs(expected)
    share, least = STORED.get(got.dtype.name, (0, 0))
    allowed = allowed + share * (np.abs(expected) + allowed) + least
    error = np.abs(got.astype(np.float64) - expected)
    wrong = ~(error <= allowed)  # a NaN is wrong as well
    if wrong.any():
        at = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1)), error.shape)
        raise AssertionError(
            f"{what}: {np.count_nonzero(wrong)} of {wrong.size} elements are wrong; the worst, at "
            f"{tuple(map(int, at))}, is {got[at]} where {expected[at]} +- {allowed[at]:.3g} is expected"
        )
