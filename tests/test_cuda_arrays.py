"""Arrays on a GPU through the public functions, with the emulator computing behind the loader's seam.

The arrays are NumPy memory that poses as a device's (device_arrays.py). What the functions compute is compared with the
same calls on NumPy arrays; the kernels themselves have their tests in test_cuda_*.py.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import cuda
from fastconv.cuda import DeviceArray, _libraries, _loader

from .cuda_emulator.load import emulated
from .device_arrays import ByDlpack, ByInterface, Namespaced, OnStream, Posing, aligned, emulated_device, numbers

RNG = np.random.default_rng(3)
X = RNG.integers(-3, 4, (2, 4, 9, 8)).astype(np.float32)
W = RNG.integers(-3, 4, (6, 4, 3, 3)).astype(np.float32)
B = RNG.integers(-3, 4, 6).astype(np.float32)


@pytest.fixture(autouse=True)
def _emulated():
    with emulated_device():
        emulated().configure()
        yield


def last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def calls():
    """Every public function that computes on a device: name, what it is called with, and how."""
    y = fastconv.conv2d(X, W, B, 2, 1)
    up = RNG.integers(-3, 4, (2, 6, 5, 4)).astype(np.float32)
    whole, index = fastconv.max_pool2d(X, 2, return_indices=True)
    grads, window = fastconv.grad, (2, 1)
    row = X.reshape(-1, 8)
    return {
        "conv1d": ((X[:, :, 0], W[:, :, 0]), lambda x, w: fastconv.conv1d(x, w, padding="same")),
        "conv2d": ((X, W, B), lambda x, w, b: fastconv.conv2d(x, w, b, *window, activation="relu")),
        "conv2d unbatched": ((X[0], W), fastconv.conv2d),
        "conv2d NHWC": ((last(X), W, B), lambda x, w, b: fastconv.conv2d(x, w, b, layout="NHWC", padding=1)),
        "conv2d no images": ((X[:0], W), fastconv.conv2d),
        "conv3d": ((X[None], W[:, :2, None]), lambda x, w: fastconv.conv3d(x, w)),
        "conv_transpose2d": ((y, W), lambda x, w: fastconv.conv_transpose2d(x, w, None, *window, 1)),
        "conv2d_input": ((W, up), lambda w, g: grads.conv2d_input(X.shape, w, g, *window)),
        "conv2d_weight": ((X, up), lambda x, g: grads.conv2d_weight(x, W.shape, g, *window)),
        "conv2d_weight no images": ((X[:0], up[:0]), lambda x, g: grads.conv2d_weight(x, W.shape, g, *window)),
        "plan_conv2d": ((X, W, B), lambda x, w, b: fastconv.plan_conv2d(x.shape, w, b, padding=1)(x)),
        "max_pool2d": ((X,), lambda x: fastconv.max_pool2d(x, 3, 2, 1)),
        "max_pool2d indices": ((X,), lambda x: fastconv.max_pool2d(x, 2, return_indices=True)),
        "avg_pool2d": ((X,), lambda x: fastconv.avg_pool2d(x, 2, ceil_mode=True)),
        "adaptive_avg_pool2d": ((X,), lambda x: fastconv.adaptive_avg_pool2d(x, (3, None))),
        "max_unpool2d": ((whole, index), lambda x, i: fastconv.max_unpool2d(x, i, 2, output_size=X.shape)),
        "grad.max_pool2d": ((whole, index), lambda g, i: grads.max_pool2d(X.shape, g, i)),
        "grad.max_unpool2d": ((X, index), grads.max_unpool2d),
        "grad.avg_pool2d": ((whole,), lambda g: grads.avg_pool2d(X.shape, g, 2)),
        "grad.adaptive_avg_pool2d": ((whole,), lambda g: grads.adaptive_avg_pool2d(X.shape, g)),
        "linear": ((row, X[0, 0]), fastconv.linear),
        "linear no rows": ((row[:0], X[0, 0]), fastconv.linear),
        "flatten": ((X,), lambda x: fastconv.flatten(x, 1, 2)),
        "relu": ((X,), fastconv.relu),
        "pad": ((X,), lambda x: fastconv.pad(x, (1, -2, 0, 3), value=-1.5)),
        "pad reflect": ((X,), lambda x: fastconv.pad(x, (2, 1, 3, -4), "reflect")),
    }


CALLS = calls()


@pytest.mark.parametrize("kind", [cuda.asarray, ByInterface, ByDlpack, Namespaced])
@pytest.mark.parametrize("name", CALLS)
def test_a_device_computes_what_the_processor_does(name, kind):
    arrays, call = CALLS[name]
    if "no images" in name and kind is ByInterface:
        arrays = [np.ascontiguousarray(a) for a in arrays]
    expected, found = call(*arrays), call(*map(kind, arrays))
    own = Namespaced if kind is Namespaced else DeviceArray
    for want, got in zip(*((r if isinstance(r, tuple) else (r,)) for r in (expected, found)), strict=True):
        assert type(got) is own
        assert numbers(got).dtype == want.dtype and np.array_equal(numbers(got), want)


def test_nothing_is_copied():
    x = ByInterface(X)
    looking = cuda.asarray(x)
    x.memory[0, 0, 0, 0] = 77
    assert looking.numpy()[0, 0, 0, 0] == 77 and looking.reshape(-1).numpy()[0] == 77
    out = Namespaced(np.empty((2, 6, 7, 6), np.float32))
    assert fastconv.conv2d(Namespaced(X), ByDlpack(W), out=out) is out
    assert np.array_equal(out.memory, fastconv.conv2d(X, W))


def test_a_view_is_read_where_it_is():
    expected = fastconv.conv2d(X, W)
    larger = ByInterface(np.concatenate([[0], X.ravel()]).astype(np.float32))
    view = ByInterface(larger.memory[1:].reshape(X.shape), copy=False)
    assert view.memory.ctypes.data % 8 == 4
    assert np.array_equal(fastconv.conv2d(view, ByInterface(W)).numpy(), expected)


def test_what_is_not_contiguous_or_aligned_is_copied_by_its_library():
    expected = fastconv.conv2d(X, W)
    turned = Namespaced(np.moveaxis(last(X), -1, 1), copy=False)
    assert not turned.memory.flags.c_contiguous
    assert np.array_equal(fastconv.conv2d(turned, Namespaced(W)).memory, expected)
    memory = np.zeros(X.nbytes + 1, np.uint8)[1:]
    memory[...] = np.frombuffer(X.tobytes(), np.uint8)
    shifted = Namespaced(memory.view(np.float32).reshape(X.shape), copy=False)
    assert shifted.memory.ctypes.data % 4
    assert np.array_equal(fastconv.conv2d(shifted, Namespaced(W)).memory, expected)
    with pytest.raises(ValueError, match=r"ByInterface is not C-contiguous and aligned: expected both"):
        fastconv.conv2d(ByInterface(turned.memory, copy=False), ByInterface(W))


def test_filters_that_are_read_in_place_are_copied_where_they_begin_anywhere():
    x, w = RNG.integers(-4, 5, (2, 8, 4, 4)).astype("f4"), RNG.integers(-4, 5, (6, 8, 1, 1)).astype("f4")
    shifted = aligned(np.concatenate([w.ravel()[:1], w.ravel()]))[1:].reshape(w.shape)
    assert shifted.ctypes.data % 16 == 4
    expected = fastconv.conv2d(x, w)
    for there in (w, shifted, w, shifted):
        found = fastconv.conv2d(Namespaced(x), Namespaced(there, copy=False), algorithm="pointwise")
        assert np.array_equal(found.memory, expected)
    plan = fastconv.plan_conv2d(x.shape, Namespaced(shifted, copy=False), algorithm="pointwise")
    assert plan.algorithm == "pointwise"
    for _ in range(2):
        assert np.array_equal(plan(cuda.asarray(x)).numpy(), expected)
    y = RNG.integers(-4, 5, expected.shape).astype("f4")
    slopes = fastconv.grad.conv2d_input(x.shape, w, y)
    there = [Namespaced(shifted, copy=False), Namespaced(y)]
    assert np.array_equal(fastconv.grad.conv2d_input(x.shape, *there).memory, slopes)


def test_the_words_of_refusal_are_those_of_the_processor():
    for arguments, keywords in [
        ((X, W[:, :3]), {}),
        ((X, W, B[:3]), {}),
        ((X, W), {"stride": 0}),
        ((X, W), {"padding": -1}),
        ((X, W), {"layout": "CHWN"}),
        ((X, W), {"activation": "tanh"}),
        ((X, W.astype(np.float64)), {}),
        ((X[0, 0], W), {}),
    ]:
        with pytest.raises((TypeError, ValueError)) as here:
            fastconv.conv2d(*arguments, **keywords)
        with pytest.raises(here.type) as there:
            fastconv.conv2d(*map(cuda.asarray, arguments), **keywords)
        assert str(there.value) == str(here.value)
    x = cuda.asarray(X)
    with pytest.raises(ValueError, match="algorithm='winograd': expected one of 'auto', 'exact', .*'im2col'"):
        fastconv.conv2d(x, cuda.asarray(W), algorithm="winograd")
    with pytest.raises(NotImplementedError, match="cannot do .* of float32 on CUDA; depthwise: "):
        fastconv.conv2d(x, cuda.asarray(W), algorithm="depthwise")
    with pytest.raises(TypeError, match="x has dtype int64: expected float32, float64, float16 or bfloat16"):
        fastconv.max_pool2d(cuda.asarray(np.arange(64).reshape(1, 1, 8, 8)), 2)


def test_arrays_of_the_processor_and_of_the_device_do_not_mix():
    x, w = cuda.asarray(X), cuda.asarray(W)
    with pytest.raises(TypeError, match=r"weight is numpy.ndarray: expected an array on the GPU, as x is"):
        fastconv.conv2d(x, W)
    with pytest.raises(TypeError, match=r"weight is DeviceArray: expected a NumPy array"):
        fastconv.conv2d(X, w)
    with pytest.raises(TypeError, match=r"bias is numpy.ndarray: expected an array on the GPU, as x is"):
        fastconv.conv2d(x, w, B)
    with pytest.raises(TypeError, match=r"out is numpy.ndarray: expected an array on the GPU, as x is"):
        fastconv.max_pool2d(x, 2, out=np.empty(1, np.float32))
    with pytest.raises(TypeError, match=r"weight is numpy.ndarray: expected an array on the GPU, as x is"):
        fastconv.explain(x, W)
    with pytest.raises(TypeError, match=r"on a GPU: copy it with .numpy\(\)"):
        np.asarray(x)


def test_out_is_checked_as_on_the_processor():
    x, w = cuda.asarray(X), cuda.asarray(W)
    for out, message in [
        (np.empty((2, 6, 7, 6)), "out has dtype float64: expected float32"),
        (np.empty((2, 6, 7, 5), np.float32), r"out has shape \(2, 6, 7, 5\): expected \(2, 6, 7, 6\)"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            fastconv.conv2d(x, w, out=cuda.asarray(out))
    with pytest.raises(ValueError, match="out overlaps an input in memory"):
        fastconv.avg_pool2d(x, 1, out=x)
    frozen = ByInterface(np.empty((2, 6, 7, 6), np.float32))
    frozen.memory.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        fastconv.conv2d(x, w, out=frozen)


def test_an_index_outside_its_plane_is_refused():
    whole, index = fastconv.max_pool2d(X, 2, return_indices=True)
    index[1, 2, 3, 1] = 72
    with pytest.raises(ValueError) as here:
        fastconv.grad.max_pool2d(X.shape, whole, index)
    with pytest.raises(ValueError) as there:
        fastconv.grad.max_pool2d(X.shape, cuda.asarray(whole), cuda.asarray(index))
    assert str(there.value) == str(here.value)


def test_streams():
    """Calls run on the stream of their library, and other producers are asked to be ready for it."""
    w = ByDlpack(W)
    OnStream.asked.clear()
    fastconv.conv2d(cuda.asarray(X), w)
    with cuda.stream(4096):
        assert cuda.current_stream() == 4096
        y = fastconv.conv2d(cuda.asarray(X), w)
    assert OnStream.asked == [1, 4096] and cuda.current_stream() == 1
    assert y.__cuda_array_interface__["stream"] == 4096
    x = ByInterface(X)
    x.stream = 8192
    fastconv.conv2d(x, w)
    assert OnStream.asked[2:] == [8192]


def test_a_plan_keeps_its_weights_and_says_what_it_is():
    w = ByInterface(W)
    plan = fastconv.plan_conv2d(X.shape, w, padding=1)
    expected = fastconv.conv2d(X, W, padding=1)
    w.memory[...] = 0
    assert np.array_equal(plan(cuda.asarray(X)).numpy(), expected)
    assert plan.algorithm in cuda.algorithms() and plan.output_shape == expected.shape
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 9, 8\): expected \(2, 4, 9, 8\)"):
        plan(cuda.asarray(X[:1]))
    with pytest.raises(TypeError, match="x is numpy.ndarray: expected an array on the GPU"):
        plan(X)


def test_device_array_is_a_good_citizen():
    x = cuda.asarray(X)
    assert (x.shape, x.ndim, x.size, x.nbytes, len(x), x.dtype) == (X.shape, 4, X.size, X.nbytes, 2, X.dtype)
    assert repr(x) == "DeviceArray(shape=(2, 4, 9, 8), dtype=float32, device=0)"
    assert cuda.asarray(x) is x and np.array_equal(fastconv.flatten(x, 1).numpy(), X.reshape(2, -1))
    with pytest.raises(ValueError, match=r"shape=\(5, -1\): expected 576 elements"):
        x.reshape(5, -1)
    assert x.__dlpack_device__() == (2, 0)
    with pytest.raises(BufferError):
        x.__dlpack__(dl_device=(1, 0))
    again = cuda.asarray(ByDlpack(X))
    for versioned in (None, (1, 0)):
        lent = emulated().engine.Borrowed(again.__dlpack__(max_version=versioned))
        assert (tuple(lent.shape), lent.dtype, lent.device, lent.pointer) == (
            X.shape,
            "float32",
            (2, 0),
            again._pointer,
        )
    for dtype in ("f8", "f2", "i8", "u1", ">f4"):
        values = np.arange(6).astype(dtype).reshape(2, 3)
        assert np.array_equal(cuda.asarray(values).numpy(), values)
    with pytest.raises(TypeError, match="x has dtype complex64"):
        cuda.asarray(np.ones(2, np.complex64))


def test_the_capsules_are_those_of_dlpack():
    """NumPy, which knows DLPack by itself, reads a capsule of ours that says it is on the processor."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)

    class Lent:
        def __dlpack_device__(self):
            return 1, 0

        def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
            return emulated().engine.to_capsule(self, values.ctypes.data, values.shape, "float32", 1, 0,
                                                max_version is not None)  # fmt: skip

    got = np.from_dlpack(Lent())
    assert np.shares_memory(got, values) and np.array_equal(got, values)
    borrowed = emulated().engine.Borrowed(values.__dlpack__())
    assert borrowed.pointer == values.ctypes.data and tuple(borrowed.shape) == (2, 3) and borrowed.device == (1, 0)
    with pytest.raises(TypeError, match="expected an unused DLPack capsule"):
        emulated().engine.Borrowed(object())


