"""Layers: gradients by the adjoint identity and by finite differences, states, fusing, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import nn

F64 = {"dtype": np.float64, "rng": 0}

# Layer, shape of its input. All of them are linear in the input (maximum and ReLU: near it).
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1, groups=2, **F64), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 5, (3, 2), padding=1, **F64), (2, 3, 6, 7)),
    "conv2d_unbatched": (lambda: nn.Conv2d(3, 5, 3, **F64), (3, 6, 7)),
    "conv2d_strided_dilated": (lambda: nn.Conv2d(2, 3, 3, (2, 1), (2, 1), 2, bias=False, **F64), (2, 2, 9, 8)),
    "conv2d_same": (lambda: nn.Conv2d(2, 3, 4, stride=2, padding="same", **F64), (2, 2, 7, 6)),
    "conv2d_pairs": (lambda: nn.Conv2d(2, 3, 3, padding=((0, 2), (1, 0)), **F64), (2, 2, 7, 6)),
    "conv2d_nhwc": (lambda: nn.Conv2d(3, 4, 3, padding=1, layout="NHWC", **F64), (2, 6, 5, 3)),
    "conv2d_reflect": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect", **F64), (2, 2, 5, 6)),
    "conv2d_replicate_nhwc": (
        lambda: nn.Conv2d(2, 3, 3, padding=((1, 2), (0, 1)), padding_mode="replicate", layout="NHWC", **F64),
        (2, 5, 6, 2),
    ),
    "conv2d_circular_same": (lambda: nn.Conv2d(2, 3, 4, padding="same", padding_mode="circular", **F64), (2, 2, 5, 6)),
    "conv1d_circular_unbatched": (lambda: nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular", **F64), (2, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, (2, 3, 2), padding=(0, 1, 1), **F64), (2, 2, 4, 5, 4)),
    "transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, **F64), (2, 4, 5)),
    "transpose2d": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, **F64), (2, 3, 4, 5)),
    "transpose2d_output_padding_above": (lambda: nn.ConvTranspose2d(3, 4, 2, 3, 0, (2, 1), **F64), (2, 3, 4, 5)),
    "transpose2d_output_padding_dilated": (
        lambda: nn.ConvTranspose2d(3, 4, 2, 1, 1, 1, dilation=2, bias=False, **F64), (2, 3, 4, 5),
    ),
    "transpose2d_nhwc": (lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, layout="NHWC", **F64), (2, 4, 5, 3)),
    "transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 2, 2, **F64), (1, 2, 2, 3, 2)),
    "linear": (lambda: nn.Linear(7, 4, **F64), (5, 7)),
    "linear_more_axes": (lambda: nn.Linear(7, 4, bias=False, **F64), (2, 3, 7)),
    "linear_one_row": (lambda: nn.Linear(7, 4, **F64), (7,)),
    "flatten": (nn.Flatten, (3, 2, 4)),
    "relu": (nn.ReLU, (3, 4)),
    "max_pool1d": (lambda: nn.MaxPool1d(2), (2, 3, 7)),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, 1), (2, 3, 7, 6)),
    "max_pool2d_nhwc": (lambda: nn.MaxPool2d(2, ceil_mode=True, layout="NHWC"), (2, 7, 6, 3)),
    "max_pool3d": (lambda: nn.MaxPool3d(2, padding=1, dilation=1), (1, 2, 4, 4, 5)),
    "avg_pool1d": (lambda: nn.AvgPool1d(3, 2, 1), (2, 3, 8)),
    "avg_pool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 6)),
    "avg_pool2d_divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), (2, 3, 4, 4)),
    "avg_pool3d": (lambda: nn.AvgPool3d(2), (1, 2, 4, 4, 5)),
    "adaptive1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 3, 7)),
    "adaptive2d": (lambda: nn.AdaptiveAvgPool2d((3, None)), (2, 3, 7, 5)),
    "adaptive3d": (lambda: nn.AdaptiveAvgPool3d(1), (1, 2, 3, 4, 5)),
    "batch_norm2d_eval": (lambda: nn.BatchNorm2d(3, dtype=np.float64).eval(), (4, 3, 2, 2)),
}  # fmt: skip

layers = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


def normal(shape: tuple[int, ...], seed: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def without_bias(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    return layer(x) - layer(np.zeros_like(x))


@layers
def test_input_gradient_is_the_adjoint(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    layer, x = make(), normal(shape, 1)
    y = without_bias(layer, x)
    g = normal(y.shape, 2)
    layer(x)
    grad = layer.backward(g)
    assert grad is not None and grad.shape == x.shape and grad.dtype == x.dtype
    scale = np.linalg.norm(y) * np.linalg.norm(g)
    assert abs(np.vdot(y, g) - np.vdot(x, grad)) <= 1e-12 * scale


@layers
def test_parameter_gradients_are_the_adjoint(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    layer, x = make(), normal(shape, 1)
    y = layer(x)
    g = normal(y.shape, 2)
    assert layer.backward(g, input_grad=False) is None
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    for i, (name, parameter) in enumerate(layer.named_parameters()):
        # The output is linear in each parameter too: moving one moves it by its own part.
        direction, before = normal(parameter.shape, 3 + i), parameter.data.copy()
        parameter.data += direction
        moved = layer(x) - y
        parameter.data[...] = before
        grad = gradients[name]
        assert grad is not None and grad.shape == parameter.shape
        scale = np.linalg.norm(moved) * np.linalg.norm(g) + np.linalg.norm(y)
        assert abs(np.vdot(moved, g) - np.vdot(direction, grad)) <= 1e-12 * scale


@layers
def test_gradients_add_up_until_they_are_forgotten(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    layer, x = make(), normal(shape, 1)
    g = normal(layer(x).shape, 2)
    layer.backward(g)
    once = [parameter.grad.copy() for parameter in layer.parameters() if parameter.grad is not None]
    layer(x)
    layer.backward(g)
    for parameter, grad in zip(layer.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, 2 * grad)
    layer.zero_grad()
    assert all(parameter.grad is None for parameter in layer.parameters())


@layers
def test_backward_needs_a_forward(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="backward was called before forward"):
        make().backward(normal(shape, 0))


@pytest.mark.parametrize("activation", ["relu", "relu6", None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_network_by_finite_differences(activation: str | None, smoothing: float) -> None:
    rng = np.random.default_rng(5)
    more = {"dtype": np.float64, "rng": rng}
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, activation=activation, **more),
        nn.BatchNorm2d(4, dtype=np.float64),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, **more),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Dropout(0.25, rng=0),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 9, activation=activation, **more),
        nn.Linear(9, 5, **more),
    )
    x, labels = 3 * normal((4, 2, 8, 8), 1), np.array([0, 4, 2, 2])
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)

    def value() -> float:
        dropout = model[6]
        assert isinstance(dropout, nn.Dropout)
        dropout._rng = np.random.default_rng(0)  # the same choices every time
        return loss(model(x), labels)

    value()
    grad = model.backward(loss.backward())
    assert grad is not None
    checked = [(x, grad)] + [(p.data, p.grad) for p in model.parameters() if p.grad is not None]
    assert len(checked) == 1 + 2 * 5
    step = 1e-6  # error of the central difference about step**2 and eps / step, both far below the tolerance
    for array, gradient in checked:
        direction = rng.standard_normal(array.shape)
        before = array.copy()
        array += step * direction
        above = value()
        array[...] = before - step * direction
        below = value()
        array[...] = before
        slope = (above - below) / (2 * step)
        assert slope == pytest.approx(np.vdot(direction, gradient), rel=1e-5, abs=1e-8)


def test_relu_behind_a_layer_is_fused_and_changes_nothing() -> None:
    def network() -> nn.Sequential:
        rng = np.random.default_rng(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3, rng=rng), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5, rng=rng), nn.ReLU())

    x, g = normal((2, 1, 6, 6), 0, np.float32), normal((2, 5), 1, np.float32)
    fused, plain = network(), network()
    plain.fuses = False
    np.testing.assert_array_equal(fused(x), plain(x))
    np.testing.assert_array_equal(fused.backward(g), plain.backward(g))
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(one.grad, other.grad)
    calls: list[int] = []
    fused[1].forward = lambda x: calls.append(1)  # type: ignore[method-assign, assignment, func-returns-value]
    fused(x)
    assert not calls


def test_first_layer_computes_no_input_gradient_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def network() -> nn.Sequential:
        return nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.Flatten()), nn.Linear(32, 3, rng=1))

    x, g = normal((2, 1, 6, 6), 0, np.float32), normal((2, 3), 1, np.float32)
    whole, short = network(), network()
    whole(x), short(x)
    assert whole.backward(g) is not None
    monkeypatch.setattr(fastconv.grad, "conv2d_input", None)
    assert short.backward(g, input_grad=False) is None
    for one, other in zip(whole.parameters(), short.parameters(), strict=True):
        np.testing.assert_array_equal(one.grad, other.grad)
    with pytest.raises(TypeError):  # the whole way does need it
        whole.backward(g)


def test_pooling_in_use_finds_its_maxima_when_asked_back() -> None:
    layer, x = nn.MaxPool2d(2), normal((2, 3, 6, 6), 0)
    trained = layer(x), layer.backward(np.ones((2, 3, 3, 3)))
    layer.eval()
    np.testing.assert_array_equal(layer(x), trained[0])
    np.testing.assert_array_equal(layer.backward(np.ones((2, 3, 3, 3))), trained[1])


def test_windows_of_numpys_numbers_pool_behind_a_convolution() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 9)).astype(np.float32)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2, 2)).eval()
    for size in (np.int64(2), np.array([2, 2])):
        spelled = nn.Sequential(plain[0], nn.MaxPool2d(size, padding=np.int64(0))).eval()
        assert np.array_equal(spelled(x), plain(x))


def test_dropout() -> None:
    x = np.ones((100, 100), np.float32)
    layer, twin = nn.Dropout(0.3, rng=7), nn.Dropout(0.3, rng=7)
    y = layer(x)
    np.testing.assert_array_equal(y, twin(x))
    assert y.dtype == np.float32 and set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.02  # four standard deviations of the mean of 10,000 choices
    np.testing.assert_array_equal(layer.backward(x), y)
    assert (layer(x) != y).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(layer.backward(y), y)
    assert not nn.Dropout(1.0)(x).any()


def test_batch_norm_by_hand() -> None:
    x = normal((6, 3, 2, 5), 0) * 3 + 1
    layer = nn.BatchNorm2d(3, dtype=np.float64)
    y = layer(x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-4)
    np.testing.assert_allclose(layer.running_mean, 0.1 * x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.9 + 0.1 * x.var((0, 2, 3), ddof=1), rtol=1e-12)
    assert layer.num_batches_tracked == 1
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer(np.zeros((1, 3, 1, 1)))
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy(reduction: str) -> None:
    scores, labels = normal((5, 4), 0), np.array([0, 3, 1, 1, 2], np.uint8)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(5), labels])
    assert loss(scores, labels) == pytest.approx(expected.mean() if reduction == "mean" else expected.sum())
    wanted = (probabilities - np.eye(4)[labels]) / (5 if reduction == "mean" else 1)
    np.testing.assert_allclose(loss.backward(), wanted, atol=1e-15)
    assert loss(scores[0], 0) == pytest.approx(expected[0])
    assert np.isnan(nn.CrossEntropyLoss()(np.zeros((0, 4)), np.zeros(0, np.int64)))


@pytest.mark.parametrize(("scores", "labels", "error", "message"), [
    ((5, 4), [0, 1, 4, 0, 0], ValueError, "labels has 4: expected 0 to 3"),
    ((5, 4), [0, 1, -1, 0, 0], ValueError, "labels has -1: expected 0 to 3"),
    ((5, 4), [0, 1], ValueError, r"labels has shape \(2,\): expected \(5,\)"),
    ((2, 4), [0.0, 1.0], TypeError, "labels has dtype float64: expected integers"),
    ((2, 0), [0, 0], ValueError, "at least one class"),
])  # fmt: skip
def test_cross_entropy_refuses(scores: tuple[int, ...], labels: Any, error: type[Exception], message: str) -> None:
    loss = nn.CrossEntropyLoss()
    with pytest.raises(error, match=message):
        loss(np.zeros(scores), np.array(labels))
    with pytest.raises(RuntimeError, match="before the loss"):
        loss.backward()


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, rng=0), nn.BatchNorm2d(4), nn.Flatten(), nn.Sequential(nn.Linear(144, 3, bias=False, rng=1))
    )


KEYS = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
        "1.num_batches_tracked", "3.0.weight"]  # fmt: skip


def test_state_through_npz_and_safetensors(tmp_path: Any) -> None:
    model, x = network(), normal((3, 1, 8, 8), 0, np.float32)
    model(x)
    state = model.state_dict()
    assert list(state) == KEYS
    np.savez(tmp_path / "w.npz", **state)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as arrays:
        other = network()
        assert other.load_state_dict(arrays) == ([], [])
    np.testing.assert_array_equal(other.eval()(x), model.eval()(x))
    state["0.weight"][...] = 0  # a copy
    assert model.state_dict()["0.weight"].any()
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(model.state_dict(), tmp_path / "w.safetensors")
    third = network()
    third.load_state_dict(safetensors.load_file(tmp_path / "w.safetensors"))
    np.testing.assert_array_equal(third.eval()(x), model(x))


def test_state_that_does_not_fit_is_named_and_changes_nothing() -> None:
    model = network()
    before, state = model.state_dict(), model.state_dict()
    del state["0.bias"]
    state["9.weight"] = state["3.0.weight"]
    state["0.weight"] = np.ones((4, 1, 5, 5))
    with pytest.raises(ValueError, match=r"missing: 0\.bias; unexpected: 9\.weight; other shapes: 0\.weight has shape "
                                         r"\(4, 1, 5, 5\), expected \(4, 1, 3, 3\)"):  # fmt: skip
        model.load_state_dict(state)
    with pytest.raises(ValueError, match="other shapes"):
        model.load_state_dict(state, strict=False)
    state["0.weight"] = np.ones((4, 1, 3, 3), complex)
    with pytest.raises(TypeError, match=r"0\.weight has dtype complex128"):
        model.load_state_dict(state, strict=False)
    with pytest.raises(TypeError, match="expected a mapping"):
        model.load_state_dict([1, 2])  # type: ignore[arg-type]
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    state["0.weight"] = np.ones((4, 1, 3, 3))
    assert model.load_state_dict(state, strict=False) == (["0.bias"], ["9.weight"])
    assert (model.state_dict()["0.weight"] == 1).all() and model.state_dict()["0.weight"].dtype == np.float32


def test_own_module() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Conv2d(2, 2, 3, padding=1, **F64)
            self.gain = nn.Parameter(np.array([0.5]))

        def forward(self, x: Any) -> np.ndarray:
            self._branch = self.inner(x)
            return x + self.gain.data * self._branch

        def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
            self.gain.accumulate(np.array([np.vdot(grad_output, self._branch)]))
            below = self.inner.backward(grad_output * self.gain.data, input_grad=input_grad)
            return None if below is None else grad_output + below

    model = nn.Sequential(Residual(), Residual())
    assert [name for name, _ in model.named_parameters()] == [
        "0.gain", "0.inner.weight", "0.inner.bias", "1.gain", "1.inner.weight", "1.inner.bias",
    ]  # fmt: skip
    x = normal((2, 2, 4, 4), 0)
    y = model(x) - model(0 * x)
    g = normal(y.shape, 1)
    model(x)
    assert np.vdot(y, g) == pytest.approx(np.vdot(x, model.backward(g)), rel=1e-12)
    assert not model.eval()[0].inner.training  # type: ignore[attr-defined]
    rows = nn.summary(model, (2, 4, 4)).rows
    assert [row.name for row in rows] == ["0.inner", "1.inner"]
    assert nn.summary(model, (2, 4, 4)).parameters == 2 * 38


def test_summary_leaves_the_model_alone() -> None:
    model = network()
    before = model.state_dict()
    table = nn.summary(model, (1, 8, 8))
    assert all(module.training for _, module in model.named_modules()) and model.fuses
    assert not any("forward" in vars(module) for _, module in model.named_modules())
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert "3.0 Linear" in str(table) and table.rows[1].fully_connected is None
    assert table.parameters == 40 + 8 + 432 and table.fully_connected == 64 * 144 + 144 + 8 + 432


def test_shared_layer_is_counted_once() -> None:
    layer = nn.Linear(4, 4, rng=0)
    model = nn.Sequential(layer, layer)
    assert len(model.parameters()) == 2
    assert nn.summary(model, (4,)).parameters == 20


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels=3: expected a multiple of groups=2"),
    (lambda: nn.Conv2d(0, 4, 3), ValueError, "in_channels=0: expected at least 1"),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3)), ValueError, "kernel_size"),
    (lambda: nn.Conv2d(3, 4, 0), ValueError, "kernel_size=0"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode='mirror'"),
    (lambda: nn.Conv2d(3, 4, 3, 2, "same", padding_mode="reflect"), ValueError, "expected stride 1"),
    (lambda: nn.Conv2d(3, 4, 3, activation="gelu"), ValueError, "activation='gelu'"),
    (lambda: nn.Conv2d(3, 4, 3, dtype=np.int32), TypeError, "dtype"),
    (lambda: nn.Conv2d(3, 4, 3, rng="x"), TypeError, "rng='x'"),
    (lambda: nn.Linear(0, 4), ValueError, "in_features=0"),
    (lambda: nn.Dropout(1.5), ValueError, "p=1.5"),
    (lambda: nn.Sequential(3), TypeError, "layer 0 is int"),
    (lambda: nn.Sequential({"a.b": nn.ReLU()}), ValueError, "without a dot"),
    (lambda: nn.Parameter([1.0]), TypeError, "data is list"),
    (lambda: nn.BatchNorm2d(3)(np.zeros((2, 4, 5, 5), np.float32)), ValueError, "3 channels on axis 1"),
    (lambda: nn.Conv2d(3, 4, 3)(np.zeros((2, 3, 5, 5))), TypeError, "dtype"),
])  # fmt: skip
def test_layers_refuse(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_repr_shows_the_network() -> None:
    text = repr(network())
    assert "(0): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))" in text and "(3): Sequential(" in text
