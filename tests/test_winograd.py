"""How far Winograd's algorithm is from the float64 oracle on normal numbers, and that "exact" never takes it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

import fastconv

from . import oracle

# kernel, size of the image, channels, largest relative L2 error: by the number of points, 6e-6 for 6 and 1.5e-5 for 8
LAYERS = [
    ((3, 3), (28, 28), 64, 6e-6),
    ((3, 3), (14, 14), 160, 6e-6),
    ((3, 3), (7, 7), 300, 6e-6),
    ((3, 3), (18, 18), 512, 1.5e-5),
    ((5, 5), (12, 12), 256, 1.5e-5),
    ((7, 7), (9, 13), 64, 1.5e-5),
    ((1, 3), (9, 40), 128, 1.5e-5),
    ((3, 1), (30, 7), 128, 1.5e-5),
    ((1, 7), (17, 17), 128, 1.5e-5),
    ((7, 1), (17, 17), 128, 1.5e-5),
]


@pytest.mark.parametrize(("kernel", "size", "channels", "relative"), LAYERS)
def test_error_on_normal_numbers(
    kernel: tuple[int, int], size: tuple[int, int], channels: int, relative: float, isa: str
) -> None:
    """At most 3e-5 of the largest value, and in the mean as the form promises; forward and both gradients."""
    rng = np.random.default_rng(channels + sum(size))
    x = rng.standard_normal((1, channels, *size)).astype(np.float32)
    w = rng.standard_normal((24, channels, *kernel)).astype(np.float32)
    pads = [(k // 2, k // 2) for k in kernel]
    window = ((1, 1), pads, (1, 1), 1)
    expected = oracle.forward(x.astype(np.float64), w.astype(np.float64), None, *window)
    y = fastconv.conv2d(x, w, padding=pads, algorithm="winograd")
    back = fastconv.grad.conv2d_input(x.shape, w, y, padding=pads, algorithm="winograd")
    wanted = oracle.input_gradient(size, w.astype(np.float64), y.astype(np.float64), *window)
    taps = fastconv.grad.conv2d_weight(x, w.shape, y, padding=pads, algorithm="winograd")
    summed = oracle.weight_gradient(x.astype(np.float64), kernel, y.astype(np.float64), *window)
    for got, right in ((y, expected), (back, wanted), (taps, summed)):
        assert np.linalg.norm(got - right) <= relative * np.linalg.norm(right), isa
        assert np.abs(got - right).max() <= 3e-5 * np.abs(right).max(), isa


@pytest.mark.parametrize(("kernel", "size", "channels"), [((3, 3), 6, 300), ((5, 5), 4, 512)])
def test_error_of_the_form_for_many_images(kernel: tuple[int, int], size: int, channels: int, isa: str) -> None:
    """The longer form keeps the promise of its points."""
    rng = np.random.default_rng(channels + size)
    x = rng.standard_normal((2, channels, size, size)).astype(np.float32)
    w = rng.standard_normal((24, channels, *kernel)).astype(np.float32)
    pads = [(k // 2, k // 2) for k in kernel]
    y = fastconv.conv2d(x, w, padding=pads, algorithm="winograd_batch")
    expected = oracle.forward(x.astype(np.float64), w.astype(np.float64), None, (1, 1), pads, (1, 1), 1)
    assert np.linalg.norm(y - expected) <= 1.5e-5 * np.linalg.norm(expected), isa
    assert np.abs(y - expected).max() <= 3e-5 * np.abs(expected).max(), isa


def test_error_of_the_smallest_form(isa: str) -> None:
    """F(2x2), four points, which maps of 5x5 take."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 64, 5, 5)).astype(np.float32)
    w = rng.standard_normal((24, 64, 3, 3)).astype(np.float32)
    y = fastconv.conv2d(x, w, padding=1, algorithm="winograd")
    right = oracle.forward(x.astype(np.float64), w.astype(np.float64), None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert np.linalg.norm(y - right) <= 1e-6 * np.linalg.norm(right), isa


@pytest.mark.parametrize(
    ("kernel", "size", "dilation"),
    [((3, 3), (28, 28), (2, 2)), ((3, 3), (33, 29), (6, 5)), ((1, 3), (1, 900), (1, 128))],
)
def test_phases_of_a_dilation(
    kernel: tuple[int, int], size: tuple[int, int], dilation: tuple[int, int], isa: str
) -> None:
    """Each phase is a convolution of its own, with the rounding of one."""
    rng = np.random.default_rng(sum(size))
    x = rng.standard_normal((1, 128, *size)).astype(np.float32)
    w = rng.standard_normal((40, 128, *kernel)).astype(np.float32)
    pads = [(k // 2 * d, k // 2 * d) for k, d in zip(kernel, dilation, strict=True)]
    window = ((1, 1), pads, dilation, 1)
    y = fastconv.conv2d(x, w, padding=pads, dilation=dilation, algorithm="winograd")
    expected = oracle.forward(x.astype(np.float64), w.astype(np.float64), None, *window)
    back = fastconv.grad.conv2d_input(x.shape, w, y, padding=pads, dilation=dilation, algorithm="winograd")
    wanted = oracle.input_gradient(size, w.astype(np.float64), y.astype(np.float64), *window)
    for got, right in ((y, expected), (back, wanted)):
        assert np.linalg.norm(got - right) <= 1.5e-5 * np.linalg.norm(right), isa
        assert np.abs(got - right).max() <= 3e-5 * np.abs(right).max(), isa


# kernel, stride, size of the image, channels, groups, largest relative L2 error, by the points
STRIDED = [
    ((3, 3), (2, 2), (56, 56), 128, 1, 1.5e-5),  # phases of 2 and 1 taps, 2 x 2 of them
    ((3, 3), (2, 2), (57, 30), 21, 1, 1.5e-5),  # a vector of channels ends within the next phase's
    ((5, 5), (2, 2), (29, 31), 40, 1, 1.5e-5),
    ((7, 7), (2, 2), (64, 65), 3, 1, 1.5e-5),  # two phases in a vector
    ((11, 11), (4, 4), (67, 70), 3, 1, 1.5e-5),  # four phases in two vectors
    ((4, 4), (2, 2), (34, 35), 48, 2, 1.5e-5),  # phases of the same taps
    ((5, 3), (3, 2), (50, 44), 18, 1, 1.5e-5),
    ((1, 5), (1, 3), (3, 200), 5, 1, 1.5e-5),
    ((3, 1), (2, 1), (60, 9), 30, 1, 1.5e-5),
    ((2, 2), (1, 1), (30, 33), 64, 1, 1.5e-5),
    ((4, 4), (1, 1), (22, 33), 30, 2, 1.5e-5),
    ((1, 2), (1, 1), (1, 300), 64, 1, 6e-6),
]


@pytest.mark.parametrize(("kernel", "stride", "size", "channels", "groups", "relative"), STRIDED)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_error_with_a_stride_or_an_even_number_of_taps(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
    channels: int,
    groups: int,
    relative: float,
    layout: Literal["NCHW", "NHWC"],
    isa: str,
) -> None:
    """The phases of a stride add up, with and without packed weights, for one image and for several."""
    rng = np.random.default_rng(channels + sum(size))
    x = rng.standard_normal((2, channels * groups, *size)).astype(np.float32)
    w = rng.standard_normal((24 * groups, channels, *kernel)).astype(np.float32)
    pads = [(k // 2, (k - 1) // 2) for k in kernel]
    wanted = oracle.forward(x.astype(np.float64), w.astype(np.float64), None, stride, pads, (1, 1), groups)
    window: dict[str, Any] = {"stride": stride, "padding": pads, "groups": groups, "layout": layout}
    if layout == "NHWC":
        x, wanted = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, wanted))
    y = fastconv.conv2d(x, w, **window, algorithm="winograd")
    assert np.linalg.norm(y - wanted) <= relative * np.linalg.norm(wanted), isa
    assert np.abs(y - wanted).max() <= 3e-5 * np.abs(wanted).max(), isa
    plan = fastconv.plan_conv2d(x[1:].shape, w, **window, algorithm="winograd")
    np.testing.assert_array_equal(plan(x[1:]), y[1:])


def test_what_has_no_form() -> None:
    x = np.ones((1, 8, 20, 20), np.float32)
    for kernel, window, message in [
        ((1, 3), {"stride": 2}, "needs strides within the kernel, here 2 and 1 taps"),
        (1, {}, "no form for 1x1 taps"),
        (2, {"stride": 2}, "no form for 1x1 taps of each phase"),
        (6, {}, "no form for 6x6 taps"),
        ((3, 2), {}, "no form for 3x2 taps"),
        (3, {"stride": 2, "dilation": 2}, "a stride or a dilation of 1"),
    ]:
        w = np.ones((8, 8, *((kernel,) * 2 if isinstance(kernel, int) else kernel)), np.float32)
        with pytest.raises(NotImplementedError, match=message):
            fastconv.conv2d(x, w, **window, algorithm="winograd")  # type: ignore[arg-type]
    w, y = np.ones((8, 8, 3, 3), np.float32), np.ones((1, 8, 9, 9), np.float32)
    with pytest.raises(NotImplementedError, match="input gradients of stride 1 only"):
        fastconv.grad.conv2d_input(x.shape, w, y, stride=2, algorithm="winograd")
    with pytest.raises(NotImplementedError, match="weight gradients of stride 1 only"):
        fastconv.grad.conv2d_weight(x, w.shape, y, stride=2, algorithm="winograd")
    with pytest.raises(NotImplementedError, match="weight gradients of an odd number of taps only, here 2x2"):
        fastconv.grad.conv2d_weight(x, (8, 8, 2, 2), np.ones((1, 8, 19, 19), np.float32), algorithm="winograd")


def test_taps_along_the_depth(isa: str) -> None:
    """They are summed as channels are; a sum of both is divided where it is long."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 60, 4, 14, 15)).astype(np.float32)
    w = rng.standard_normal((24, 60, 3, 3, 3)).astype(np.float32)
    window = ((1, 1, 1), [(1, 1)] * 3, (1, 1, 1), 1)
    expected = oracle.forward(x.astype(np.float64), w.astype(np.float64), None, *window)
    y = fastconv.conv3d(x, w, padding=1, algorithm="winograd")
    prepared = fastconv.plan_conv3d(x.shape, w, padding=1, algorithm="winograd")
    np.testing.assert_array_equal(prepared(x), y)
    back = fastconv.grad.conv3d_input(x.shape, w, y, padding=1, algorithm="winograd")
    wanted = oracle.input_gradient((4, 14, 15), w.astype(np.float64), y.astype(np.float64), *window)
    for got, right in ((y, expected), (back, wanted)):
        assert np.linalg.norm(got - right) <= 6e-6 * np.linalg.norm(right), isa
        assert np.abs(got - right).max() <= 3e-5 * np.abs(right).max(), isa


def test_chosen_by_auto_and_never_by_exact() -> None:
    shapes = ((1, 64, 56, 56), (64, 64, 3, 3))
    assert fastconv.explain((1, 32, 8, 28, 28), (64, 32, 3, 3, 3), padding=1).algorithm == "winograd"
    assert fastconv.explain(*shapes, padding=1).algorithm == "winograd"
    assert fastconv.explain(*shapes, padding=1, algorithm="exact").algorithm != "winograd"
    gradient = fastconv.explain(*shapes, padding=1, direction="weight_gradient")
    assert gradient.algorithm == "winograd"
    # One channel leaves the lanes of a vector empty.
    assert fastconv.explain((1, 1, 28, 28), (25, 1, 3, 3)).algorithm != "winograd"