def test_half_precision_and_precision():
    x, w = X.astype(np.float16), W.astype(np.float16)
    y = fastconv.conv2d(cuda.asarray(x), cuda.asarray(w)).numpy()
    assert y.dtype == np.float16 and np.array_equal(y, fastconv.conv2d(X, W).astype(np.float16))


def test_warmup_reaches_every_row_and_runs_nothing():
    emulated().configure(counting=True)
    cuda.warmup()
    cuda.synchronize()
    assert emulated().counts() == {}


def test_strides_of_axes_with_one_element_may_be_any():
    assert _libraries.is_contiguous((2, 1, 3), (3, 99, 1)) and _libraries.is_contiguous((0, 5), (1, 1))
    assert not _libraries.is_contiguous((2, 3), (1, 2))


def test_without_a_device_one_error_says_why(monkeypatch):
    monkeypatch.setattr(_loader, "_substitute", None)
    reason = _loader.why_not()
    assert fastconv.is_cuda_available() == (not reason)
    if not reason:
        return  # a machine with a GPU
    for call in (lambda: cuda.asarray(X), lambda: fastconv.conv2d(Posing2(X), W), cuda.warmup):
        with pytest.raises(RuntimeError) as raised:
            call()
        assert str(raised.value) == f"no CUDA device can be used: {reason}"
    assert fastconv.show_config("dicts")["cuda"] == {"available": False, "reason": reason}


