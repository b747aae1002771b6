"""Gradients are the transposes of the convolution: in float64 the adjoint identities hold to 1e-12.

<conv(x, w), y> = <x, input_gradient(w, y)> = <w, weight_gradient(x, y)>
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import fastconv
from fastconv import _core

from .cases import BY_NAME, CASES, ConvCase, make_array
from .directions import call, to_layout

ADJOINT = 1e-12


def inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_adjoint_identities(case: ConvCase, layout: str) -> None:
    x, w, y = (make_array(case, role, getattr(case, f"{role}_shape"), False) for role in "xwy")
    arrays = {"x": to_layout(x, layout), "w": w, "y": to_layout(y, layout)}
    with_x = inner(call(case, "forward", arrays, layout=layout), arrays["y"])
    if case.activation is not None:  # the identity is about the linear part
        with_x = inner(_linear(case, arrays, layout), arrays["y"])
    back = call(case, "input_gradient", arrays, layout=layout)
    scale = np.linalg.norm(back) * np.linalg.norm(x) + np.linalg.norm(y)
    assert abs(inner(back, arrays["x"]) - with_x) <= ADJOINT * scale
    transposed = call(case, "transposed", arrays, layout=layout)
    if case.activation is None:
        np.testing.assert_array_equal(transposed, back)
    to_weight = call(case, "weight_gradient", arrays, layout=layout)
    scale = np.linalg.norm(to_weight) * np.linalg.norm(w) + np.linalg.norm(y)
    assert abs(inner(to_weight, w) - with_x) <= ADJOINT * scale


def _linear(case: ConvCase, arrays: dict[str, np.ndarray], layout: str) -> np.ndarray:
    function = getattr(fastconv, f"conv{case.axes}d")
    result: np.ndarray = function(arrays["x"], arrays["w"], layout=layout, **case.window)
    return result


@pytest.mark.parametrize("algorithm", _core.algorithms())
@pytest.mark.parametrize(
    "name", ["channel_tail", "dilated_strided", "depthwise_strided", "grouped_tail", "volume_mixed"]
)
def test_adjoint_of_each_algorithm(name: str, algorithm: str) -> None:
    case = BY_NAME[name]
    x, w, y = (make_array(case, role, getattr(case, f"{role}_shape"), False) for role in "xwy")
    value = inner(_linear(case, {"x": x, "w": w}, "NCHW"), y)
    for direction, other in (("input_gradient", x), ("weight_gradient", w)):
        try:
            result = call(case, direction, {"x": x, "w": w, "y": y}, algorithm=algorithm)
        except NotImplementedError:
            continue
        assert abs(inner(result, other) - value) <= ADJOINT * (
            np.linalg.norm(result) * np.linalg.norm(other) + abs(value)
        )


@pytest.mark.parametrize(("wrt", "axes"), list(product("xw", (1, 2, 3))))
def test_finite_differences(wrt: str, axes: int) -> None:
    """The gradient is the derivative: a central difference of a quadratic has no error but rounding."""
    rng = np.random.default_rng(axes)
    x, w = rng.standard_normal((2, 4, *(6, 5, 4)[:axes])), rng.standard_normal((6, 2, *(3, 2, 2)[:axes]))
    conv = getattr(fastconv, f"conv{axes}d")
    window = {"stride": 2, "padding": 1, "groups": 2}

    def loss(x: np.ndarray, w: np.ndarray) -> float:
        return float((conv(x, w, **window) ** 2).sum() / 2)

    y = conv(x, w, **window)
    if wrt == "x":
        gradient = getattr(fastconv.grad, f"conv{axes}d_input")(x.shape, w, y, **window)
    else:
        gradient = getattr(fastconv.grad, f"conv{axes}d_weight")(x, w.shape, y, **window)
    step = rng.standard_normal(gradient.shape)
    ahead, behind = ((x + s * step, w) if wrt == "x" else (x, w + s * step) for s in (0.5, -0.5))
    assert loss(*ahead) - loss(*behind) == pytest.approx(inner(gradient, step), rel=1e-10)


def test_weight_gradient_is_the_sum_over_the_batch() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(-4, 5, (5, 6, 9, 8)).astype(np.float32), rng.integers(-4, 5, (5, 8, 7, 6)).astype(np.float32)
    together = fastconv.grad.conv2d_weight(x, (8, 6, 3, 3), y)
    alone = sum(fastconv.grad.conv2d_weight(x[i : i + 1], (8, 6, 3, 3), y[i : i + 1]) for i in range(5))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_sections_of_a_large_batch(isa: str, groups: int, layout: str) -> None:
    """So many tiles for their few sums that Winograd's weight gradient sums them in sections, one thread each."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, 9 * groups, 19, 20)).astype(np.float32)
    y = rng.standard_normal((40, 11 * groups, 19, 20)).astype(np.float32)
    window = {"padding": 1, "groups": groups, "layout": layout}
    if layout == "NHWC":
        x, y = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, y))
    results = {}
    for count in (1, 2, 3, 8):
        with fastconv.threads(count):
            results[count] = fastconv.grad.conv2d_weight(x, (11 * groups, 9, 3, 3), y, algorithm="winograd", **window)
        np.testing.assert_array_equal(results[count], results[1])
    expected = fastconv.grad.conv2d_weight(
        x.astype(np.float64), (11 * groups, 9, 3, 3), y.astype(np.float64), algorithm="im2col", **window
    )
    assert np.abs(results[1] - expected).max() < 1e-4 * np.abs(expected).max()


def test_unread_positions_have_no_gradient() -> None:
    """A stride beyond the kernel leaves positions of x that no window reads."""
    gradient = fastconv.grad.conv2d_input(
        (1, 1, 6, 6), np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 2, 2), np.float32), stride=4,
        out=np.full((1, 1, 6, 6), np.nan, np.float32),
    )  # fmt: skip
    expected = np.zeros((1, 1, 6, 6))
    expected[0, 0, ::4, ::4] = 1
    np.testing.assert_array_equal(gradient, expected)


def test_long_sums_of_the_weight_gradient() -> None:
    """A million terms in float32: the bound of a sum in any order would allow 6 %; pairwise blocks stay near 1e-6."""
    rng = np.random.default_rng(1)
    x = (rng.random((4, 2, 512, 512)) + 1).astype(np.float32)
    y = (rng.random((4, 3, 512, 512)) + 1).astype(np.float32)
    got = fastconv.grad.conv2d_weight(x, (3, 2, 1, 1), y)[:, :, 0, 0]
    expected = np.einsum("nkij,ncij->kc", y.astype(np.float64), x.astype(np.float64))
    assert np.abs(got / expected - 1).max() < 1e-5
