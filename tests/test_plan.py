"""Plans and explanations say and do what the call itself does, for every case and algorithm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core

from .cases import BY_NAME, CASES, ConvCase
from .directions import operands, to_layout
from .test_errors import TYPE, VALUE, Row, check_row, refused
from .worker import Worker

ALGORITHMS = _core.algorithms()
MEGABYTE = 1 << 20


def arguments(case: ConvCase, layout: str = "NCHW") -> tuple[np.ndarray, tuple[Any, ...], dict[str, Any]]:
    arrays = {role: array.astype(np.float32) for role, array in operands(case, "forward", False).items()}
    more = {**case.window, "layout": layout, "activation": case.activation}
    return to_layout(arrays["x"], layout), (arrays["w"], arrays.get("bias")), more


@pytest.mark.parametrize("case", CASES, ids=str)
def test_plan_gives_what_the_call_gives(case: ConvCase, isa: str) -> None:
    """Bit for bit, however often it is called, and unmoved by what happens to the weights afterwards."""
    make, call = getattr(fastconv, f"plan_conv{case.axes}d"), getattr(fastconv, f"conv{case.axes}d")
    for layout in ("NCHW", "NHWC"):
        x, filters, more = arguments(case, layout)
        for algorithm in ("auto", *ALGORITHMS):
            try:
                expected = call(x, *filters, algorithm=algorithm, **more)
            except NotImplementedError:
                with pytest.raises(NotImplementedError):
                    make(x.shape, *filters, algorithm=algorithm, **more)
                continue
            own = [None if f is None else f.copy() for f in filters]
            plan = make(x.shape, *own, algorithm=algorithm, **more)
            if algorithm == "auto":  # a call may choose otherwise, since it packs the filters each time
                expected = call(x, *filters, algorithm=plan.algorithm, **more)
            for array in own:
                if array is not None:
                    array[...] = np.nan
            out = np.full(expected.shape, np.nan, np.float32)
            assert plan(x, out=out) is out
            assert plan(x).tobytes() == out.tobytes() == expected.tobytes(), f"{algorithm} {layout} {isa}"
            assert plan.output_shape == expected.shape
            assert plan.workspace_bytes <= (64 + 8 * _core.get_num_threads()) * MEGABYTE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_explanation_is_what_happens(case: ConvCase) -> None:
    x, (w, bias), more = arguments(case)
    found = fastconv.explain(x, w, bias, **more, prepared=True)
    plan = getattr(fastconv, f"plan_conv{case.axes}d")(x.shape, w, bias, **more)
    assert found.algorithm == plan.algorithm
    assert found.output_shape == plan.output_shape == case.y_shape
    assert found.flops == 2 * case.multiply_adds
    assert [row.name for row in found.candidates] == ALGORITHMS
    costs = {row.name: row.cycles for row in found.candidates if not row.reason}
    assert found.algorithm == min(costs, key=lambda name: costs[name])
    for row in found.candidates:
        forced = {**more, "algorithm": row.name}
        if row.reason:
            with pytest.raises(NotImplementedError) as refusal:
                fastconv.explain(x, w, bias, **forced)
            assert row.reason in str(refusal.value)
        else:
            assert row.cycles > 0
            assert fastconv.explain(x, w, bias, **forced).algorithm == row.name


def test_a_call_weighs_what_a_plan_has_behind_it() -> None:
    """Filters of many channels for few pixels: transforming them costs more than Winograd's algorithm saves."""
    shapes = ((1, 512, 7, 7), (512, 512, 3, 3))
    call, plan = (fastconv.explain(*shapes, padding=1, prepared=prepared) for prepared in (False, True))
    costs = [{row.name: row.cycles for row in found.candidates if not row.reason} for found in (call, plan)]
    assert costs[0]["winograd"] > costs[1]["winograd"]
    exact = {name: cost for name, cost in costs[0].items() if not name.startswith("winograd")}
    assert exact.items() <= costs[1].items()
    assert call.algorithm != "winograd"
    many = fastconv.explain((64, 64, 56, 56), (64, 64, 3, 3), padding=1)
    assert many.algorithm == "winograd"


def test_a_batch_weighs_what_one_image_does() -> None:
    """A longer form multiplies less and has more filters to read: one small image does not pay for them, many do."""
    one, many = (fastconv.explain((n, 512, 7, 7), (512, 512, 3, 3), padding=1, prepared=True) for n in (1, 64))
    assert (one.algorithm, many.algorithm) == ("winograd", "winograd_batch")
    with pytest.raises(NotImplementedError, match="the form that winograd takes"):
        fastconv.explain((64, 64, 56, 56), (64, 64, 3, 3), padding=1, algorithm="winograd_batch")