class Posing2(Posing):
    """Says that it is on a GPU, and is asked nothing else where there is none."""

    def __dlpack_device__(self):
        return 2, 0


def test_layers_compute_on_a_device():
    from fastconv import nn

    front = [nn.Conv2d(4, 5, 3, padding=1, rng=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.5), nn.AvgPool2d(2)]
    back = [nn.Flatten(), nn.Linear(20, 7, rng=2), nn.ReLU(), nn.Linear(7, 3, rng=3)]
    model = nn.Sequential(*front, *back)
    model.eval()
    expected, state = model(X), model.state_dict()
    assert model.to("cuda") is model
    found = model(cuda.asarray(X))
    assert type(found) is DeviceArray and np.allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert all(np.array_equal(a, state[key]) for key, a in model.state_dict().items())
    with pytest.raises(NotImplementedError, match=r"Linear.backward computes on the processor: train before"):
        model.backward(found)
    with pytest.raises(RuntimeError, match=r'load into model.to\("cpu"\)'):
        model.load_state_dict(state)
    model.to("cpu").load_state_dict(state)
    assert np.array_equal(model(X), expected)
    with pytest.raises(TypeError, match="weight is DeviceArray: expected a NumPy array"):
        model.to("cuda:0")(X)
    for device in ("gpu", "cuda:x", "cpu:0"):
        with pytest.raises(ValueError, match=f"device='{device}': expected 'cpu', 'cuda' or"):
            model.to(device)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("relu", [False, True])
