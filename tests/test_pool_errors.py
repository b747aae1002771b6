"""Bad input to poolings: calls that brought down other libraries, each refused with the argument named.

Numbers in brackets are rows of the advisories and issues that a row replays. Arrays of absurd sizes are views of one
number, so that a call that allocated or read before it checked would not go unnoticed.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastconv as f
from fastconv import grad

X = np.ones((1, 2, 6, 6), np.float32)
Y = np.ones((1, 2, 3, 3), np.float32)
PLACES = np.tile(np.arange(9), 2).reshape(1, 2, 3, 3)
BIG = 2**62


def huge(*shape: int) -> np.ndarray:
    return np.broadcast_to(np.float32(0), shape)


def places(*values: int) -> np.ndarray:
    """Indices with the last ones replaced."""
    changed = PLACES.copy()
    changed.reshape(-1)[len(PLACES.reshape(-1)) - len(values) :] = values
    return changed


# call, exception, words of the message
Row = tuple[Any, type[Exception], str]
ROWS: list[Row] = [
    # [33, 38, 42, 59, 88] kernels, strides and dilations below 1, kernels above the input
    (lambda: f.max_pool2d(X, 0), ValueError, "max_pool2d: kernel_size=0: expected at least 1"),
    (lambda: f.max_pool2d(X, (2, -1)), ValueError, "kernel_size=-1"),
    (lambda: f.avg_pool2d(X, 0, 1), ValueError, "kernel_size=0"),
    (lambda: f.max_pool2d(X, 2, 0), ValueError, "stride=0: expected at least 1"),
    (lambda: f.avg_pool3d(huge(1, 2, 4, 4, 4), 2, (1, 0, 1)), ValueError, "stride=0"),
    (lambda: f.max_pool1d(X[0], 2, -1), ValueError, "stride=-1"),
    (lambda: f.max_pool2d(X, 2, 1, 0, 0), ValueError, "dilation=0"),
    (lambda: f.max_pool2d(X, 7), ValueError, "kernel_size spans 7"),
    (lambda: f.avg_pool2d(X, (3, 9)), ValueError, "kernel_size spans 9"),
    (lambda: f.max_pool2d(X, 3, 1, 0, 3), ValueError, "kernel_size spans 7"),
    (lambda: grad.avg_pool2d(X.shape, Y, 0), ValueError, "kernel_size=0"),
    (lambda: grad.avg_pool2d(X.shape, Y, 2, 0), ValueError, "stride=0"),
    (lambda: f.max_unpool2d(Y, PLACES, 0), ValueError, "kernel_size=0"),
    (lambda: f.max_unpool3d(Y[None], PLACES[None], 2, 0), ValueError, "stride=0"),
    # [79] padding
    (lambda: f.max_pool2d(X, 3, 1, -1), ValueError, "padding=-1: expected at least 0"),
    (lambda: f.max_pool2d(X, 3, 1, 2), ValueError, "padding=2: expected at most 1"),
    (lambda: f.avg_pool2d(X, 2, 1, (1, 2)), ValueError, "padding=2"),
    (lambda: f.max_pool2d(X, 3, 1, ((0, 3), (0, 0))), ValueError, "padding=3: expected at most 2"),
    (lambda: f.max_pool2d(X, 3, 1, (1, 1, 1)), ValueError, "padding has 3 entries"),
    (lambda: f.max_pool2d(X, 3, 1, ()), ValueError, "padding"),
    (lambda: f.max_pool2d(X, 3, 1, "full"), ValueError, "'full'"),
    (lambda: f.max_pool2d(X, 3, 1, None), TypeError, "padding=None"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, padding="same"), TypeError, "padding='same'"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, padding=4), ValueError, "output size would be"),
    # [35] numbers that are none, or do not fit
    (lambda: f.avg_pool2d(X, 1e20), TypeError, "kernel_size=1e+20"),
    (lambda: f.avg_pool2d(X, 2**70), ValueError, "overflow"),
    (lambda: f.max_pool2d(X, True), TypeError, "kernel_size=True"),
    (lambda: f.max_pool2d(X, "3"), TypeError, "kernel_size='3'"),
    (lambda: f.max_pool2d(X, None), TypeError, "kernel_size=None"),
    (lambda: f.max_pool2d(X, []), ValueError, "kernel_size"),
    (lambda: f.max_pool2d(X, (2, 2, 2)), ValueError, "kernel_size=(2, 2, 2): expected 1 or 2 numbers"),
    (lambda: f.max_pool2d(X, 2, ceil_mode=1), TypeError, "ceil_mode=1"),
    (lambda: f.max_pool2d(X, 2, None, 0, 1, False, None), TypeError, "return_indices=None"),
    (lambda: f.avg_pool2d(X, 2, None, 0, False, 0), TypeError, "count_include_pad=0"),
    (lambda: f.avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override=0"),
    (lambda: f.avg_pool2d(X, 2, divisor_override=2.0), TypeError, "divisor_override=2.0"),
    (lambda: f.max_pool2d(X, 2, layout="CHWN"), ValueError, "layout='CHWN'"),
    # sizes whose sums and products overflow
    (lambda: f.max_pool2d(X, 3, 1, BIG), ValueError, "overflow"),
    (lambda: f.max_pool2d(X, 3, 1, 0, BIG), ValueError, "overflow"),
    (lambda: f.max_pool2d(X, BIG, 1, 0, 4), ValueError, "overflow"),
    (lambda: f.max_pool2d(X, 2, BIG), ValueError, "overflow"),
    (lambda: f.max_pool1d(X[0], 2**31 + 1, 1, 2**30, 2**31), ValueError, "overflow"),
    (lambda: f.max_pool2d(X, (2**40, 2**40), 1, 2**39), ValueError, "overflow"),
    (lambda: f.adaptive_avg_pool2d(X, 2**62), ValueError, "overflow"),
    (lambda: f.adaptive_max_pool2d(X, (2**40, 2**40)), ValueError, "overflow"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, 2**62), ValueError, "overflow"),
    # [23] adaptive sizes
    (lambda: f.adaptive_avg_pool2d(X, 0), ValueError, "output_size=0: expected at least 1"),
    (lambda: f.adaptive_max_pool2d(X, (2, -3)), ValueError, "output_size=-3"),
    (lambda: f.adaptive_max_pool2d(X, (1, 2, 3)), ValueError, "output_size has 3 entries"),
    (lambda: f.adaptive_max_pool2d(X, ()), ValueError, "output_size"),
    (lambda: f.adaptive_max_pool2d(X, None), TypeError, "output_size=None"),
    (lambda: f.adaptive_avg_pool2d(X, 2.5), TypeError, "output_size=2.5"),
    # [31, 32] ranks, and sizes of 0
    (lambda: f.max_pool2d(X[0, 0], 2), ValueError, "x has shape (6, 6): expected 4 axes (batched) or 3"),
    (lambda: f.max_pool2d(X[None], 2), ValueError, "x has shape (1, 1, 2, 6, 6)"),
    (lambda: f.avg_pool2d(np.float32(3), 2), ValueError, "x has shape ()"),
    (lambda: f.max_pool2d(X[:, :0], 2), ValueError, "at least 1 channel"),
    (lambda: f.max_pool2d(X[:, :, :0], 2, 1, 1), ValueError, "spatial sizes of at least 1"),
    (lambda: f.adaptive_avg_pool2d(X[:, :, :0], 1), ValueError, "spatial sizes of at least 1"),
    # kinds of arrays
    (lambda: f.max_pool2d(None, 2), TypeError, "x is NoneType"),
    (lambda: f.max_pool2d(X.astype(np.int32), 2), TypeError, "x has dtype int32"),
    (lambda: f.avg_pool2d(X.astype(np.longdouble), 2), TypeError, "float32, float64, float16 or bfloat16"),
    (lambda: f.avg_pool2d(X.astype(complex), 2), TypeError, "complex128"),
    (lambda: f.max_pool2d(X, 2, out=np.empty((1, 2, 3, 4), np.float32)), ValueError, "out has shape (1, 2, 3, 4)"),
    (lambda: f.max_pool2d(X, 2, out=np.empty((1, 2, 3, 3))), TypeError, "out has dtype float64"),
    (lambda: f.max_pool2d(X, 1, out=X), ValueError, "out overlaps an input"),
    # [24, 27, 28, 30, 36, 37, 41] gradients that disagree with their forward call
    (lambda: grad.avg_pool2d((11, 2, 6, 6), Y, 2), ValueError, "(1, 2, 3, 3): expected (11, 2, 3, 3)"),
    (lambda: grad.avg_pool2d((1, 3, 6, 6), Y, 2), ValueError, "expected (1, 3, 3, 3)"),
    (lambda: grad.avg_pool3d((1, 2, 4, 4, 4), huge(1, 2, 2, 2, 3), 2), ValueError, "expected (1, 2, 2, 2, 2)"),
    (lambda: grad.avg_pool2d((-536870912,) * 4, Y, 2), ValueError, "input_size has shape (-536870912"),
    (lambda: grad.avg_pool2d((1, 2, 2**31, 2**31), Y, 2), ValueError, "overflow"),
    (lambda: grad.avg_pool2d(5, Y, 2), TypeError, "input_size=5"),
    (lambda: grad.avg_pool2d((), Y, 2), ValueError, "input_size"),
    (lambda: grad.avg_pool2d((1, 40, 128, 1), huge(1, 40, 128, 30), 1, (128, 30)), ValueError, "grad_output"),
    (lambda: grad.adaptive_avg_pool2d(X.shape, Y[:, :, :0]), ValueError, "output_size=0"),
    (lambda: grad.adaptive_avg_pool2d(X.shape, Y[0, 0]), ValueError, "grad_output has shape (3, 3)"),
    (lambda: grad.max_pool2d((2, 2, 6, 6), Y, PLACES), ValueError, "same batch and channels"),
    (lambda: grad.max_pool2d((2, 6, 6), Y, PLACES), ValueError, "same batch and channels"),
    (lambda: grad.max_pool2d((1, 2, 6), Y[0], PLACES), ValueError, "indices has shape (1, 2, 3, 3)"),
    (lambda: grad.max_pool2d(X.shape, Y, PLACES[..., :2]), ValueError, "indices has shape (1, 2, 3, 2)"),
    (lambda: grad.max_pool2d((1, 2, 0, 6), Y, PLACES), ValueError, "input_size"),
    (lambda: grad.max_pool2d((1, 2, 2, 2), Y, PLACES), ValueError, "indices holds 4 at (0, 0, 1, 1): expected 0 to 3"),
    # [30, 78] indices are offsets into memory
    (lambda: grad.max_pool2d(X.shape, Y, places(-1)), ValueError, "indices holds -1 at (0, 1, 2, 2): expected 0 to 35"),
    (lambda: grad.max_pool2d(X.shape, Y, places(36, 0)), ValueError, "indices holds 36 at (0, 1, 2, 1)"),
    (lambda: grad.max_pool2d(X.shape, Y, places(-(2**63))), ValueError, "-9223372036854775808"),
    (lambda: f.max_unpool2d(Y, places(2**63 - 1), 2), ValueError, "9223372036854775807"),
    (lambda: f.max_unpool2d(Y, places(36), 2), ValueError, "indices holds 36"),
    (lambda: grad.max_unpool2d(Y, places(9)), ValueError, "indices holds 9"),
    (lambda: grad.max_pool2d(X.shape, Y, PLACES.astype(np.int32)), TypeError, "dtype int32: expected int64"),
    (lambda: grad.max_pool2d(X.shape, Y, PLACES.astype(float)), TypeError, "indices has dtype float64"),
    (lambda: grad.max_pool2d(X.shape, Y, None), TypeError, "indices is NoneType"),
    (lambda: f.max_unpool2d(Y, Y, 2), TypeError, "indices has dtype float32"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, output_size=(8, 8)), ValueError, "between 4 and 8"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, output_size=(4, 6)), ValueError, "between 4 and 8"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, output_size=(1, 3, 6, 6)), ValueError, "expected (1, 2, 6, 6)"),
    (lambda: f.max_unpool2d(Y, PLACES, 2, output_size=(6,)), ValueError, "output_size=(6,)"),
    # a maximum over nothing has no place
    (lambda: f.max_pool2d(X[..., :1], (1, 2), 1, (0, 2), (1, 3), False, True), ValueError, "steps over the"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2])
def test_refused(row: Row) -> None:
    call, kind, words = row
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
    np.testing.assert_array_equal(f.max_pool2d(X, 2), Y)


def test_nothing_is_written_where_an_index_is_wrong() -> None:
    for call in (
        lambda out: grad.max_pool2d(X.shape, Y, places(36), out=out),
        lambda out: f.max_unpool2d(Y, places(36), 2, out=out),
    ):
        out = np.full(X.shape, 7, np.float32)
        with pytest.raises(ValueError, match="indices holds 36"):
            call(out)
        assert np.all(out == 7)


# Numbers that wrapped, overflowed or divided by zero elsewhere.
NUMBERS = [
    0, -1, 1, 2, 3, -(2**31), 2**31 - 1, 2**31, 2**32, 65536, 1879048192, -536870912, -1879048192, 2**55, 1250999896764,
    4634247419717959497, 9132760301568586890, -(2**63), 2**63 - 1, 2**70,
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_any_number_anywhere_is_answered(number: int) -> None:
    """Either a result of a sound shape, or an error; each within an instant."""
    for other, slot in itertools.product((1, 2, 2**31), range(4)):
        arguments = [3, other, 1, 1]
        arguments[slot] = number
        for function in (f.max_pool2d, f.avg_pool2d):
            if function is f.avg_pool2d:
                arguments[3] = 0
            for ceil_mode in (False, True):
                try:
                    if function is f.max_pool2d:
                        y = f.max_pool2d(X, *arguments, ceil_mode=ceil_mode)
                    else:
                        y = f.avg_pool2d(X, *arguments[:3], ceil_mode=ceil_mode)
                except ValueError:
                    continue
                assert y.shape[:2] == X.shape[:2] and y.size <= 200
    for call in (
        lambda: f.adaptive_max_pool2d(X, number) if abs(number) < 1000 or abs(number) > 2**40 else None,
        lambda: f.max_unpool2d(Y, PLACES, 2, number) if abs(number) < 1000 or abs(number) > 2**40 else None,
        lambda: grad.max_pool2d(X.shape, Y, places(number if abs(number) < 2**63 else 0)),
        lambda: grad.avg_pool2d((1, 2, number, 6), Y, 2),
    ):
        try:
            call()
        except ValueError:
            pass