def test_one_plan_in_many_threads() -> None:
    x, filters, more = arguments(BY_NAME["plain"])
    plan = fastconv.plan_conv2d(x.shape, *filters, **more)
    inputs = [np.roll(x, shift) for shift in range(16)]
    expected = [fastconv.conv2d(array, *filters, **{**more, "algorithm": plan.algorithm}) for array in inputs]
    with ThreadPoolExecutor(8) as pool:
        for got, right in zip(pool.map(plan, inputs), expected, strict=True):
            assert got.tobytes() == right.tobytes()


X, W = "(1, 3, 8, 8)", "z(4, 3, 3, 3)"
ROWS = [
    # [13] a planner checks as the call does, before it packs
    *(
        refused(f"{name}({arrays}, {bad})", *words)
        for name, arrays in (("f.plan_conv2d", f"{X}, {W}"), ("f.explain", f"{X}, (4, 3, 3, 3)"))
        for bad, words in {
            "stride=0": ("stride=0", "at least 1"),
            "stride=-1": ("stride=-1", "at least 1"),
            "dilation=0": ("dilation=0", "at least 1"),
            "groups=0": ("groups=0", "at least 1"),
            "padding=2**62": ("size overflow", "padding"),
            "layout='NWHC'": ("layout='NWHC'", "'NHWC'"),
            "algorithm='fft'": ("algorithm='fft'", "'auto'"),
        }.items()
    ),
    refused("f.plan_conv2d((1, 3, 0, 8), z(4, 3, 3, 3))", "x_shape", "(1, 3, 0, 8)", "at least 1"),
    refused("f.plan_conv2d((-1, 3, 8, 8), z(4, 3, 3, 3))", "x_shape", "(-1, 3, 8, 8)"),
    refused("f.plan_conv2d((1, 5, 8, 8), z(4, 3, 3, 3))", "x_shape", "5 channels", "expected 3"),
    refused("f.plan_conv2d((2**31, 3, 2**31, 2**31), z(4, 3, 3, 3))", "size overflow", "x_shape"),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 0, 3, 3))", "weight", "(4, 0, 3, 3)"),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 3, 3, 3), z(5))", "bias", "(5,)", "(4,)"),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 3, 3, 3))(z(1, 3, 8, 9))", "x", "(1, 3, 8, 9)", "(1, 3, 8, 8)"),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 3, 3, 3))(z(2, 3, 8, 8))", "x", "(2, 3, 8, 8)", "(1, 3, 8, 8)"),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 3, 3, 3))(z(1, 3, 8, 8, dtype='f8'))", "x", "float64", kind=TYPE),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 3, 3, 3))(None)", "x", "NoneType", kind=TYPE),
    refused("f.plan_conv2d((1, 3, 8, 8), z(4, 3, 3, 3))(z(1, 3, 8, 8), out=z(1, 4, 6, 5))", "out", "(1, 4, 6, 5)"),
    refused("f.plan_conv2d(5, z(4, 3, 3, 3))", "x_shape=5", "sequence", kind=TYPE),
    refused("f.explain((1, 3, 8, 8), (4, 0, 3, 3))", "weight", "(4, 0, 3, 3)"),
    refused("f.explain((2**31, 3, 2**31, 2**31), (4, 3, 3, 3))", "size overflow"),
    Row("f.explain((2**20, 3, 2**13, 2**13), (4, 3, 3, 3)).output_shape == (2**20, 4, 2**13 - 2, 2**13 - 2)", ""),
    Row("f.plan_conv2d((0, 3, 8, 8), z(4, 3, 3, 3))(z(0, 3, 8, 8)).shape == (0, 4, 6, 6)", ""),
    # [84] a packed size that nobody has, or that wraps
    Row("f.plan_conv2d((1, 2**28, 4, 4), huge(2**26, 2**28, 4, 4))", "MemoryError"),
    refused("f.set_num_threads(0)", "threads"),
    refused("f.set_num_threads(-1)", "threads"),
    refused("f.set_num_threads(1.5)", "threads", kind=TYPE),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(row: Row, worker: Worker) -> None:
    check_row(row, worker)


@pytest.mark.parametrize("threads", [2**31 - 1, 2**31, 2**63, 10**6])
def test_absurd_numbers_of_threads(threads: int, worker: Worker) -> None:
    """Refused, or taken as "as many as there are": a call afterwards is right and starts no million threads."""
    outcome = worker.ask(f"(f.set_num_threads({threads}), sound())[1]")
    assert outcome.kind in (VALUE, "") and outcome.value in (True, None), outcome.message
    assert outcome.sound_after
    assert worker.ask("f.set_num_threads(2)").kind == ""
