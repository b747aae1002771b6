"""The shared cases (cases.py) in the emulator of the CUDA kernels, on small integers, where every sum is exact.

Those of more than MOST multiply-adds are left to a GPU; tests/test_cuda_conv.py has what the shapes of tiles ask for.
Of the precisions of im2col each question meets one, by turns; input gradients are asked as transposed convolutions, the
same loop nests with bias and activation.
"""

from __future__ import annotations

import numpy as np
import pytest

from .cases import CASES
from .cuda_emulator.load import emulated
from .directions import from_layout, question, to_layout

MOST = 300_000
PRECISIONS = ["fp32-simt", "tf32", "fp32"]
DIRECTIONS = ["forward", "transposed", "weight_gradient"]
SMALL = [case for case in CASES if case.multiply_adds <= MOST]


def test_most_cases_are_small_enough():
    assert len(SMALL) > len(CASES) // 2


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", SMALL, ids=[case.name for case in SMALL])
def test_shared_case(case, direction, layout):
    asked = question(case.name, direction, True)
    given = {role: np.asarray(array, np.float32) for role, array in asked.arrays.items()}
    bias = given.pop("bias", None)
    given = {role: array if role == "w" else to_layout(array, layout) for role, array in given.items()}
    if direction == "transposed":
        given["x"] = to_layout(np.empty(case.x_shape), layout).shape
    elif direction == "weight_gradient":
        given["w"] = case.w_shape
    turn = SMALL.index(case) + DIRECTIONS.index(direction) + (layout == "NHWC")
    runs = [("auto", "fp32"), ("im2col", PRECISIONS[turn % 3]), ("pointwise", PRECISIONS[1 + turn % 2])]
    runs += [("direct", "fp32"), ("depthwise", "fp32")]
    done = 0
    for seed, (algorithm, precision) in enumerate(runs, turn):
        emulated().configure(seed=seed, lazy_copies=seed % 2 == 1)
        try:
            result = emulated().convolve(
                direction="input_gradient" if direction == "transposed" else direction,
                **given,
                bias=bias,
                spatial=case.axes,
                stride=case.stride,
                padding=case.padding,
                dilation=case.dilation,
                groups=case.groups,
                layout=layout,
                activation=(direction in ("forward", "transposed") and case.activation) or "none",
                algorithm=algorithm,
                precision=precision,
            )
        except NotImplementedError:
            assert algorithm != "auto"
            continue
        done += 1
        if direction != "weight_gradient":
            result = from_layout(result, layout)
        assert np.array_equal(result, asked.expected), (algorithm, precision)
    assert done >= 1
