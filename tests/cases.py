"""Named convolution problems, shared by the tests and the benchmarks.

A case says what is convolved and nothing about how: every algorithm, direction, dtype, layout, ISA and number of
threads is run over the same list. Each name tells what is special about the case; add one where a new loop nest has
an edge that none of these meets. ``python tests/cases.py`` writes the list as text for tests/cpp/guard_pages.cpp.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the list is also written where there is no NumPy, for the C++ test
    import numpy as np

Pair = tuple[int, int]


@dataclass(frozen=True)
class ConvCase:
    """One convolution: the sizes of its arrays and its window, in one, two or three spatial axes."""

    name: str
    batch: int
    in_c: int
    out_c: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[Pair, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    activation: str | None = None

    def __post_init__(self) -> None:
        axes = len(self.size)
        for field, default in (("stride", 1), ("padding", (0, 0)), ("dilation", 1)):
            value = getattr(self, field) or (default,) * axes
            assert len(value) == axes, f"{self.name}: {field}={value}"
            object.__setattr__(self, field, value)

    @property
    def axes(self) -> int:
        return len(self.size)

    @cached_property
    def out_size(self) -> tuple[int, ...]:
        """Counts the places where the window fits, instead of using the formula."""
        counts = []
        for size, kernel, stride, (low, high), dilation in zip(
            self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            last_tap = (kernel - 1) * dilation
            counts.append(len(range(0, size + low + high - last_tap, stride)))
        return tuple(counts)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_c, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        return (self.out_c, self.in_c // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_c, *self.out_size)

    @property
    def output_padding(self) -> tuple[int, ...]:
        """What makes the transposed convolution of y as large as x."""
        return tuple(
            size - ((out - 1) * stride + (kernel - 1) * dilation + 1 - low - high)
            for size, out, stride, kernel, dilation, (low, high) in zip(
                self.size, self.out_size, self.stride, self.kernel, self.dilation, self.padding, strict=True
            )
        )

    @property
    def window(self) -> dict[str, Any]:
        """The keywords that all functions of the family share."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def multiply_adds(self) -> int:
        return math.prod(self.w_shape) * self.batch * math.prod(self.out_size)

    def __str__(self) -> str:
        return self.name


def make_array(case: ConvCase, role: str, shape: tuple[int, ...], integers: bool) -> np.ndarray:
    """Return the same float64 numbers for the same case and role every time.

    Integers between -4 and 4 keep every sum of these cases exactly representable in float32, whatever its order:
    4 * 4 * 2**19 terms < 2**24. Normal numbers are rounded to float32, so that both dtypes see the same values.
    """
    import numpy as np

    rng = np.random.default_rng(zlib.crc32(f"{case.name}/{role}".encode()))
    if integers:
        return rng.integers(-4, 5, shape).astype(np.float64)
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def _square(name: str, batch: int, in_c: int, out_c: int, size: int, kernel: int, **more: Any) -> ConvCase:
    """Two axes with the same numbers on both; padding is one number."""
    pad = more.pop("padding", 0)
    window = {key: (more.pop(key),) * 2 for key in ("stride", "dilation") if key in more}
    return ConvCase(name, batch, in_c, out_c, (size,) * 2, (kernel,) * 2, padding=((pad, pad),) * 2, **window, **more)


