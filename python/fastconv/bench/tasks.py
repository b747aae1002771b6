"""What is timed in a suite: contenders by name, each a call and a way to see its answer, and the right answer."""

from __future__ import annotations

import importlib.util
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastconv

from . import peers as others
from .records import OURS
from .suites import Layer, Pooling

Contenders = dict[str, tuple[Callable[[], object], Callable[[], np.ndarray]]]
_CONVOLVE = (fastconv.conv1d, fastconv.conv2d, fastconv.conv3d)
PLAN = (fastconv.plan_conv1d, fastconv.plan_conv2d, fastconv.plan_conv3d)


@dataclass
class Job:
    """A row to be measured; `reference` is float64's answer, None where there is none to compare with.

    `traffic` is the bytes of the operands and the result, each once, where `work` is operations.
    """

    name: str
    unit: str
    work: float
    prepare: Callable[[], Contenders]
    reference: Callable[[], np.ndarray] | None
    algorithm: Callable[[], str] = str
    traffic: float = 0.0


def numbers(name: str, *shape: int) -> np.ndarray:
    """Return the same normal numbers for the same name and shape, every time."""
    rng = np.random.default_rng(zlib.crc32(f"{name}{shape}".encode()))
    return rng.standard_normal(shape, dtype=np.float32)


def operands(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, filters and bias of a layer."""
    return numbers("x", *layer.x_shape), numbers("w", *layer.w_shape), numbers("b", layer.out_c)


def _exact(layer: Layer) -> np.ndarray:
    """Float64's answer by code that shares nothing with what is timed: PyTorch where it is, else the plain loops."""
    x, w, b = (a.astype(np.float64) for a in operands(layer))
    if importlib.util.find_spec("torch"):
        import torch

        convolve: Any = (torch.conv1d, torch.conv2d, torch.conv3d)[layer.axes - 1]
        window = (layer.stride, layer.padding, layer.dilation, layer.groups)
        answer: np.ndarray = convolve(*(torch.from_numpy(a) for a in (x, w, b)), *window).numpy()
        return answer
    return _CONVOLVE[layer.axes - 1](x, w, b, **layer.window, algorithm="reference")


def _out_size(layer: Layer) -> tuple[int, ...]:
    w = np.empty(layer.w_shape, np.float32)
    return tuple(PLAN[layer.axes - 1](layer.x_shape, w, **layer.window).output_shape[2:])


def _traffic(layer: Layer) -> float:
    sizes = (layer.x_shape, layer.w_shape, (layer.batch, layer.out_c, *_out_size(layer)))
    return float(sum(math.prod(size) for size in sizes) * np.dtype(np.float32).itemsize)


def convolution(layer: Layer, names: list[str], threads: int, layout: str) -> Job:
    """Forward with bias, filters prepared by everyone."""
    chosen: list[str] = []

    def prepare() -> Contenders:
        x, w, b = operands(layer)
        last = layout == "NHWC"
        shape = (layer.batch, *layer.size, layer.in_c) if last else layer.x_shape
        given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
        plan = PLAN[layer.axes - 1](shape, w, b, **layer.window, layout=layout)
        out = np.empty(plan.output_shape, np.float32)
        chosen[:] = [plan.algorithm]

        def result() -> np.ndarray:
            y = plan(given)
            return np.moveaxis(y, -1, 1) if last else y

        contenders: Contenders = {OURS: (lambda: plan(given, out), result)}
        for name in names:
            try:
                contenders[name] = others.PEERS[name](layer, x, w, b, threads)
            except others.CannotDo:
                continue
        return contenders

    work = layer.flops(_out_size(layer))
    return Job(layer.name, "GFLOP/s", work, prepare, lambda: _exact(layer), lambda: chosen[0], _traffic(layer))


def plain(layer: Layer, names: list[str], threads: int) -> Job:
    """``conv2d(x, w, b)``, nothing prepared on either side."""

    def prepare() -> Contenders:
        x, w, b = operands(layer)
        call: Callable[[], np.ndarray] = lambda: _CONVOLVE[layer.axes - 1](x, w, b, **layer.window)  # noqa: E731
        contenders: Contenders = {OURS: (call, call)}
        for name in names:
            contenders[name] = others.PEERS[name](layer, x, w, b, threads)
        return contenders

    work = layer.flops(_out_size(layer))
    return Job(layer.name, "GFLOP/s", work, prepare, lambda: _exact(layer), traffic=_traffic(layer))


def _pool_onnx(pooling: Pooling, x: np.ndarray, threads: int) -> tuple[Any, Any]:
    import onnxruntime
    from onnx import TensorProto, helper

    kind = "MaxPool" if pooling.kind == "max" else "AveragePool"
    more: dict[str, Any] = {} if pooling.kind == "max" else {"count_include_pad": 1}
    outputs = ["y", "i"] if pooling.return_indices else ["y"]
    node = helper.make_node(kind, ["x"], outputs, kernel_shape=[pooling.kernel] * 2, strides=[pooling.stride] * 2,
                            pads=[pooling.padding] * 4, ceil_mode=int(pooling.ceil_mode), **more)  # fmt: skip
    types = {"y": TensorProto.FLOAT, "i": TensorProto.INT64}
    graph = helper.make_graph([node], "pool", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info(o, types[o], [*"nchw"]) for o in outputs])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    for name in outputs:
        binding.bind_output(name, "cpu")

    def result() -> np.ndarray:
        session.run_with_iobinding(binding)
        return np.array(binding.copy_outputs_to_cpu()[0])

    return (lambda: session.run_with_iobinding(binding)), result


