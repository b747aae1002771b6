"""What must hold for any convolution, on sizes that nobody chose: hypothesis draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fastconv

from . import oracle
from .cases import ConvCase, make_array
from .directions import Question, _sums, call, operands

SIZES = st.integers(1, 9)
EXACT: dict[str, Any] = {"algorithm": "exact"}


@st.composite
def cases(draw: st.DrawFn, axes: int | None = None, **fixed: Any) -> ConvCase:
    """A problem with at least one place for its window."""
    axes = axes or draw(st.integers(1, 3))

    def each(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(values) for _ in range(axes))

    groups = fixed.get("groups") or draw(st.sampled_from((1, 1, 2, 3)))
    kernel = fixed.get("kernel") or each(st.integers(1, 4))
    dilation = fixed.get("dilation") or each(st.integers(1, 3))
    padding = fixed.get("padding") or each(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    least = [max(1, (k - 1) * d + 1 - sum(pad)) for k, d, pad in zip(kernel, dilation, padding, strict=True)]
    return ConvCase(
        name=f"drawn {draw(st.integers(0, 999))}",
        batch=draw(st.integers(1, 3)),
        in_c=groups * draw(st.integers(1, 6)),
        out_c=groups * draw(st.integers(1, 6)),
        size=tuple(draw(st.integers(n, n + 9)) for n in least),
        kernel=kernel,
        stride=fixed.get("stride") or each(st.integers(1, 4)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from((None, None, "relu", "relu6"))),
    )


def arrays_of(case: ConvCase, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    return tuple(make_array(case, role, getattr(case, f"{role}_shape"), True).astype(dtype) for role in "xw")  # type: ignore[return-value]


def conv(case: ConvCase, x: np.ndarray, w: np.ndarray, **changes: Any) -> np.ndarray:
    """Integers give integers: "exact" does no more than sum products."""
    result: np.ndarray = getattr(fastconv, f"conv{case.axes}d")(x, w, **(case.window | EXACT | changes))
    return result


@given(cases(), st.sampled_from(("forward", "transposed", "input_gradient", "weight_gradient")),
       st.sampled_from(("NCHW", "NHWC")), st.sampled_from((np.float32, np.float64)))  # fmt: skip
def test_any_shape(case: ConvCase, direction: str, layout: str, dtype: type) -> None:
    arrays = operands(case, direction, True)
    linear = expected = _sums(case, direction, arrays)
    if direction in ("forward", "transposed"):
        expected = oracle.activated(expected, case.activation)
    question = Question(case, direction, arrays, linear, expected, np.abs(linear))
    np.testing.assert_array_equal(question.ask(dtype, layout, "exact"), expected)


@given(cases())
def test_shape_formula(case: ConvCase) -> None:
    """The formula of the documentation, where the case counts places."""
    x, w = arrays_of(case)
    expected = tuple(
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, k, s, pad, d in zip(case.size, case.kernel, case.stride, case.padding, case.dilation, strict=True)
    )
    assert conv(case, x, w, algorithm="auto").shape == (case.batch, case.out_c, *expected)


@given(cases())
def test_auto_is_near_exact(case: ConvCase) -> None:
    x, w = arrays_of(case)
    exact = conv(case, x, w)
    np.testing.assert_allclose(conv(case, x, w, algorithm="auto"), exact, rtol=0, atol=3e-5 * np.abs(exact).max())


@given(cases(), st.integers(-3, 3), st.integers(-3, 3))
def test_linear(case: ConvCase, a: int, b: int) -> None:
    x, w = arrays_of(case)
    other = np.flip(x).copy()
    combined = conv(case, (a * x + b * other).astype(np.float32), w)
    np.testing.assert_array_equal(combined, a * conv(case, x, w) + b * conv(case, other, w))


@given(cases(axes=2, stride=(1, 1)), st.integers(1, 3))
def test_shift_equivariant(case: ConvCase, shift: int) -> None:
    """An image moved by some pixels gives the result moved by as many."""
    x, w = arrays_of(case)
    window = {"padding": 0, "stride": 1}
    wide = np.pad(x, ((0, 0), (0, 0), (8, 8), (8, 8)))
    moved = np.roll(wide, (shift, 2 * shift), (2, 3))
    y, moved_y = conv(case, wide, w, **window), conv(case, moved, w, **window)
    inner_h, inner_w = y.shape[2] - shift, y.shape[3] - 2 * shift
    np.testing.assert_array_equal(moved_y[:, :, shift:, 2 * shift :], y[:, :, :inner_h, :inner_w])


@given(cases(axes=2, groups=3))
def test_groups_are_slices(case: ConvCase) -> None:
    x, w = arrays_of(case)
    channels, filters = case.in_c // 3, case.out_c // 3
    parts = [
        conv(case, x[:, g * channels : (g + 1) * channels], w[g * filters : (g + 1) * filters], groups=1)
        for g in range(3)
    ]
    np.testing.assert_array_equal(conv(case, x, w), np.concatenate(parts, axis=1))


@given(cases())
def test_dilation_is_a_kernel_with_holes(case: ConvCase) -> None:
    x, w = arrays_of(case)
    spans = [(k - 1) * d + 1 for k, d in zip(case.kernel, case.dilation, strict=True)]
    stuffed = np.zeros((*w.shape[:2], *spans), np.float32)
    stuffed[(..., *(slice(None, None, d) for d in case.dilation))] = w
    np.testing.assert_array_equal(conv(case, x, w), conv(case, x, stuffed, dilation=1))


@given(cases(axes=2, kernel=(1, 1), stride=(1, 1), padding=((0, 0), (0, 0)), groups=1))
def test_pointwise_is_a_matrix_product(case: ConvCase) -> None:
    x, w = arrays_of(case)
    expected = np.einsum("kc,ncij->nkij", w[:, :, 0, 0], x)
    np.testing.assert_array_equal(conv(case, x, w), expected)


@given(cases(axes=1))
def test_one_row_is_a_signal(case: ConvCase) -> None:
    x, w = arrays_of(case)
    row = fastconv.conv2d(
        x[:, :, None], w[:, :, None], stride=(1, *case.stride), padding=((0, 0), *case.padding),
        dilation=(1, *case.dilation), groups=case.groups, **EXACT,
    )  # fmt: skip
    np.testing.assert_array_equal(conv(case, x, w), row[:, :, 0])


@given(cases(axes=2))
def test_one_slice_is_an_image(case: ConvCase) -> None:
    x, w = arrays_of(case)
    volume = fastconv.conv3d(
        x[:, :, None], w[:, :, None], stride=(1, *case.stride), padding=((0, 0), *case.padding),
        dilation=(1, *case.dilation), groups=case.groups, **EXACT,
    )  # fmt: skip
    np.testing.assert_array_equal(conv(case, x, w), volume[:, :, 0])


@given(cases(axes=2))
def test_axes_may_be_exchanged(case: ConvCase) -> None:
    x, w = arrays_of(case)
    turned = fastconv.conv2d(
        x.swapaxes(2, 3), w.swapaxes(2, 3), stride=case.stride[::-1], padding=case.padding[::-1],
        dilation=case.dilation[::-1], groups=case.groups, **EXACT,
    )  # fmt: skip
    np.testing.assert_array_equal(conv(case, x, w), turned.swapaxes(2, 3))


@given(cases())
def test_padding_is_zeros_around(case: ConvCase) -> None:
    x, w = arrays_of(case)
    np.testing.assert_array_equal(conv(case, x, w), conv(case, oracle.padded(x, case.padding), w, padding=0))


@given(cases())
def test_stride_leaves_out(case: ConvCase) -> None:
    x, w = arrays_of(case)
    every = conv(case, x, w, stride=1)
    np.testing.assert_array_equal(conv(case, x, w), every[(..., *(slice(None, None, s) for s in case.stride))])


@given(cases())
def test_layouts_agree_bitwise_on_the_reference(case: ConvCase) -> None:
    """The reference adds in the same order in both layouts, on any numbers."""
    arrays = {role: a.astype(np.float32) for role, a in operands(case, "forward", False).items()}
    first = call(case, "forward", arrays, algorithm="reference")
    arrays["x"] = np.ascontiguousarray(np.moveaxis(arrays["x"], 1, -1))
    last = call(case, "forward", arrays, algorithm="reference", layout="NHWC")
    assert np.moveaxis(last, -1, 1).tobytes() == first.tobytes()


@given(cases(axes=2, groups=1))
def test_matrix(case: ConvCase) -> None:
    """The layer as a matrix: conv2d(x) is matrix @ x."""
    x, w = arrays_of(case)
    matrix = fastconv.conv2d_matrix(w, case.size, **case.window)
    expected = conv(case, x, w)
    assert matrix.shape == (expected[0].size, x[0].size)
    np.testing.assert_array_equal((matrix @ x.reshape(case.batch, -1).T).T.reshape(expected.shape), expected)
