"""Optimisers against the formulas of their papers, written out in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import nn, optim


def parameters(dtype: Any = np.float64) -> list[nn.Parameter]:
    rng = np.random.default_rng(0)
    return [nn.Parameter(rng.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (5,))]


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(shape) for shape in ((3, 4), (5,))]


@pytest.mark.parametrize("options", [
    {}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}, {"weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.1, "dampening": 0.1}, {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sgd(options: dict[str, Any], dtype: Any) -> None:
    learned = parameters(dtype)
    expected = [p.data.astype(np.float64) for p in learned]
    velocity: list[Any] = [None, None]
    step_of = optim.SGD(learned, lr=0.1, **options)
    momentum, decay = options.get("momentum", 0), options.get("weight_decay", 0)
    for step in range(5):
        for i, g in enumerate(gradients(step)):
            learned[i].grad = g.astype(dtype)
            total = g.astype(dtype).astype(np.float64) + decay * expected[i]
            if velocity[i] is None:
                velocity[i] = total
            else:
                velocity[i] = momentum * velocity[i] + (1 - options.get("dampening", 0)) * total
            direction = total if not momentum else velocity[i]
            if options.get("nesterov"):
                direction = total + momentum * velocity[i]
            expected[i] = expected[i] - 0.1 * direction
        step_of.step()
        for i, g in enumerate(gradients(step)):  # the gradient belongs to the layer
            np.testing.assert_array_equal(learned[i].grad, g.astype(dtype))
    for parameter, value in zip(learned, expected, strict=True):
        assert parameter.data.dtype == dtype
        np.testing.assert_allclose(parameter.data, value, rtol=0, atol=32 * np.finfo(dtype).eps)


@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "eps": 0.1}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam(options: dict[str, Any], dtype: Any) -> None:
    learned = parameters(dtype)
    expected = [p.data.astype(np.float64) for p in learned]
    first, second = [0 * e for e in expected], [0 * e for e in expected]
    (beta1, beta2), eps = options.get("betas", (0.9, 0.999)), options.get("eps", 1e-8)
    step_of = optim.Adam(learned, lr=0.01, **options)
    for step in range(1, 6):
        for i, g in enumerate(gradients(step)):
            learned[i].grad = g.astype(dtype)
            total = g.astype(dtype) + options.get("weight_decay", 0) * expected[i]
            first[i] = beta1 * first[i] + (1 - beta1) * total
            second[i] = beta2 * second[i] + (1 - beta2) * total**2
            expected[i] -= 0.01 * (first[i] / (1 - beta1**step)) / (np.sqrt(second[i] / (1 - beta2**step)) + eps)
        step_of.step()
    for parameter, value in zip(learned, expected, strict=True):
        np.testing.assert_allclose(parameter.data, value, rtol=0, atol=32 * np.finfo(dtype).eps)


def test_adam_on_any_array_and_any_threads() -> None:
    """Large enough for several threads; a transposed view is changed in place, like any other."""
    rng = np.random.default_rng(3)
    first, grads = rng.standard_normal((257, 300)).astype(np.float32), rng.standard_normal((2, 257, 300))
    results = []
    for count, transposed in ((1, False), (2, False), (4, True)):
        memory = first.T.copy() if transposed else first.copy()
        learned = nn.Parameter(memory.T if transposed else memory)
        step_of = optim.Adam([learned], lr=0.01, weight_decay=0.01)
        with fastconv.threads(count):
            for grad in grads:
                learned.grad = grad.astype(np.float32)
                step_of.step()
        results.append(memory.T if transposed else memory)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert not np.isclose(results[0], first).all()


def test_adam_leaves_a_read_only_parameter() -> None:
    learned = parameters()
    learned[0].data.flags.writeable = False
    step_of = optim.Adam(learned)
    learned[0].grad = np.ones((3, 4))
    with pytest.raises(ValueError, match="read-only"):
        step_of.step()


def test_parameters_without_gradient_stay() -> None:
    for make in (optim.SGD, optim.Adam):
        learned = parameters()
        before = [p.data.copy() for p in learned]
        step_of = make(learned, lr=0.1)
        learned[0].grad = np.ones((3, 4))
        step_of.step()
        assert (learned[0].data != before[0]).all()
        np.testing.assert_array_equal(learned[1].data, before[1])
        step_of.zero_grad()
        assert learned[0].grad is None


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: optim.SGD([], lr=0.1), ValueError, "parameters is empty"),
    (lambda: optim.SGD([np.zeros(3)], lr=0.1), TypeError, "has a ndarray"),  # type: ignore[list-item]
    (lambda: optim.SGD(parameters(), lr=-1), ValueError, "lr=-1"),
    (lambda: optim.SGD(parameters(), 0.1, momentum=-1), ValueError, "momentum=-1"),
    (lambda: optim.SGD(parameters(), 0.1, nesterov=True), ValueError, "nesterov"),
    (lambda: optim.Adam(parameters(), betas=(0.9, 1.0)), ValueError, r"betas\[1\]=1\.0"),
    (lambda: optim.Adam(parameters(), lr=float("nan")), ValueError, "lr=nan"),
])  # fmt: skip
def test_refuses(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