def pooling(pooling: Pooling, names: list[str], threads: int) -> Job:
    """Max or average pooling; the unit is bytes in and out."""
    window: dict[str, Any] = {"stride": pooling.stride, "padding": pooling.padding, "ceil_mode": pooling.ceil_mode}
    if pooling.return_indices:
        window["return_indices"] = True
    ours = fastconv.max_pool2d if pooling.kind == "max" else fastconv.avg_pool2d
    x = numbers(pooling.name, *pooling.x_shape)

    def values(given: Any) -> Any:
        return given[0] if pooling.return_indices else given

    def torch_pool(channels_last: bool) -> tuple[Any, Any]:
        import torch
        import torch.nn.functional as F

        torch.set_num_threads(threads)
        t = torch.from_numpy(x)
        if channels_last:
            t = t.contiguous(memory_format=torch.channels_last)
        function = F.max_pool2d if pooling.kind == "max" else F.avg_pool2d

        def call() -> Any:
            with torch.inference_mode():
                return function(t, pooling.kernel, **window)

        return call, lambda: values(call()).contiguous().numpy()

    def prepare() -> Contenders:
        call: Callable[[], Any] = lambda: ours(x, pooling.kernel, **window)  # noqa: E731
        contenders: Contenders = {OURS: (call, lambda: values(call()))}
        for name in names:
            prepared = _pool_onnx(pooling, x, threads) if name == "onnxruntime" else torch_pool("last" in name)
            contenders[name] = prepared
        return contenders

    def reference() -> np.ndarray:
        y: np.ndarray = values(ours(x.astype(np.float64), pooling.kernel, **window))
        return y

    y = values(ours(x, pooling.kernel, **window))
    moved = x.nbytes + y.nbytes + (y.size * 8 if pooling.return_indices else 0)
    return Job(pooling.name, "GB/s", float(moved), prepare, reference)


def gradient(layer: Layer, which: str, names: list[str], threads: int) -> Job:
    """Gradient with respect to the input or to the filters, nothing prepared on either side."""
    out_size = _out_size(layer)
    y_shape = (layer.batch, layer.out_c, *out_size)

    def ours(dtype: Any) -> np.ndarray:
        x, w, _ = (a.astype(dtype, copy=False) for a in operands(layer))
        g = numbers("g", *y_shape).astype(dtype, copy=False)
        return _gradient_call(layer, which, x, w, g)()

    def prepare() -> Contenders:
        x, w, _ = operands(layer)
        g = numbers("g", *y_shape)
        call = _gradient_call(layer, which, x, w, g)
        contenders: Contenders = {OURS: (call, call)}
        for name in names:
            contenders[name] = _torch_gradient(layer, which, x, w, g, threads, "last" in name)
        return contenders

    name, work = f"{layer.name}, {which} gradient", layer.flops(out_size)
    return Job(name, "GFLOP/s", work, prepare, lambda: ours(np.float64), traffic=_traffic(layer))