def test_a_pool_is_taken_by_the_convolution_before_it(layout, relu):
    from fastconv import nn

    convolution = nn.Conv2d(4, 8, 3, padding=1, layout=layout)
    convolution.weight.data[...] = RNG.integers(-3, 4, convolution.weight.shape)
    convolution.bias.data[...] = RNG.integers(-3, 4, 8)
    x = last(X) if layout == "NHWC" else X
    layers = [convolution, nn.ReLU(), nn.MaxPool2d((2, 2), 2, layout=layout)]
    model = nn.Sequential(*(layer for layer in layers if relu or type(layer) is not nn.ReLU)).eval()
    images = [x, x[0], x[:0]]
    expected = [model(image) for image in images]
    model.to("cuda")
    emulated().configure(counting=True)
    for image, want in zip(images, expected, strict=True):
        assert np.array_equal(model(cuda.asarray(image)).numpy(), want)
    assert "pool_windows" not in emulated().counts()
    with pytest.raises(NotImplementedError, match="MaxPool2d.backward computes on the processor"):
        model.backward(cuda.asarray(expected[0]))
    with pytest.raises(ValueError, match="with pooling: expected a forward .* with results of at least 2 x 2"):
        model(cuda.asarray(np.ascontiguousarray(x[:, :1] if layout == "NHWC" else x[:, :, :1])))
    # What another kernel has to pool: overlapping windows, and any while indices are written down.
    for other in (nn.MaxPool2d(3, 2, layout=layout).eval(), nn.MaxPool2d(2, ceil_mode=True, layout=layout).eval(),
                  nn.MaxPool2d(2, layout=layout)):  # fmt: skip
        emulated().configure(counting=True)
        unfused = nn.Sequential(convolution, other)
        found = unfused(cuda.asarray(x)).numpy()
        assert "pool_windows" in emulated().counts()
        convolution.to("cpu")
        assert np.array_equal(found, unfused(x))
        convolution.to("cuda")


def test_a_model_is_trained_on_the_processor_and_asked_on_a_device():
    from fastconv.demo import network, training

    model = network.lecture_network(8, 8, rng=0)
    images = RNG.random((5, 1, 8, 8), np.float32)
    expected = training.answers(model, images)
    assert np.allclose(training.answers(model.to("cuda"), images, 2, "cuda"), expected, atol=1e-5)
