"""Bad input: one table of calls that brought down other libraries, and the dictionary of their numbers.

Every call runs in a worker process with 512 MB of room. It must end with the stated exception, quickly, having touched
next to nothing, with a message that names the argument, what came and what was expected, and the call after it must
be right. Numbers in brackets are rows of the advisories that the row replays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from fastconv import _core

from .worker import RESIDENT, Worker

VALUE, TYPE, EMPTY = "ValueError", "TypeError", ""
SECONDS = 2.0  # what a refused call may take on a busy machine; it takes some microseconds


@dataclass(frozen=True)
class Row:
    """A call, the exception's name ("" for a legal call), and words that its message must contain.

    Names are those of expressions.py; xw3 is x and weight of 3 channels.
    """

    call: str
    kind: str
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return re.sub(r"[^\w=.,()-]+", "_", self.call)[:100]


def refused(call: str, *words: str, kind: str = VALUE) -> Row:
    return Row(call, kind, words)


def legal(condition: str) -> Row:
    """An expression that must be true."""
    return Row(condition, EMPTY)


ZERO_SIZES = [
    # [1, 4, 6, 7, 8, 11, 51] no axis of a filter may be 0
    refused("f.conv3d(z(1, 3, 5, 5, 5), z(0, 3, 3, 3, 3))", "weight", "(0, 3, 3, 3, 3)", "at least 1"),
    refused("f.conv2d(z(1, 4, 8, 8), z(8, 0, 3, 3))", "weight", "(8, 0, 3, 3)", "at least 1"),
    refused("f.conv2d(z(1, 0, 8, 8), z(8, 0, 3, 3))", "weight", "(8, 0, 3, 3)", "at least 1"),
    refused("f.conv2d(z(1, 4, 8, 8), z(8, 4, 0, 3))", "weight", "(8, 4, 0, 3)", "at least 1"),
    refused("f.conv2d(z(1, 4, 8, 8), z(8, 4, 3, 0))", "weight", "(8, 4, 3, 0)", "at least 1"),
    refused("f.conv1d(z(1, 4, 8), z(0, 0, 0))", "weight", "(0, 0, 0)", "at least 1"),
    refused("f.conv_transpose2d(z(1, 8, 8, 8), z(8, 0, 3, 3))", "weight", "(8, 0, 3, 3)"),
    refused("f.conv_transpose2d(z(1, 8, 8, 8), z(8, 4, 3, 0))", "weight", "(8, 4, 3, 0)"),
    refused("grad.conv2d_input((1, 0, 5, 5), z(8, 0, 3, 3), z(1, 8, 3, 3))", "weight", "(8, 0, 3, 3)"),
    refused("grad.conv2d_weight(z(1, 4, 5, 5), (8, 0, 3, 3), z(1, 8, 3, 3))", "weight_size", "(8, 0, 3, 3)"),
    refused("grad.conv2d_weight(z(1, 4, 5, 5), (0, 4, 3, 3), z(1, 0, 3, 3))", "weight_size", "(0, 4, 3, 3)"),
    # [17, 21] nor a channel or spatial axis of the input, whatever the padding would make of it
    refused("f.conv2d(z(1, 2, 0, 5), z(3, 2, 1, 1), padding=1)", "x", "(1, 2, 0, 5)", "at least 1"),
    refused("f.conv2d(z(1, 0, 5, 5), z(3, 2, 1, 1))", "x", "(1, 0, 5, 5)", "at least 1 channel"),
    refused("f.conv2d(z(1, 5, 5, 0), z(3, 2, 1, 1), layout='NHWC')", "x", "(1, 5, 5, 0)", "at least 1 channel"),
    refused("f.conv_transpose3d(z(1, 2, 0, 3, 3), z(2, 3, 2, 2, 2))", "x", "(1, 2, 0, 3, 3)", "at least 1"),
    # [3, 8, 18] gradients of nothing
    refused("grad.conv3d_weight(z(2, 3, 5, 5, 5), (4, 3, 3, 3, 3), z(2, 4, 0, 0, 0))",
            "grad_output", "(2, 4, 0, 0, 0)"),
    refused("grad.conv2d_input((3, 1, 2, 3), z(1, 1, 2, 2), z(3, 1, 1, 0))", "grad_output", "(3, 1, 1, 0)"),
    refused("grad.conv2d_input((3, 1, 0, 3), z(1, 1, 2, 2), z(3, 1, 0, 2))", "input_size", "(3, 1, 0, 3)"),
    # [3, 25] but a batch of 0 is legal
    legal("f.conv2d(z(0, 3, 8, 8), z(4, 3, 3, 3), padding=1).shape == (0, 4, 8, 8)"),
    legal("f.conv_transpose2d(z(0, 4, 8, 8), z(4, 3, 2, 2), stride=2).shape == (0, 3, 16, 16)"),
    legal("grad.conv2d_input((0, 3, 8, 8), z(4, 3, 3, 3), z(0, 4, 6, 6)).shape == (0, 3, 8, 8)"),
    legal("(lambda g: g.shape == (4, 3, 3, 3) and not g.any())(grad.conv2d_weight(z(0, 3, 8, 8), (4, 3, 3, 3),"
          " z(0, 4, 6, 6), out=np.ones((4, 3, 3, 3), np.float32)))"),
]  # fmt: skip

SHAPES = [
    # [2, 27] gradients that disagree with their forward call
    refused("grad.conv2d_weight(z(2, 3, 5, 5), (4, 3, 3, 3), z(1, 4, 3, 3))",
            "grad_output", "(1, 4, 3, 3)", "(2, 4, 3, 3)"),
    refused("grad.conv2d_weight(z(2, 3, 5, 5), (4, 3, 3, 3), z(2, 5, 3, 3))",
            "grad_output", "(2, 5, 3, 3)", "(2, 4, 3, 3)"),
    refused("grad.conv3d_weight(z(2, 3, 5, 5, 5), (4, 3, 3, 3, 3), z(2, 4, 3, 3, 4))",
            "grad_output", "(2, 4, 3, 3, 3)"),
    refused("grad.conv2d_weight(z(11, 3, 5, 5), (4, 3, 3, 3), z(1, 4, 3, 3))", "grad_output", "(11, 4, 3, 3)"),
    refused("grad.conv2d_input((2, 3, 5, 5), z(4, 3, 3, 3), z(1, 4, 3, 3))", "grad_output", "(2, 4, 3, 3)"),
    refused("grad.conv2d_input((2, 3, 5, 5), z(4, 3, 3, 3), z(2, 4, 9, 9))", "grad_output", "(2, 4, 3, 3)"),
    refused("grad.conv2d_input((2, 5, 5, 5), z(4, 3, 3, 3), z(2, 4, 3, 3))", "input_size", "5 channels", "expected 3"),
    refused("grad.conv2d_input((2, 3, 5, 5), z(4, 3, 3, 3), z(2, 4, 3))", "grad_output", "(2, 4, 3)", "(2, 4, 3, 3)"),
    # [9, 14] sizes given that are not those of the arrays
    refused("grad.conv2d_weight(z(2, 3, 5, 5), (4, 3, 2, 3), z(2, 4, 3, 3))", "grad_output", "(2, 4, 4, 3)"),
    refused("grad.conv2d_weight(z(2, 3, 5, 5), (4, 2, 3, 3), z(2, 4, 3, 3))", "input", "3 channels", "expected 2"),
    refused("grad.conv3d_weight(z(1, 2, 5, 5, 5), 5, z(1, 2, 3, 3, 3))", "weight_size", "5", "sequence", kind=TYPE),
    refused("grad.conv3d_weight(z(1, 2, 5, 5, 5), (5,), z(1, 2, 3, 3, 3))", "weight_size", "(5,)", "5 axes"),
    # [16, 31, 73] ranks
    refused("grad.conv2d_input((65534, 65534), z(1, 1, 3, 3), np.float32(0))", "input_size", "(65534, 65534)", "axes"),
    refused("f.conv2d(z(3, 8), z(4, 3, 3, 3))", "x", "(3, 8)", "4 axes", "3"),
    refused("f.conv2d(z(1, 1, 3, 8, 8), z(4, 3, 3, 3))", "x", "(1, 1, 3, 8, 8)", "4 axes"),
    refused("f.conv2d(z(1, 3, 8, 8), z(4, 3, 3))", "weight", "(4, 3, 3)", "4 axes"),
    refused("f.conv2d(z(1, 3, 8, 8), z(4, 3, 3, 3, 3))", "weight", "(4, 3, 3, 3, 3)", "4 axes"),
    refused("f.conv2d(np.float32(1), z(4, 3, 3, 3))", "x", "()", "4 axes"),
    refused("f.conv1d(z(1, 3, 8), np.float32(1))", "weight", "()", "3 axes"),
    # channels
    refused("f.conv2d(z(1, 3, 8, 8), z(4, 5, 3, 3))", "x", "3 channels", "expected 5"),
    refused("f.conv2d(z(1, 8, 8, 3), z(4, 3, 3, 3))", "x", "8 channels", "expected 3", "layout='NHWC'"),
    refused("f.conv2d(*xw3, layout='NHWC')", "x", "8 channels", "layout='NCHW'"),
    refused("f.conv_transpose2d(*xw3)", "x", "3 channels", "expected 4"),
    # [52, 81] bias
    refused("f.conv2d(*xw3, z(0))", "bias", "(0,)", "(4,)"),
    refused("f.conv2d(*xw3, z(5))", "bias", "(5,)", "(4,)"),
    refused("f.conv2d(*xw3, z(3))", "bias", "(3,)", "(4,)"),
    refused("f.conv2d(*xw3, z(1, 4))", "bias", "(1, 4)", "(4,)"),
    refused("f.conv2d(*xw3, np.float32(0))", "bias", "()", "(4,)"),
    refused("f.conv_transpose2d(*xw43, z(4))", "bias", "(4,)", "(3,)"),
    # [38] a window that does not fit
    refused("f.conv2d(z(1, 3, 8, 8), z(4, 3, 9, 3))", "weight spans 9", "at most the padded input size 8"),
    refused("f.conv2d(*xw3, dilation=4)", "weight spans 9", "dilation 4", "8"),
    refused("f.conv_transpose2d(z(1, 4, 1, 1), z(4, 3, 3, 3), padding=2)", "output size", "-1", "at least 1"),
]  # fmt: skip

NUMBERS = [
    # [10, 13, 50, 59, 88] stride 0, in every function, again
    *(
        refused(call, "stride=", value, "at least 1")
        for value in ("0", "-1")
        for call in (
            f"f.conv1d(z(1, 3, 8), z(4, 3, 3), stride={value})",
            f"f.conv2d(*xw3, stride={value})",
            f"f.conv2d(*xw3, stride=(1, {value}))",
            f"f.conv3d(z(1, 3, 8, 8, 8), z(4, 3, 3, 3, 3), stride=(1, {value}, 1))",
            f"f.conv_transpose1d(z(1, 4, 8), z(4, 3, 3), stride={value})",
            f"f.conv_transpose2d(*xw43, stride={value})",
            f"f.conv_transpose3d(z(1, 4, 8, 8, 8), z(4, 3, 3, 3, 3), stride={value})",
            f"grad.conv2d_input((1, 3, 8, 8), z(4, 3, 3, 3), z(1, 4, 6, 6), stride={value})",
            f"grad.conv2d_weight(z(1, 3, 8, 8), (4, 3, 3, 3), z(1, 4, 6, 6), stride={value})",
        )
    ),
    # [51] groups and dilation
    refused("f.conv2d(*xw4, groups=0)", "groups=0", "at least 1"),
    refused("f.conv2d(*xw4, groups=-2**63)", "groups=-9223372036854775808", "at least 1"),
    refused("f.conv2d(z(1, 4, 8, 8), z(5, 2, 3, 3), groups=2)", "groups=2: expected a divisor", "5 output channels"),
    refused("f.conv_transpose2d(z(1, 5, 8, 8), z(5, 2, 3, 3), groups=2)",
            "groups=2: expected a divisor", "5 input channels"),
    refused("f.conv2d(z(1, 5, 8, 8), z(4, 2, 3, 3), groups=2)", "x", "5 channels", "expected 4", "groups=2"),
    refused("f.conv2d(*xw4, dilation=0)", "dilation=0", "at least 1"),
    refused("f.conv2d(*xw4, dilation=(1, -1))", "dilation=-1", "at least 1"),
    refused("grad.conv2d_weight(z(1, 4, 8, 8), (4, 4, 3, 3), z(1, 4, 6, 6), groups=0)", "groups=0", "at least 1"),
    # padding
    refused("f.conv2d(*xw4, padding=-1)", "padding=-1", "at least 0"),
    refused("f.conv2d(*xw4, padding=((0, 0), (0, -3)))", "padding=-3", "at least 0"),
    refused("f.conv2d(*xw4, padding='SAME')", "padding='SAME'", "'same'", "'valid'"),
    refused("f.conv2d(*xw4, padding=[])", "padding=()", "at least one"),
    refused("f.conv2d(*xw4, padding=((1, 2, 3), (1, 2, 3)))", "padding", "pairs", "(1, 2, 3)"),
    refused("f.conv_transpose2d(*xw4, padding='same')", "padding='same'", "transposed"),
    # [79, 80] numbers per axis
    refused("f.conv2d(*xw4, stride=(1, 1, 1))", "stride=(1, 1, 1)", "1 or 2"),
    refused("f.conv2d(*xw4, dilation=(1, 1, 1))", "dilation=(1, 1, 1)", "1 or 2"),
    refused("f.conv2d(*xw4, padding=(1, 1, 1))", "padding", "3 entries", "1 or 2"),
    refused("f.conv3d(z(1, 4, 8, 8, 8), z(4, 4, 3, 3, 3), stride=(1, 1))", "stride=(1, 1)", "1 or 3"),
    refused("f.conv2d(*xw4, stride=[1] * 9)", "stride", "1 or 2"),
    refused("f.conv2d(*xw4, stride=[])", "stride=()", "at least one"),
    refused("f.conv_transpose2d(*xw4, output_padding=1)", "output_padding=1", "less than stride=1"),
    refused("f.conv_transpose2d(*xw4, stride=2, output_padding=2)", "output_padding=2", "stride=2"),
    refused("f.conv_transpose2d(*xw4, output_padding=-1)", "output_padding=-1", "at least 0"),
    # names
    refused("f.conv2d(*xw4, layout='NCWH')", "layout='NCWH'", "'NCHW' or 'NHWC'"),
    refused("f.conv2d(*xw4, activation='gelu')", "activation='gelu'", "'relu'", "'hardswish'"),
    refused("f.conv2d(*xw4, residual=z(1, 4, 8, 8))", "residual has shape (1, 4, 8, 8)", "(1, 4, 6, 6)"),
    refused("f.conv2d(*xw4, residual=z(4))", "residual has shape (4,)", "(1, 4, 6, 6)"),
    refused("f.conv2d(*xw4, residual=z(1, 4, 6, 6, dtype='f8'))", "residual has dtype float64", "float32", kind=TYPE),
    refused("f.conv2d(*xw4, residual='x')", "residual", kind=TYPE),
    refused("f.conv2d(*xw4, algorithm='')", "algorithm=''", "'auto'", "'reference'"),
    # [22] and the one that is only a smoke test
    legal("f.conv2d(*xw4, padding='valid').shape == (1, 4, 6, 6)"),
]  # fmt: skip

OVERFLOWS = [
    # [12, 19, 35, 47, 53, 74, 83, 84] products that do not fit, refused before anything is allocated
    refused("grad.conv2d_input((1879048192,) * 4, z(1, 1879048192 >> 27, 3, 3), z(1, 1, 2, 2))", "input_size"),
    refused("grad.conv2d_input((2**31, 1, 2**31, 2**31), z(4, 1, 3, 3), z(1, 4, 2, 2))", "size overflow", "input_size"),
    refused(
        "grad.conv2d_weight(z(1, 3, 8, 8), (2**31, 3, 2**31, 2**31), z(1, 4, 2, 2))", "size overflow", "weight_size"
    ),
    refused(
        "grad.conv3d_weight(z(1, 3, 8, 8, 8), (2**40, 2**40, 1, 1, 1), z(1, 4, 2, 2, 2))",
        "size overflow",
        "weight_size",
    ),
    refused("f.conv2d(*xw3, padding=(1 << 30, 1 << 30))", "size overflow", "output size"),
    refused("f.conv2d(*xw3, padding=0x77f00000)", "size overflow"),
    refused("f.conv2d(*xw3, padding=2**62)", "size overflow", "padding=4611686018427387904"),
    refused("f.conv2d(*xw3, padding=2**63 - 1)", "size overflow", "padding"),
    refused("f.conv2d(*xw3, stride=2**70)", "size overflow", "stride=1180591620717411303424"),
    refused("f.conv2d(*xw3, stride=2**62)", "size overflow", "stride"),
    refused("f.conv2d(*xw3, dilation=2**31 - 1)", "weight spans 4294967295"),
    refused("f.conv2d(*xw3, dilation=2**59)", "size overflow", "dilation"),
    refused("f.conv2d(*xw3, padding='same', dilation=2**59)", "size overflow", "dilation"),
    refused("f.conv1d(z(1, 3, 8), z(4, 3, 3), padding='same', dilation=2**62)", "size overflow", "dilation"),
    refused("f.conv2d(*xw3, groups=2**62)", "size overflow", "groups"),
    refused("f.conv_transpose2d(*xw43, stride=2**40)", "size overflow"),
    refused("f.conv_transpose2d(*xw43, stride=2**60, output_padding=2**60 - 1)", "size overflow"),
    refused("f.conv_transpose3d(z(1, 4, 8, 8, 8), z(4, 3, 3, 3, 3), dilation=2**40)", "size overflow"),
    refused("f.conv2d(huge(2**20, 1, 2**20, 2**20), huge(2**20, 1, 1, 1))", "size overflow"),
    Row("f.conv2d(huge(1, 2**28, 4, 4), huge(2**26, 2**28, 4, 4))", "MemoryError"),
    refused("f.conv2d(huge(1, 1, 65536, 65536), huge(65536, 1, 65536, 65536), padding=65535)", "size overflow"),
    # a batch of 0 must not hide it
    refused("f.conv_transpose2d(huge(0, 1, 1024, 1024), z(1, 1, 1, 1), stride=2**40)", "size overflow", "output size"),
    refused("grad.conv2d_input((0, 1, 2**31, 2**31), z(1, 1, 1, 1), z(0, 1, 2, 2), stride=2**31)", "size overflow"),
    # does not overflow, but no machine has it
    Row("f.conv2d(*xw3, padding=2**24)", "MemoryError"),
    Row("f.conv_transpose2d(z(1, 4, 2, 2), z(4, 3, 3, 3), stride=2**24)", "MemoryError"),
    Row("grad.conv2d_weight(z(1, 1, 8, 8), (2**40, 1, 3, 3), huge(1, 2**40, 6, 6))", "MemoryError"),
]

TYPES = [
    refused("f.conv2d(None, z(4, 3, 3, 3))", "x", "NoneType", "NumPy array", kind=TYPE),
    refused("f.conv2d(z(1, 3, 8, 8), None)", "weight", "NoneType", kind=TYPE),
    refused("f.conv2d('x', z(4, 3, 3, 3))", "x", "str", kind=TYPE),
    refused("f.conv2d(*xw3, 'b')", "bias", "str", kind=TYPE),
    refused("f.conv2d([[1, 2], [3]], z(4, 3, 3, 3))", "x", "expected", kind=TYPE),
    refused("f.conv2d(object(), z(4, 3, 3, 3))", "x", "object", "float32", kind=TYPE),
    *(
        refused(f"f.conv2d(z(1, 3, 8, 8, dtype='{kind}'), z(4, 3, 3, 3))",
                "x", "dtype", "float32, float64, float16 or bfloat16", kind=TYPE)
        for kind in ("i4", "u1", "?", "c8", "O", "S3", "M8[s]", "f4,f4", "g")
    ),
    refused("f.conv2d(z(1, 3, 8, 8), z(4, 3, 3, 3, dtype='f8'))", "weight", "float64", "expected float32", kind=TYPE),
    refused("f.conv2d(*xw3, z(4, dtype='f8'))", "bias", "float64", "float32", kind=TYPE),
    refused("f.conv2d(*xw3, z(4, dtype='i4'))", "bias", "int32", kind=TYPE),
    refused("grad.conv2d_input((1, 3, 8, 8), z(4, 3, 3, 3), z(1, 4, 6, 6, dtype='f8'))",
            "weight", "float64", kind=TYPE),
    refused("grad.conv2d_weight(z(1, 3, 8, 8), (4, 3, 3, 3), z(1, 4, 6, 6, dtype='f8'))",
            "grad_output", "float64", kind=TYPE),
    refused("f.conv2d(*xw3, stride=1e20)", "stride=1e+20", "float", "integer", kind=TYPE),
    refused("f.conv2d(*xw3, stride=nan)", "stride=nan", "float", kind=TYPE),
    refused("f.conv2d(*xw3, stride=True)", "stride=True", "bool", kind=TYPE),
    refused("f.conv2d(*xw3, stride='3')", "stride='3'", "str", kind=TYPE),
    refused("f.conv2d(*xw3, stride=None)", "stride=None", "NoneType", kind=TYPE),
    refused("f.conv2d(*xw3, stride=(1, 2.0))", "stride=2.0", "float", kind=TYPE),
    refused("f.conv2d(*xw3, padding=0.5)", "padding=0.5", "float", kind=TYPE),
    refused("f.conv2d(*xw3, padding=None)", "padding=None", "NoneType", kind=TYPE),
    refused("f.conv2d(*xw3, dilation=np.float32(2))", "dilation=", "float32", kind=TYPE),
    refused("f.conv2d(*xw3, groups=(1,))", "groups=(1,)", "tuple", kind=TYPE),
    refused("f.conv2d(*xw3, layout=None)", "layout=None", "string", kind=TYPE),
    refused("f.conv2d(*xw3, activation=0)", "activation=0", "string", kind=TYPE),
    refused("f.conv2d(*xw3, algorithm=3)", "algorithm=3", "string", kind=TYPE),
    refused("f.conv2d(*xw3, out=[])", "out", "list", "NumPy array", kind=TYPE),
    refused("grad.conv2d_input(None, z(4, 3, 3, 3), z(1, 4, 6, 6))", "input_size=None", "sequence", kind=TYPE),
    refused("grad.conv2d_input('1388', z(4, 3, 3, 3), z(1, 4, 6, 6))", "input_size='1388'", "sequence", kind=TYPE),
    refused("grad.conv2d_input((1, 3, 8.0, 8), z(4, 3, 3, 3), z(1, 4, 6, 6))", "input_size=8.0", "float", kind=TYPE),
]  # fmt: skip

TABLE = [*ZERO_SIZES, *SHAPES, *NUMBERS, *OVERFLOWS, *TYPES]


def check_row(row: Row, worker: Worker) -> None:
    outcome = worker.ask(row.call)
    assert outcome.kind == row.kind, f"{row.call}: {outcome.kind or 'no exception'} {outcome.message}"
    if row.kind == EMPTY:
        assert outcome.value is True, row.call
    if row.kind in (VALUE, TYPE):
        missing = [word for word in row.words if word not in outcome.message]
        assert not missing, f"{row.call}: {missing} not in {outcome.message!r}"
        assert ": expected " in outcome.message or "size overflow" in outcome.message, outcome.message
    assert outcome.seconds < SECONDS, f"{row.call}: took {outcome.seconds} s"
    assert outcome.resident_bytes < RESIDENT, f"{row.call}: touched {outcome.resident_bytes >> 20} MB"
    assert outcome.sound_after, f"{row.call}: the call after it is wrong"


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_row(row: Row, worker: Worker) -> None:
    check_row(row, worker)


FUNCTIONS = {
    **{f"conv{a}d": ("x", "weight", "bias", "activation", "residual", "out") for a in (1, 2, 3)},
    **{f"conv_transpose{a}d": ("x", "weight", "bias", "output_padding", "activation", "out") for a in (1, 2, 3)},
    **{f"conv{a}d_input": ("input_size", "weight", "grad_output", "out") for a in (1, 2, 3)},
    **{f"conv{a}d_weight": ("input", "weight_size", "grad_output", "out") for a in (1, 2, 3)},
}
SHARED = ("stride", "padding", "dilation", "groups", "layout")


@pytest.mark.parametrize("algorithm", ["auto", *_core.algorithms()])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_dictionary(function: str, algorithm: str, worker: Worker) -> None:
    """Every entry of the dictionary in every argument: a right result, or one of the four exceptions."""
    results = refusals = 0
    for argument in (*SHARED, *FUNCTIONS[function]):
        outcome = worker.ask(f"fuzz({function!r}, {argument!r}, {algorithm!r})", timeout=60)
        assert outcome.kind == "", f"{function}({argument}=...): {outcome.kind} {outcome.message}"
        assert outcome.sound_after, f"{function}({argument}=...): the call after it is wrong"
        results += outcome.value.pop("result", 0)
        refusals += sum(outcome.value.values())
    assert refusals > 500
    assert algorithm not in ("auto", "reference") or results > 5


@pytest.mark.parametrize("value", ["()", "'auto'", "[1] * 9", "1e20", "True", "2**70"])
def test_algorithm_argument(value: str, worker: Worker) -> None:
    outcome = worker.ask(f"f.conv2d(*xw3, algorithm={value}).shape == (1, 4, 6, 6)")
    assert outcome.value is True if value == "'auto'" else outcome.kind == TYPE, outcome.message


def test_a_refused_call_copies_nothing(worker: Worker) -> None:
    """Arrays that would have to be copied are looked at before they are: 16 TB that take four bytes."""
    outcome = worker.ask("f.conv2d(huge(1024, 64, 8192, 8192), huge(8, 63, 3, 3))")
    assert (outcome.kind, "64 channels" in outcome.message) == (VALUE, True), outcome.message


def test_the_worker_notices_crashes_and_hangs() -> None:
    """A test of the tests: what the rows rely on."""
    with Worker() as process:
        assert process.ask("__import__('os').abort()").kind == "crash"
        assert process.ask("__import__('time').sleep(60)", timeout=0.2).kind == "hang"
        assert process.ask("bytearray(2**40)").kind == "MemoryError"
        assert process.ask("bytearray(2**27).count(1)").resident_bytes > RESIDENT
        assert process.ask("1 + 1").value == 2
