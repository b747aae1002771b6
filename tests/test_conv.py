"""Every algorithm in every direction over the named cases: right, and bitwise the same however it is run."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

import fastconv
from fastconv import _core

from . import tolerance
from .cases import BY_NAME, CASES, ConvCase
from .directions import DIRECTIONS, call, operands, question, to_layout, with_batch

ALGORITHMS: list[str] = _core.algorithms()
LAYOUTS = ("NCHW", "NHWC")
DTYPES = (np.float32, np.float64)
CASE_NAMES = sorted(BY_NAME)


def reason_in(error: NotImplementedError, algorithm: str) -> str:
    """The reason that a forced algorithm gives; every refusal must have one."""
    text = str(error)
    assert text.startswith(f"algorithm='{algorithm}' cannot do "), text
    _, found, reason = text.partition(f"; {algorithm}: ")
    assert found and len(reason) > 5, f"no reason in: {text}"
    return reason


def takes(algorithm: str, direction: str, name: str, layout: str) -> bool:
    try:
        question(name, direction, True).ask(np.float32, layout, algorithm)
    except NotImplementedError as error:
        reason_in(error, algorithm)
        return False
    return True


@pytest.mark.parametrize("name", CASE_NAMES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithm(algorithm: str, direction: str, name: str, isa: str) -> None:
    """Integers exactly, normal numbers within the bound, and bitwise equal for 1, 2 and 3 threads and a second run."""
    integers, normal = question(name, direction, True), question(name, direction, False)
    for dtype, layout in product(DTYPES, LAYOUTS):
        what = f"{name} {direction} {algorithm} {isa} {np.dtype(dtype)} {layout}"
        _core.set_num_threads(1)
        try:
            exact = integers.ask(dtype, layout, algorithm)
        except NotImplementedError as error:
            reason_in(error, algorithm)  # how many are refused is counted in test_share_of_the_cases
            continue
        if algorithm not in tolerance.AMPLIFIED:
            np.testing.assert_array_equal(exact, integers.expected, err_msg=f"integers: {what}")
        once = normal.ask(dtype, layout, algorithm)
        tolerance.assert_within(once, normal.expected, normal.terms, normal.magnitude, algorithm, what)
        for threads in (2, 3, 1):
            _core.set_num_threads(threads)
            again = normal.ask(dtype, layout, algorithm)
            assert again.tobytes() == once.tobytes(), f"not bitwise equal with {threads} threads: {what}"


@pytest.mark.parametrize("name", CASE_NAMES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("choice", ["auto", "exact"])
def test_choice(choice: str, direction: str, name: str) -> None:
    """Nothing is refused where the engine may choose, and "exact" excludes amplified rounding."""
    integers, normal = question(name, direction, True), question(name, direction, False)
    for dtype, layout in product(DTYPES, LAYOUTS):
        what = f"{name} {direction} {choice} {np.dtype(dtype)} {layout}"
        amplified = "" if choice == "exact" else next(iter(set(tolerance.AMPLIFIED) & set(ALGORITHMS)), "")
        results = []
        for threads in (2, 1, 3):
            _core.set_num_threads(threads)
            results.append(normal.ask(dtype, layout, choice))
        tolerance.assert_within(results[0], normal.expected, normal.terms, normal.magnitude, amplified, what)
        assert len({result.tobytes() for result in results}) == 1, f"depends on the number of threads: {what}"
        if choice == "exact":
            np.testing.assert_array_equal(integers.ask(dtype, layout, choice), integers.expected, err_msg=what)


@pytest.mark.parametrize("direction", ["forward", "transposed", "input_gradient"])
@pytest.mark.parametrize("algorithm", ["exact", *ALGORITHMS])
def test_an_image_does_not_depend_on_its_neighbours(algorithm: str, direction: str, isa: str) -> None:
    """Image i alone is bitwise image i of a batch, with "exact" or a named algorithm."""
    source = "x" if direction == "forward" else "y"
    compared = 0
    for case, layout in product(CASES, LAYOUTS):
        if case.multiply_adds > 1_000_000:
            continue
        case = with_batch(case, 5)
        arrays = {role: array.astype(np.float32) for role, array in operands(case, direction, False).items()}
        arrays[source] = to_layout(arrays[source], layout)
        try:
            together = call(case, direction, arrays, layout=layout, algorithm=algorithm)
            for i in (0, 3):
                alone = call(case, direction, arrays | {source: arrays[source][i : i + 1]}, layout=layout,
                             algorithm=algorithm)  # fmt: skip
                assert alone[0].tobytes() == together[i].tobytes(), f"image {i}: {case} {layout} {isa}"
            compared += 1
        except NotImplementedError as error:
            reason_in(error, algorithm)
    assert compared >= 4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_share_of_the_cases(algorithm: str) -> None:
    """Each algorithm takes a fair number of the cases, and each direction has more than one way to be computed."""
    taken: Counter[str] = Counter()
    for direction, name, layout in product(DIRECTIONS, CASE_NAMES, LAYOUTS):
        if BY_NAME[name].multiply_adds < 500_000:
            taken[direction] += takes(algorithm, direction, name, layout)
    assert taken["forward"] >= 6, taken
    if algorithm == "reference":
        assert len(set(taken.values())) == 1, f"reference must take everything: {taken}"


@pytest.mark.skipif(len(ALGORITHMS) == 1, reason="the reference is the only algorithm of this build")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CASE_NAMES)
def test_each_case_has_a_second_algorithm(name: str, direction: str) -> None:
    """A problem that only the reference can do is a hole in the table."""
    others = (algorithm for algorithm in ALGORITHMS if algorithm != "reference")
    assert any(takes(algorithm, direction, name, "NCHW") for algorithm in others)


def test_unknown_algorithm() -> None:
    with pytest.raises(ValueError, match="algorithm='winogradd': expected one of 'auto', 'exact', 'reference'|direct"):
        fastconv.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), algorithm="winogradd")


IMAGE = np.array(
    [
        [1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 1, 0, 1, 0],
    ]
)
DIAGONAL = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
VERTICAL = np.array([[-1, 1, -1]] * 3)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (DIAGONAL, [[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]]),
        (VERTICAL, [[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]]),
    ],
    ids=["diagonal", "vertical"],
)
@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_the_lecture(algorithm: str, kernel: np.ndarray, expected: list[list[int]]) -> None:
    """The worked example of the lecture this project realises."""
    image, weight = IMAGE[None, None].astype(np.float32), kernel[None, None].astype(np.float32)
    try:
        y = fastconv.conv2d(image, weight, algorithm=algorithm)
    except NotImplementedError as error:
        reason_in(error, algorithm)
        return
    if algorithm in tolerance.AMPLIFIED:
        largest = np.full((4, 4), np.abs(IMAGE).max() * np.abs(kernel).sum(), np.float64)
        tolerance.assert_within(y[0, 0], np.array(expected, np.float64), 9, largest, algorithm, algorithm)
    else:
        np.testing.assert_array_equal(y[0, 0], expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 6])
def test_same_and_valid(stride: int, kernel: int) -> None:
    """ "same" gives ceil(size / stride) with the odd zero at the end (TensorFlow, ONNX SAME_UPPER)."""
    case = ConvCase("same", 1, 3, 4, (7, 8), (kernel,) * 2)
    arrays = {role: array.astype(np.float32) for role, array in operands(case, "forward", True).items()}
    x, w = arrays["x"], arrays["w"]
    same = fastconv.conv2d(x, w, stride=stride, padding="same")
    assert same.shape[2:] == (-(-7 // stride), -(-8 // stride))
    pads = []
    for size in (7, 8):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads.append((total // 2, total - total // 2))
    np.testing.assert_array_equal(same, fastconv.conv2d(x, w, stride=stride, padding=pads))
    valid = fastconv.conv2d(x, w, stride=stride, padding="valid")
    np.testing.assert_array_equal(valid, fastconv.conv2d(x, w, stride=stride))


def test_nan_and_infinity_stay_where_they_are() -> None:
    """0 * NaN is NaN: a value that is read must show, and one that is not read must not."""
    for algorithm, bad in product(ALGORITHMS, (np.nan, np.inf)):
        x = np.ones((2, 4, 9, 21), np.float32)
        x[0, 2, 4, 10] = bad
        w = np.ones((5, 4, 3, 3), np.float32)
        for groups in (1, 4):
            weight = w if groups == 1 else np.ones((4, 1, 3, 3), np.float32)
            try:
                y = fastconv.conv2d(x, weight, padding=1, groups=groups, algorithm=algorithm)
            except NotImplementedError as error:
                reason_in(error, algorithm)
                continue
            if algorithm in tolerance.AMPLIFIED:
                continue  # spreads it over a tile, which is documented
            reached = np.zeros(y.shape, bool)
            reached[0, slice(None) if groups == 1 else 2, 3:6, 9:12] = True
            np.testing.assert_array_equal(~np.isfinite(y), reached, err_msg=f"{algorithm} {bad} groups={groups}")
