"""The other libraries, each as its users call it: weights prepared beforehand, plain NCHW NumPy input where it can.

A peer is a function ``(layer, x, w, b, threads) -> (call, result)`` that prepares the convolution; ``call()`` runs it
once and ``result()`` gives NCHW float32. It raises :class:`CannotDo` for what the library has no operator for.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .suites import Layer

Call = Callable[[], object]
Prepared = tuple[Call, Callable[[], np.ndarray]]
Peer = Callable[[Layer, np.ndarray, np.ndarray, np.ndarray, int], Prepared]


class CannotDo(Exception):
    """The library has no such operator, or none for this batch or number of axes."""


def _torch(channels_last: bool) -> Peer:
    def prepare(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray, threads: int) -> Prepared:
        import torch

        torch.set_num_threads(threads)
        convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[layer.axes - 1]
        tx, tw, tb = torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b)
        if channels_last:
            if layer.axes == 1:
                raise CannotDo("torch has channels_last for two and three axes")
            memory_format = torch.channels_last if layer.axes == 2 else torch.channels_last_3d
            tx, tw = tx.contiguous(memory_format=memory_format), tw.contiguous(memory_format=memory_format)
        window = (layer.stride, layer.padding, layer.dilation, layer.groups)

        def call() -> Any:
            with torch.inference_mode():
                return convolve(tx, tw, tb, *window)

        return call, lambda: call().contiguous().numpy()

    return prepare


def onnx_model(layer: Layer, w: np.ndarray, b: np.ndarray) -> bytes:
    """Serialise a model of one Conv node, its weights as initializers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], strides=layer.stride, pads=layer.padding * 2, dilations=layer.dilation,
        group=layer.groups, kernel_shape=layer.kernel,
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", *"dhw"[-layer.axes :]])],
        [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")],
    )
    # IR 10 and operator set 17 are read by every release of the two runtimes since 2024.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _onnxruntime(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray, threads: int) -> Prepared:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(layer, w, b), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    binding.bind_output("y", "cpu")

    def result() -> np.ndarray:
        session.run_with_iobinding(binding)
        return np.array(binding.copy_outputs_to_cpu()[0])

    return (lambda: session.run_with_iobinding(binding)), result


def _openvino(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray, threads: int) -> Prepared:
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(onnx_model(layer, w, b)), "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

    def call() -> None:
        request.infer()

    def result() -> np.ndarray:
        call()
        return np.array(request.get_output_tensor().data)

    return call, result


def _ncnn(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray, threads: int) -> Prepared:
    import ncnn

    if layer.axes != 2 or layer.batch != 1:
        raise CannotDo("ncnn takes one image; its 1-D and 3-D layers are not wired up here")
    kind = "Convolution" if layer.groups == 1 else "ConvolutionDepthWise"
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = layer.kernel, layer.stride, layer.padding, layer.dilation
    numbers = {0: layer.out_c, 1: kw, 11: kh, 2: dw, 12: dh, 3: sw, 13: sh, 4: pw, 14: ph, 15: pw, 16: ph, 5: 1,
               6: w.size, **({7: layer.groups} if layer.groups > 1 else {})}  # fmt: skip
    text = " ".join(f"{key}={value}" for key, value in numbers.items())
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder) / "conv.param", Path(folder) / "conv.bin"
        param.write_text(f"7767517\n2 2\nInput in0 0 1 in0\n{kind} conv 1 1 in0 out0 {text}\n")
        # four zero bytes say that the weights follow as plain float32
        weights.write_bytes(bytes(4) + w.tobytes() + b.tobytes())
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise CannotDo("ncnn does not load this layer")
    image = ncnn.Mat(x[0]).clone()

    def call() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", image)
        return extractor.extract("out0")[1]

    return call, lambda: np.array(call())[None]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what C++ writes to standard output to nowhere: MNN's converter reports each step there."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _mnn(layer: Layer, x: np.ndarray, w: np.ndarray, b: np.ndarray, threads: int) -> Prepared:
    # The converter's extension itself: MNN.tools.mnnconvert around it installs a telemetry package when imported. It
    # makes the filters part of the operator; a convolution written by MNN.expr keeps them as inputs, and is then run
    # without Winograd.
    import _tools  # part of the package MNN
    import MNN.expr as F
    import MNN.nn

    if layer.axes != 2:
        raise CannotDo("MNN's models of one and three axes are not wired up here")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = str(Path(folder) / "conv.onnx"), str(Path(folder) / "conv.mnn")
        Path(source).write_bytes(onnx_model(layer, w, b))
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "x"])
        runtime = MNN.nn.create_runtime_manager(({"numThread": threads, "backend": "CPU"},))
        net = MNN.nn.load_module_from_file(target, ["x"], ["y"], runtime_manager=runtime)
    image = F.placeholder(list(layer.x_shape), F.NCHW, F.float)
    image.write(x)

    return (lambda: net.forward(image)), lambda: np.array(net.forward(image).read(), np.float32)


PEERS: dict[str, Peer] = {
    "torch": _torch(False),
    "torch channels_last": _torch(True),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "ncnn": _ncnn,
    "MNN": _mnn,
}
_NEEDS = {
    "torch": ("torch",),
    "torch channels_last": ("torch",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "onnx"),
    "ncnn": ("ncnn",),
    "MNN": ("MNN", "onnx"),
}


def installed(wanted: list[str] | None = None) -> list[str]:
    """Names of the peers that can be imported: all of them, or of the wanted ones.

    Raises
    ------
    ValueError
        A wanted name is none of the peers'.
    ImportError
        A wanted peer is not installed.
    """
    for name in wanted or ():
        if name not in PEERS:
            raise ValueError(f"--peers: {name!r}: expected some of {', '.join(PEERS)}, or none")
        missing = [module for module in _NEEDS[name] if importlib.util.find_spec(module) is None]
        if missing:
            raise ImportError(
                f"{name} cannot be timed without {' and '.join(missing)}: pip install {' '.join(missing)}"
            )
    names = list(PEERS) if wanted is None else wanted
    return [name for name in names if all(importlib.util.find_spec(module) for module in _NEEDS[name])]


def versions(names: list[str]) -> dict[str, str]:
    """Version of each library behind these peers."""
    return {_NEEDS[name][0]: importlib.metadata.version(_NEEDS[name][0]) for name in names}
