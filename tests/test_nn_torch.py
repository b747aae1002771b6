"""Layers and optimisers beside torch's, with the same parameters: forward, backward, and the way they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastconv import nn, optim

torch = pytest.importorskip("torch")

LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 9)),
    ("Conv2d", (3, 5, (3, 2)), {"padding": 1}, (2, 3, 6, 7)),
    ("Conv2d", (4, 6, 3, 2, 1, 1, 2, False), {}, (2, 4, 9, 9)),
    ("Conv2d", (2, 3, 4), {"padding": "same"}, (2, 2, 6, 7)),
    ("Conv2d", (2, 3, 3), {"padding": (2, 1), "padding_mode": "reflect", "stride": 2}, (2, 2, 6, 7)),
    ("Conv2d", (2, 3, 4), {"padding": "same", "padding_mode": "replicate"}, (2, 2, 6, 7)),
    ("Conv2d", (2, 3, 3), {"padding": 2, "padding_mode": "circular", "dilation": 2}, (2, 2, 6, 7)),
    ("Conv3d", (2, 3, 2), {"padding": 1}, (1, 2, 3, 4, 5)),
    ("ConvTranspose1d", (4, 6, 3, 2, 1, 1, 2), {}, (2, 4, 5)),
    ("ConvTranspose2d", (3, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (2, 3, 4, 5)),
    ("ConvTranspose2d", (3, 4, 2), {"stride": 3, "output_padding": 2, "bias": False}, (2, 3, 4, 5)),
    ("ConvTranspose3d", (2, 3, 2, 2), {}, (1, 2, 2, 3, 2)),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 8)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (2, 3, 8, 7)),
    ("MaxPool3d", (2,), {}, (1, 2, 4, 5, 4)),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 8)),
    ("AvgPool2d", (3, 2, 1, True, False), {}, (2, 3, 8, 7)),
    ("AvgPool3d", (2,), {"divisor_override": 3}, (1, 2, 4, 5, 4)),
    ("AdaptiveAvgPool1d", (3,), {}, (2, 3, 7)),
    ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 7, 6)),
    ("AdaptiveAvgPool3d", (2,), {}, (1, 2, 3, 4, 5)),
    ("Flatten", (1, 2), {}, (2, 3, 4, 5)),
    ("Linear", (7, 4), {}, (3, 7)),
    ("Linear", (7, 4, False), {}, (2, 3, 7)),
    ("ReLU", (), {}, (3, 7)),
    ("BatchNorm1d", (4,), {"momentum": 0.3}, (6, 4)),
    ("BatchNorm1d", (4,), {"affine": False}, (6, 4, 3)),
    ("BatchNorm2d", (4,), {"momentum": None}, (6, 4, 3, 2)),
    ("BatchNorm2d", (4,), {"track_running_stats": False, "eps": 1e-3}, (6, 4, 3, 2)),
    ("BatchNorm3d", (2,), {}, (3, 2, 2, 3, 2)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # torch about itself
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("name", "arguments", "more", "shape"), LAYERS)
def test_layer(name: str, arguments: Any, more: dict[str, Any], shape: tuple[int, ...], training: bool) -> None:
    theirs, ours = getattr(torch.nn, name)(*arguments, **more), getattr(nn, name)(*arguments, **more)
    ours.load_state_dict(theirs.state_dict())
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    rng = np.random.default_rng(0)
    for batch in range(2):  # a second one, for what BatchNorm remembers and gradients add up
        theirs.train(training or batch == 0)
        ours.train(training or batch == 0)
        x = rng.standard_normal(shape, np.float32)
        tensor = torch.from_numpy(x).requires_grad_()
        expected, y = theirs(tensor), ours(x)
        assert y.dtype == np.float32
        close(y, expected.detach().numpy())
        g = rng.standard_normal(y.shape, np.float32)
        expected.backward(torch.from_numpy(g))
        close(ours.backward(g), tensor.grad.numpy())
        for parameter, (key, of_torch) in zip(ours.parameters(), theirs.named_parameters(), strict=True):
            close(parameter.grad, of_torch.grad.numpy(), key)
    for key, value in theirs.state_dict().items():
        close(ours.state_dict()[key], value.numpy(), key)


def close(ours: np.ndarray | None, theirs: np.ndarray, what: str = "") -> None:
    assert ours is not None and ours.shape == theirs.shape, what
    tolerance = 1e-5 * max(1.0, float(np.abs(theirs).max(initial=0)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=what)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (4,)])
@pytest.mark.parametrize("more", [{}, {"label_smoothing": 0.2}, {"reduction": "sum", "label_smoothing": 0.1}])
def test_cross_entropy(shape: tuple[int, ...], more: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal(shape), rng.integers(0, 4, shape[:1] + shape[2:] if len(shape) > 1 else ())
    tensor = torch.from_numpy(scores).requires_grad_()
    expected = torch.nn.CrossEntropyLoss(**more)(tensor, torch.from_numpy(np.asarray(labels)))
    expected.backward()
    loss = nn.CrossEntropyLoss(**more)
    assert loss(scores, labels) == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(loss.backward(), tensor.grad.numpy(), rtol=0, atol=1e-14)


OPTIMISERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMISERS)
def test_network_learns_the_same_way(name: str, options: dict[str, Any]) -> None:
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(5, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(6 * 2 * 2, 10), torch.nn.ReLU(), torch.nn.Linear(10, 4),
    ).double()  # fmt: skip
    more = {"dtype": np.float64}
    ours = nn.Sequential(
        nn.Conv2d(1, 5, 3, **more), nn.BatchNorm2d(5, **more), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, padding=1, **more), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(6 * 2 * 2, 10, **more), nn.ReLU(), nn.Linear(10, 4, **more),
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict())
    their_step = getattr(torch.optim, name)(theirs.parameters(), **options)
    our_step = getattr(optim, name)(ours.parameters(), **options)
    their_loss, our_loss = torch.nn.CrossEntropyLoss(), nn.CrossEntropyLoss()
    rng = np.random.default_rng(0)
    for _ in range(12):
        x, labels = rng.standard_normal((8, 1, 10, 10)), rng.integers(0, 4, 8)
        expected = their_loss(theirs(torch.from_numpy(x)), torch.from_numpy(labels))
        assert our_loss(ours(x), labels) == pytest.approx(expected.item(), rel=1e-9)
        their_step.zero_grad()
        expected.backward()
        their_step.step()
        our_step.zero_grad()
        ours.backward(our_loss.backward(), input_grad=False)
        our_step.step()
    # Adam divides by the root of a mean square: where that is tiny, rounding is divided by it too.
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-7, atol=1e-8, err_msg=key)
    back = {key: torch.from_numpy(array) for key, array in ours.state_dict().items()}
    theirs.load_state_dict(back)


def test_first_weights_have_the_distribution_of_torch() -> None:
    for name, arguments in (("Conv2d", (8, 32, 5)), ("Linear", (300, 200)), ("ConvTranspose2d", (16, 24, 3))):
        theirs, ours = getattr(torch.nn, name)(*arguments), getattr(nn, name)(*arguments, rng=0)
        for key, value in theirs.state_dict().items():
            array = ours.state_dict()[key]
            assert np.abs(array).max() == pytest.approx(np.abs(value.numpy()).max(), rel=0.15), (name, key)
            if key == "weight":
                assert array.std() == pytest.approx(value.numpy().std(), rel=0.05), name
