"""flatten, linear, relu, softmax, pad and the layer as a matrix, against NumPy, SciPy and torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core
from fastconv.padding import pad_axes, pad_axes_gradient

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def normal(shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("start", "end", "shape"), [(0, -1, (24,)), (1, -1, (2, 12)), (0, 1, (6, 4)),
                                                     (-1, 2, (2, 3, 4)),
                                                     (1, 1, (2, 3, 4))])  # fmt: skip
def test_flatten(start: int, end: int, shape: tuple[int, ...]) -> None:
    x = normal((2, 3, 4), 0)
    y = fastconv.flatten(x, start, end)
    assert y.shape == shape and np.shares_memory(x, y)
    np.testing.assert_array_equal(y.ravel(), x.ravel())


def test_flatten_copies_where_strides_force_it_and_takes_what_is_empty_or_has_no_axes() -> None:
    x = normal((4, 3), 0)
    np.testing.assert_array_equal(fastconv.flatten(x.T), x.T.ravel())
    assert fastconv.flatten(np.float64(3)).shape == (1,)
    assert fastconv.flatten(np.zeros((0, 3, 4)), 1).shape == (0, 12)
    assert fastconv.flatten(np.zeros((2, 0, 4)), 0, 1).shape == (0, 4)


@pytest.mark.parametrize(("arguments", "message"), [((2, 1), "start_dim=2 comes after end_dim=1"),
                                                    ((0, 3), "end_dim=3"),
                                                    ((-4, -1), "start_dim=-4")])  # fmt: skip
def test_flatten_refuses(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastconv.flatten(np.zeros((2, 3, 4)), *arguments)


@DTYPES
@pytest.mark.parametrize("shape", [(5, 7), (7,), (2, 3, 7), (1, 7), (64, 7)])
def test_linear(shape: tuple[int, ...], dtype: Any) -> None:
    x, w, b = normal(shape, 1, dtype), normal((4, 7), 2, dtype), normal((4,), 3, dtype)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    tolerance = {"rtol": 0, "atol": 64 * np.finfo(dtype).eps}
    np.testing.assert_allclose(fastconv.linear(x, w), exact, **tolerance)
    np.testing.assert_allclose(fastconv.linear(x, w, b), exact + b, **tolerance)
    relu = fastconv.linear(x, w, b, activation="relu")
    np.testing.assert_array_equal(relu, np.maximum(fastconv.linear(x, w, b), 0))
    single = fastconv.linear(x, w[0], b[0])
    assert single.shape == shape[:-1]
    np.testing.assert_allclose(single, exact[..., 0] + b[0], **tolerance)


def test_linear_of_no_rows() -> None:
    assert fastconv.linear(np.zeros((0, 7)), np.zeros((4, 7))).shape == (0, 4)
    assert fastconv.linear(np.zeros((3, 0, 7)), np.zeros((4, 7)), np.zeros(4)).shape == (3, 0, 4)


def test_linear_does_not_depend_on_threads() -> None:
    x, w = normal((200, 333), 1, np.float32), normal((77, 333), 2, np.float32)
    before = _core.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            results.append(fastconv.linear(x, w))
    finally:
        _core.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize(("x", "w", "b", "error", "message"), [
    (np.zeros((2, 6)), np.zeros((4, 7)), None, ValueError, r"x has shape \(2, 6\): expected \(\.\.\., 7\)"),
    (np.zeros((2, 7)), np.zeros((4, 7)), np.zeros(3), ValueError, r"bias has shape \(3,\): expected \(4,\)"),
    (np.zeros((2, 7)), np.zeros((4, 7, 1)), None, ValueError, "weight has shape"),
    (np.zeros((2, 7), np.int32), np.zeros((4, 7)), None, TypeError, "x has dtype int32: expected float32, float64"),
    (np.zeros((2, 7), np.float32), np.zeros((4, 7)), None, TypeError, "weight has dtype float64: expected float32"),
    (np.zeros((0, 7), np.float32), np.zeros((4, 7)), None, TypeError, "weight has dtype float64: expected float32"),
    (np.zeros((2, 0)), np.zeros((4, 0)), None, ValueError, "at least 1"),
])  # fmt: skip
def test_linear_refuses(x: Any, w: Any, b: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastconv.linear(x, w, b)


@DTYPES
def test_relu(dtype: Any) -> None:
    x = np.array([-1, 0, 2, np.nan, np.inf, -np.inf], dtype)
    y = fastconv.relu(x)
    assert y.dtype == dtype and x[0] == -1
    np.testing.assert_array_equal(y, [0, 0, 2, np.nan, np.inf, 0])
    assert fastconv.relu(x, inplace=True) is x and x[0] == 0


@DTYPES
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dim: int, dtype: Any) -> None:
    x = (100 * normal((5, 6, 3), 1)).astype(dtype)
    y, logs = fastconv.softmax(x, dim), fastconv.log_softmax(x, dim)
    assert y.dtype == logs.dtype == dtype
    wide = x.astype(np.longdouble)
    total = np.exp(wide - wide.max(dim, keepdims=True)).sum(dim, keepdims=True)
    expected = wide - wide.max(dim, keepdims=True) - np.log(total)
    np.testing.assert_allclose(y, np.exp(expected).astype(dtype), rtol=0, atol=8 * np.finfo(dtype).eps)
    # The sum, 1 or more, is rounded before its logarithm is taken.
    np.testing.assert_allclose(logs, expected.astype(dtype), rtol=8 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).eps)


def test_softmax_of_huge_scores_and_of_nothing() -> None:
    np.testing.assert_array_equal(fastconv.softmax(np.array([1e30, 0, 1e30], np.float32)), [0.5, 0, 0.5])
    assert fastconv.log_softmax(np.array([0.0, 1e4]))[0] == -1e4
    assert fastconv.softmax(np.zeros((0, 3))).shape == fastconv.log_softmax(np.zeros((3, 0))).shape[::-1] == (0, 3)
    with pytest.raises(ValueError, match="dim=2"):
        fastconv.softmax(np.zeros((2, 3)), 2)


PADS = [
    ((4, 5), (1, 2), "reflect"),
    ((2, 4, 5), (2, 0), "reflect"),
    ((2, 4, 5), (1, 2, 3, 0), "reflect"),
    ((2, 3, 4, 5), (1, 4, 2, 3), "reflect"),
    ((2, 3, 4, 5), (1, 4, 2, 3, 0, 2), "reflect"),
    ((2, 3, 4), (5, 7), "replicate"),
    ((2, 3, 4, 5), (1, 6, 2, 3), "replicate"),
    ((2, 3, 4), (-1, 2), "replicate"),
    ((2, 3, 4, 5), (5, 1, 4, 0), "circular"),
    ((2, 3, 4), (1, -1), "circular"),
    ((2, 3, 2, 3, 4), (1, 2, 2, 1, 0, 1), "circular"),
    ((2, 3), (1, 2, 3, 4), "constant"),
    ((2, 3, 4), (-1, -2, 0, 1), "constant"),
    ((3,), (2, -3), "constant"),
    ((2, 3, 4), (-2, 2), "circular"),
    ((2, 3, 4), (3, -2), "reflect"),
    ((2, 3), (), "constant"),
]


@pytest.mark.parametrize(("shape", "pads", "mode"), PADS)
def test_pad_against_torch(shape: tuple[int, ...], pads: tuple[int, ...], mode: str) -> None:
    torch = pytest.importorskip("torch")
    x = normal(shape, 0, np.float32)
    tensor = torch.from_numpy(x).requires_grad_()
    value = 1.5 if mode == "constant" else None
    expected = torch.nn.functional.pad(tensor, pads, mode, value)
    y = fastconv.pad(x, pads, mode, value)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected.detach().numpy())
    if mode == "constant":
        return
    grad = np.arange(y.size, dtype=np.float32).reshape(y.shape)  # whole numbers: sums are exact in any order
    (of_torch,) = torch.autograd.grad(expected, tensor, torch.from_numpy(grad))
    axes = {len(shape) - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}
    np.testing.assert_array_equal(pad_axes_gradient(grad, shape, axes, mode), of_torch.numpy())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad_gradient_is_the_adjoint(mode: str) -> None:
    pads = {1: (2, 3), 3: (1, 0)}
    x = normal((2, 4, 3, 5), 0)
    y = pad_axes(x, pads, mode)
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (2, 3), (0, 0), (1, 0)), numpy_mode))
    g = normal(y.shape, 1)
    assert np.vdot(y, g) == pytest.approx(np.vdot(x, pad_axes_gradient(g, x.shape, pads, mode)), rel=1e-12)


@pytest.mark.parametrize(("shape", "pads", "mode", "message"), [
    ((2, 3), (1,), "constant", "two numbers for each of at most 2 axes"),
    ((2, 3), (1,) * 6, "constant", "at most 2 axes"),
    ((2, 3), (-2, -2), "constant", "nothing is left"),
    ((2, 3), (2, -4), "constant", "nothing is left"),
    ((2, 3), (3, -1), "circular", "at most 2"),
    ((2, 3), (3, 0), "reflect", "at most 2"),
    ((2, 3), (0, 4), "circular", "at most 3"),
    ((2, 3, 4, 5), (1, 1), "reflect", "one or two more"),
    ((2, 3), (1, 1), "mirror", "expected one of constant, reflect"),
])  # fmt: skip
def test_pad_refuses(shape: tuple[int, ...], pads: tuple[int, ...], mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastconv.pad(np.zeros(shape), pads, mode)
    with pytest.raises(ValueError, match="expected None"):
        fastconv.pad(np.zeros((2, 3)), (1, 1), "reflect", 2.0)


@DTYPES
@pytest.mark.parametrize("window", [
    {}, {"padding": 1}, {"stride": 2, "padding": (1, 2)}, {"dilation": 2, "padding": "same"}, {"groups": 2},
    {"padding": ((0, 2), (1, 0)), "stride": (1, 3), "groups": 2},
])  # fmt: skip
def test_matrix_does_what_the_convolution_does(window: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    groups = window.get("groups", 1)
    w = rng.integers(-4, 5, (6, 4 // groups, 3, 2)).astype(dtype)
    x = rng.integers(-4, 5, (4, 7, 6)).astype(dtype)
    y = fastconv.conv2d(x, w, **window)
    matrix = fastconv.conv2d_matrix(w, x.shape, **window)
    assert matrix.dtype == dtype and matrix.shape == (y.size, x.size)
    np.testing.assert_array_equal(matrix @ x.ravel(), y.ravel())
    # Its transpose is the gradient with respect to the input.
    of_input = fastconv.grad.conv2d_input(x.shape, w, y, **window)
    np.testing.assert_array_equal((matrix.T @ y.ravel()).reshape(x.shape), of_input)
    pytest.importorskip("scipy")
    sparse = fastconv.conv2d_matrix(w, x.shape, sparse=True, **window)
    assert sparse.format == "csr" and sparse.dtype == dtype
    np.testing.assert_array_equal(sparse.toarray(), matrix)


@pytest.mark.parametrize(("weight", "size", "more", "message"), [
    ((2, 1, 3, 3), (6,), {}, "expected .height, width."), ((2, 3, 3), (1, 6, 6), {}, "weight has shape"),
    ((2, 1, 3, 3), (1, 6, 6), {"groups": 3}, "groups=3"), ((2, 1, 3, 3), (1, 0, 6), {}, "at least 1"),
    ((2, 1, 3, 3), (1, 2, 2), {}, "kernel"), ((2, 1, 3, 3), (2, 6, 6), {}, "channels"),
])  # fmt: skip
def test_matrix_refuses(weight: tuple[int, ...], size: tuple[int, ...], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastconv.conv2d_matrix(np.zeros(weight), size, **more)


def test_functions_against_torch() -> None:
    torch = pytest.importorskip("torch")
    functions = torch.nn.functional
    for shape in ((), (5,), (4, 5), (3, 4, 5), (2, 3, 4, 5)):
        x = normal(shape, 0)
        tensor = torch.from_numpy(np.asarray(x))
        with pytest.warns(UserWarning, match="Implicit dimension"):
            expected = functions.softmax(tensor), functions.log_softmax(tensor)
        np.testing.assert_allclose(fastconv.softmax(x), expected[0].numpy(), rtol=1e-13)
        np.testing.assert_allclose(fastconv.log_softmax(x), expected[1].numpy(), rtol=1e-13, atol=1e-15)
        assert fastconv.flatten(x).shape == tuple(torch.flatten(tensor).shape)


def test_layers_and_pictures_are_imported_only_when_asked_for() -> None:
    code = (
        "import sys, fastconv; heavy = {'fastconv.nn', 'fastconv.optim', 'fastconv.viz', 'fastconv.datasets', 'scipy',"
        " 'matplotlib', 'sklearn', 'torch'}; assert not heavy & set(sys.modules), heavy & set(sys.modules);"
        " assert fastconv.nn.Conv2d and fastconv.optim.SGD and fastconv.viz.mosaic and 'nn' in dir(fastconv);"
        " assert not {'scipy', 'matplotlib', 'sklearn', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