CASES: tuple[ConvCase, ...] = (
    # -- plain ----------------------------------------------------------------------------------------------------
    _square("plain", 2, 16, 32, 12, 3, padding=1, bias=True),
    _square("plain_no_padding", 2, 8, 16, 10, 3),
    _square("channel_tail", 2, 5, 7, 9, 3, padding=1, bias=True),
    _square("one_more_than_a_vector", 1, 17, 33, 8, 3, padding=1),
    _square("one_less_than_a_vector", 1, 15, 31, 8, 3, padding=1),
    _square("narrow", 1, 12, 4, 7, 3, padding=1, activation="relu"),
    _square("widening", 1, 3, 40, 8, 3, padding=1, bias=True, activation="relu6"),
    _square("single_channels", 3, 1, 1, 6, 3, bias=True),
    _square("lecture", 3, 1, 25, 14, 3, bias=True, activation="relu"),
    _square("stem", 1, 3, 16, 31, 7, stride=2, padding=3, bias=True),
    _square("patches", 2, 3, 24, 16, 4, stride=4, bias=True),
    _square("stem_11_strided_by_4", 1, 3, 20, 43, 11, stride=4, padding=2, activation="relu"),
    _square("first_layer_in_place", 2, 1, 26, 20, 3, bias=True),
    _square("first_layer_5", 2, 1, 32, 18, 5, padding=2, bias=True, activation="relu6"),
    _square("one_output", 2, 12, 1, 19, 3, padding=1, bias=True),
    _square("two_outputs", 1, 9, 2, 37, 1, bias=True),
    _square("two_outputs_behind_two_vectors", 2, 22, 36, 9, 3, padding=1, groups=2, bias=True, activation="relu"),
    _square("three_outputs", 1, 10, 3, 25, 3, padding=1, activation="relu"),
    _square("even_kernel", 2, 6, 8, 9, 2),
    _square("kernel_5", 1, 8, 12, 11, 5, padding=2, bias=True),
    # -- 1x1 ------------------------------------------------------------------------------------------------------
    _square("pointwise", 2, 24, 40, 7, 1, bias=True),
    _square("pointwise_tail", 3, 13, 19, 5, 1, activation="relu"),
    _square("pointwise_strided", 2, 16, 24, 9, 1, stride=2, bias=True),
    _square("pointwise_padded", 1, 8, 8, 5, 1, padding=1, bias=True),
    _square("pointwise_grouped", 2, 12, 18, 6, 1, groups=3),
    _square("pointwise_narrowing", 1, 70, 6, 6, 1, bias=True),
    _square("pointwise_one_pixel", 4, 33, 10, 1, 1, bias=True),
    # -- stride ---------------------------------------------------------------------------------------------------
    _square("strided", 2, 8, 12, 13, 3, stride=2, padding=1, bias=True),
    _square("stride_3", 1, 6, 10, 14, 3, stride=3, padding=1),
    _square("stride_4_of_many", 2, 9, 14, 41, 4, stride=4, padding=2, bias=True),
    ConvCase("stride_4_long_kernel", 1, 3, 10, (19, 70), (5, 11), (4, 4), ((2, 2), (5, 3)), bias=True),
    ConvCase("stride_4_dilated", 2, 3, 7, (14, 53), (3, 4), (2, 4), ((1, 2), (7, 0)), (1, 5), activation="relu"),
    _square("strided_wide", 1, 10, 17, 39, 3, stride=2, padding=1, activation="relu"),
    _square("strided_5_channels_on_vector", 2, 24, 32, 19, 5, stride=2, padding=2, bias=True),
    _square("stride_3_channels_on_vector", 1, 18, 20, 26, 3, stride=3, padding=1, activation="relu"),
    _square("strided_dilated_channels_on_vector", 1, 12, 18, 17, 3, stride=2, padding=3, dilation=3),
    _square("strided_deep", 1, 200, 18, 9, 3, stride=2, padding=1, bias=True),
    _square("stride_leaves_a_remainder", 2, 5, 6, 10, 3, stride=2),
    _square("stride_beyond_kernel", 2, 6, 9, 11, 2, stride=3, bias=True),
    _square("stride_beyond_kernel_1x1", 1, 5, 8, 10, 1, stride=4),
    _square("stride_beyond_input", 2, 4, 6, 5, 3, stride=7, padding=1),
    ConvCase("stride_differs", 1, 6, 8, (12, 11), (3, 3), (2, 1), ((1, 1), (1, 1)), bias=True),
    ConvCase("stride_3_against_2", 2, 4, 6, (11, 13), (4, 5), (3, 2), ((2, 2), (1, 1))),
    # -- dilation -------------------------------------------------------------------------------------------------
    _square("dilated", 2, 8, 12, 12, 3, dilation=2, padding=2, bias=True),
    _square("dilated_strided", 1, 6, 8, 15, 3, dilation=2, stride=2, padding=2),
    _square("dilation_multiple_of_stride", 1, 4, 6, 15, 3, dilation=4, stride=2, padding=4),
    _square("dilation_below_stride", 1, 4, 6, 16, 3, dilation=2, stride=3, padding=1, bias=True),
    _square("dilation_reaches_beyond_the_image", 1, 3, 5, 4, 3, dilation=5, padding=5),
    ConvCase("dilation_with_uneven_phases", 2, 9, 11, (11, 19), (3, 3), (1, 1), ((3, 2), (2, 3)), (3, 2), bias=True),
    ConvCase("dilation_of_columns", 1, 10, 6, (3, 24), (3, 5), (1, 1), ((1, 1), (6, 6)), (1, 3), activation="relu"),
    ConvCase("dilation_differs", 1, 5, 7, (10, 14), (3, 2), (1, 1), ((2, 2), (0, 3)), (2, 5)),
    # -- groups ---------------------------------------------------------------------------------------------------
    _square("grouped", 2, 12, 18, 9, 3, padding=1, groups=3, bias=True),
    _square("grouped_tail", 1, 10, 6, 8, 3, stride=2, padding=1, groups=2),
    _square("groups_of_4", 1, 24, 24, 29, 3, padding=1, groups=6, bias=True, activation="relu"),
    _square("groups_of_8_strided", 1, 32, 32, 19, 3, stride=2, padding=1, groups=4, bias=True),
    _square("groups_of_2_small", 3, 12, 12, 7, 3, padding=1, groups=6, bias=True),
    _square("depthwise", 2, 20, 20, 10, 3, padding=1, groups=20, bias=True, activation="relu6"),
    _square("depthwise_strided", 1, 9, 9, 13, 3, stride=2, padding=1, groups=9, bias=True),
    _square("depthwise_multiplier", 1, 6, 18, 9, 3, padding=1, groups=6),
    _square("depthwise_5_dilated", 1, 16, 16, 15, 5, dilation=2, padding=4, groups=16),
    _square("depthwise_5", 1, 33, 33, 14, 5, padding=2, groups=33, bias=True),
    _square("depthwise_5_strided", 2, 35, 35, 7, 5, stride=2, padding=2, groups=35, activation="relu"),
    _square("depthwise_7", 2, 17, 17, 9, 7, padding=3, groups=17, bias=True, activation="relu"),
    _square("depthwise_7_strided", 1, 18, 18, 29, 7, stride=2, padding=3, groups=18, bias=True),
    _square("depthwise_strided_small", 2, 19, 19, 14, 3, stride=2, padding=1, groups=19, bias=True),
    _square("depthwise_4_strided_dilated", 1, 5, 5, 22, 4, stride=2, padding=3, dilation=3, groups=5, bias=True),
    _square("depthwise_plane_within_a_vector", 1, 21, 21, 3, 3, padding=1, groups=21, bias=True),
    _square("depthwise_multiplier_strided", 1, 5, 10, 11, 5, stride=2, padding=2, groups=5, bias=True),
    _square("depthwise_many_small", 3, 40, 40, 14, 3, padding=1, groups=40, bias=True, activation="relu6"),
    ConvCase("depthwise_uneven", 2, 6, 6, (6, 19), (3, 3), (1, 1), ((2, 0), (0, 3)), (1, 2), groups=6, bias=True),
    ConvCase("depthwise_5_rows_dilated", 1, 5, 5, (12, 25), (5, 5), (1, 1), ((3, 1), (1, 2)), (2, 1), groups=5),
    ConvCase("depthwise_strided_even", 2, 5, 5, (11, 34), (3, 3), (2, 2), ((1, 1), (1, 1)), groups=5, bias=True),
    ConvCase("depthwise_strided_odd", 2, 5, 5, (8, 37), (3, 3), (2, 2), ((0, 2), (2, 0)), groups=5, activation="relu"),
    ConvCase("depthwise_5_strided_unevenly", 2, 5, 5, (10, 11), (5, 5), (2, 2), ((1, 2), (3, 1)), groups=5, bias=True),
    ConvCase("depthwise_1d", 2, 7, 7, (19,), (4,), (1,), ((3, 0),), groups=7, bias=True),
    # -- padding --------------------------------------------------------------------------------------------------
    ConvCase("asymmetric_padding", 2, 5, 6, (9, 8), (3, 3), (1, 1), ((0, 1), (2, 0)), bias=True),
    ConvCase("asymmetric_padding_strided", 1, 6, 5, (9, 10), (4, 3), (2, 3), ((3, 0), (0, 2))),
    _square("padding_beyond_kernel", 1, 4, 6, 5, 2, padding=4, bias=True),
    _square("all_windows_in_the_padding_but_one", 1, 3, 4, 1, 3, padding=3),
    _square("kernel_as_large_as_the_image", 2, 6, 10, 7, 7, bias=True),
    _square("kernel_larger_than_the_image", 1, 5, 6, 3, 7, padding=3),
    # -- shapes of the image --------------------------------------------------------------------------------------
    _square("single_pixel", 2, 9, 11, 1, 3, padding=1, bias=True),
    ConvCase("one_row", 2, 6, 8, (1, 37), (1, 5), (1, 1), ((0, 0), (2, 2)), bias=True),
    ConvCase("one_column", 2, 6, 8, (37, 1), (5, 1), (1, 1), ((2, 2), (0, 0))),
    ConvCase("width_of_no_vector", 1, 4, 6, (5, 67), (3, 3), (1, 1), ((1, 1), (1, 1)), bias=True),
    ConvCase("width_under_a_vector", 3, 8, 8, (9, 3), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ConvCase("tall_kernel", 1, 5, 6, (14, 6), (7, 1), (2, 1), ((3, 2), (0, 0)), bias=True),
    ConvCase("wide_kernel", 1, 5, 6, (6, 21), (1, 9), (1, 2), ((0, 0), (4, 1))),
    # -- one and three axes ---------------------------------------------------------------------------------------
    ConvCase("signal", 3, 6, 10, (40,), (5,), (1,), ((2, 2),), bias=True, activation="relu"),
    ConvCase("signal_dilated_far", 1, 7, 12, (130,), (3,), (1,), ((90, 0),), (45,), bias=True),
    ConvCase("signal_strided_dilated", 2, 4, 7, (33,), (3,), (3,), ((2, 1),), (2,), bias=True),
    ConvCase("signal_causal_grouped", 1, 8, 4, (17,), (4,), (1,), ((3, 0),), groups=4),
    ConvCase("volume", 1, 4, 6, (5, 6, 7), (3, 3, 3), (1, 1, 1), ((1, 1),) * 3, bias=True),
    ConvCase("volume_mixed", 2, 6, 4, (6, 5, 9), (2, 3, 1), (2, 1, 3), ((1, 0), (0, 2), (1, 1)), (1, 2, 1), groups=2),
    ConvCase("volume_many_channels", 2, 19, 21, (4, 9, 8), (3, 3, 3), (1, 1, 1), ((1, 1),) * 3, bias=True),
    ConvCase("volume_strided_depth", 1, 13, 9, (7, 6, 9), (2, 5, 3), (2, 1, 1), ((2, 1), (2, 2), (1, 0)), (3, 1, 1)),
    ConvCase("volume_stride_beyond_kernel", 1, 3, 5, (7, 6, 5), (1, 2, 2), (3, 3, 3), bias=True),
    # -- large enough for several blocks, splits of the sum, and threads -----------------------------------------------
    _square("deep", 1, 200, 40, 7, 3, padding=1, bias=True),
    _square("deep_pointwise", 1, 530, 70, 9, 1, bias=True, activation="relu"),
    _square("many_outputs", 1, 20, 150, 14, 3, padding=1),
    ConvCase("large_image", 1, 6, 10, (60, 83), (3, 3), (1, 1), ((1, 1), (1, 1)), bias=True),
    _square("batch_of_small_images", 9, 24, 30, 6, 3, padding=1, bias=True),
    ConvCase("long_signal", 1, 2, 3, (41000,), (9,), (1,), ((4, 4),), bias=True),
    ConvCase("long_signal_in_place", 1, 1, 2, (70001,), (5,), (1,), ((0, 0),)),
    _square("depthwise_large", 2, 70, 70, 23, 3, padding=1, groups=70, bias=True),
)

BY_NAME = {case.name: case for case in CASES}
assert len(BY_NAME) == len(CASES), "every case has a name of its own"


def as_text(case: ConvCase) -> str:
    """One line for the C++ test: name batch in_c out_c groups bias activation axes, then seven numbers per axis."""
    fields: list[object] = [case.name, case.batch, case.in_c, case.out_c, case.groups, int(case.bias)]
    fields += [case.activation or "none", case.axes]
    for values in zip(
        case.size, case.kernel, case.stride, case.dilation, case.padding, case.output_padding, strict=True
    ):
        size, kernel, stride, dilation, (low, high), extra = values
        fields += [size, kernel, stride, dilation, low, high, extra]
    return " ".join(map(str, fields))


if __name__ == "__main__":
    print("\n".join(as_text(case) for case in CASES))