def _gradient_call(layer: Layer, which: str, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Callable[[], np.ndarray]:
    if which == "input":
        return lambda: fastconv.grad.conv2d_input(layer.x_shape, w, g, **layer.window)
    return lambda: fastconv.grad.conv2d_weight(x, layer.w_shape, g, **layer.window)


def _torch_gradient(layer: Layer, which: str, x: np.ndarray, w: np.ndarray, g: np.ndarray, threads: int,
                    channels_last: bool) -> tuple[Any, Any]:  # fmt: skip
    import torch

    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(a) for a in (g, x, w)]
    if channels_last:
        tensors = [t.contiguous(memory_format=torch.channels_last) for t in tensors]
    mask = [which == "input", which == "weight", False]

    def call() -> Any:
        return torch.ops.aten.convolution_backward(
            *tensors, None, layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups, mask
        )[0 if which == "input" else 1]

    return call, lambda: call().contiguous().numpy()


TRAINING_BATCH = 64


def training(names: list[str], threads: int) -> Job:
    """One step of Adam on the lecture's network, 64 images of 28x28."""
    images = numbers("images", TRAINING_BATCH, 1, 28, 28)
    labels = np.arange(TRAINING_BATCH) % 10

    def ours() -> Callable[[], float]:
        from ..demo import network

        model = network.lecture_network(28, 28, rng=0)
        optimizer = fastconv.optim.Adam(model.parameters(), lr=1e-3)
        loss = fastconv.nn.CrossEntropyLoss()

        def step() -> float:
            value = loss(model(images), labels)
            optimizer.zero_grad()
            model.backward(loss.backward(), input_grad=False)
            optimizer.step()
            return float(value)

        return step

    def torch_step() -> Callable[[], float]:
        import torch

        from ..demo import network

        torch.set_num_threads(threads)
        t = torch.nn
        model = t.Sequential(t.Conv2d(1, 25, 3), t.MaxPool2d(2), t.Conv2d(25, 50, 3), t.MaxPool2d(2), t.Flatten(),
                             t.Linear(1250, 100), t.ReLU(), t.Linear(100, 10))  # fmt: skip
        state = network.lecture_network(28, 28, rng=0).state_dict()
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        x, y = torch.from_numpy(images), torch.from_numpy(labels)

        def step() -> float:
            value = t.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimizer.step()
            return float(value.detach())

        return step

    def prepare() -> Contenders:
        makers = {OURS: ours, **dict.fromkeys(names, torch_step)}

        # The answer that is compared is the loss after three steps from the same weights.
        def third(maker: Callable[[], Callable[[], float]]) -> np.ndarray:
            step = maker()
            return np.array([step() for _ in range(3)])[2:]

        return {name: (maker(), lambda maker=maker: third(maker)) for name, maker in makers.items()}  # type: ignore[misc]

    def reference() -> np.ndarray:
        step = ours()
        return np.array([step() for _ in range(3)])[2:]

    return Job("lecture's network, 28x28, Adam, batch 64", "images/s", TRAINING_BATCH, prepare, reference)


def tiny_call(names: list[str], threads: int) -> Job:
    """One call of a convolution so small that only the way to it counts."""
    layer = Layer("1x1x6x6, two 3x3 filters, one call", 1, 1, 2, (6, 6), (3, 3), (1, 1), (0, 0), (1, 1))

    def prepare() -> Contenders:
        x, w, b = operands(layer)
        call: Callable[[], np.ndarray] = lambda: fastconv.conv2d(x, w, b)  # noqa: E731
        contenders: Contenders = {OURS: (call, call)}
        for name in names:
            contenders[name] = others.PEERS[name](layer, x, w, b, threads)
        return contenders

    return Job(layer.name, "calls/s", 1.0, prepare, lambda: _exact(layer))
