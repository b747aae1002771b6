"""Calls with arrays on a GPU that have come before, with the emulator computing: test_again.py's for devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import cuda, nn
from fastconv.cuda import _libraries

from .cuda_emulator.load import emulated
from .device_arrays import ByDlpack, emulated_device

RNG = np.random.default_rng(8)
X = RNG.integers(-4, 5, (2, 4, 7, 6)).astype(np.float32)
W = RNG.integers(-4, 5, (6, 4, 3, 3)).astype(np.float32)
B = RNG.integers(-4, 5, 6).astype(np.float32)
PLAIN = (1, 0, 1, 1, "NCHW", None, "auto", "fp32")


@pytest.fixture(autouse=True)
def _emulated():
    with emulated_device():
        emulated().configure()
        yield


def seen(x, w, b, *spelled):
    return emulated().engine.conv_again(2, x, w, b, spelled) is not None


def test_calls_in_turns():
    """Each of several calls that differ in one thing keeps giving its own result, on arrays of its own."""
    windows = [{}, {"padding": 1}, {"padding": ((0, 1), (2, 1))}, {"padding": "same"}, {"stride": (2, 1)},
               {"activation": "relu"}, {"algorithm": "exact"}, {"precision": "fp32-simt"}]  # fmt: skip
    calls = [(x, W.astype(x.dtype), b, window) for x in (X, X[:1], X[:0], X.astype(np.float64), X.astype(np.float16))
             for b in (None, B.astype(x.dtype)) for window in windows]  # fmt: skip
    for x, w, b, window in calls:
        want = fastconv.conv2d(x, w, b, **window)
        there = [None if a is None else cuda.asarray(a) for a in (x, w, b)]
        results = [fastconv.conv2d(*there, **window) for _ in range(3)]
        assert len({result._pointer for result in results}) == 3 or not want.size
        for result in results:
            assert result.dtype == want.dtype and np.array_equal(result.numpy(), want)


def test_what_is_seen():
    x, w, b = cuda.asarray(X), cuda.asarray(W[:5].copy()), cuda.asarray(B[:5].copy())
    assert not seen(x, w, None, *PLAIN)
    fastconv.conv2d(x, w)
    assert seen(x, w, None, *PLAIN) and not seen(x, w, b, *PLAIN)
    assert not seen(x, w, None, True, *PLAIN[1:]) and not seen(x, w, None, 1, 0.0, *PLAIN[2:])
    assert not seen(cuda.asarray(X[:1]), w, None, *PLAIN) and not seen(cuda.asarray(X.astype("f8")), w, None, *PLAIN)
    assert not seen(X, w, None, *PLAIN) and not seen(x, W, None, *PLAIN) and not seen([1], w, None, *PLAIN)
    for _ in range(2):
        assert np.array_equal(fastconv.conv2d(x, w, b).numpy(), fastconv.conv2d(X, W[:5], B[:5]))
        with pytest.raises(TypeError, match="stride=True"):
            fastconv.conv2d(x, w, None, True)
        with pytest.raises(ValueError, match="bias has shape"):
            fastconv.conv2d(x, w, cuda.asarray(B))


def test_streams_are_those_of_the_call():
    x, w = cuda.asarray(X), cuda.asarray(W)
    for handle in (1, 4096, 1, 8192, 4096):
        with cuda.stream(handle):
            result = fastconv.conv2d(x, w)
        assert result._stream == handle and np.array_equal(result.numpy(), fastconv.conv2d(X, W))


def test_plans_and_poolings():
    plan, x, odd = fastconv.plan_conv2d(X.shape, cuda.asarray(W), cuda.asarray(B)), cuda.asarray(X), cuda.asarray(X + 1)
    again = plan._prepared.again()
    assert again(x, None) is None and again(X, None) is None
    for _ in range(3):
        for given, values in ((x, X), (odd, X + 1)):
            assert np.array_equal(plan(given).numpy(), fastconv.conv2d(values, W, B))
            assert np.array_equal(fastconv.max_pool2d(given, 2).numpy(), fastconv.max_pool2d(values, 2))
            assert np.array_equal(fastconv.avg_pool2d(given, (3, 2), 1).numpy(), fastconv.avg_pool2d(values, (3, 2), 1))
            assert np.array_equal(fastconv.max_pool2d(given, 2, 1).numpy(), fastconv.max_pool2d(values, 2, 1))
    assert again(odd, None) is not None and again(odd, odd) is None and again(cuda.asarray(X[:1]), None) is None
    spelled = (False, 2, 2, 1, 0, 1, False, True, None, "NCHW")
    pooled = emulated().engine.pool_again
    assert pooled("max_pool2d", x, spelled) is not None and pooled("max_pool2d", X, spelled) is None
    assert pooled("max_pool2d", x, (*spelled[:3], True, *spelled[4:])) is None
    assert pooled("avg_pool2d", x, spelled) is None and pooled("max_pool2d", cuda.asarray(X[:1]), spelled) is None
    with pytest.raises(ValueError, match="the shape this plan was made for"):
        plan(cuda.asarray(X[:1]))


def test_the_pooled_convolution_of_layers():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, rng=1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    wanted = model(X)
    model.to("cuda")
    for _ in range(3):
        assert np.allclose(model(cuda.asarray(X)).numpy(), wanted, atol=1e-5)


def test_out_is_the_array_that_was_given():
    for x, w in ((cuda.asarray(X), cuda.asarray(W)), (ByDlpack(X), ByDlpack(W))):
        out = ByDlpack(np.zeros((2, 6, 5, 4), np.float32))
        assert fastconv.conv2d(x, w, out=out) is out and np.array_equal(out.memory, fastconv.conv2d(X, W))
    pooled = ByDlpack(np.zeros((2, 4, 3, 3), np.float32))
    found, index = fastconv.max_pool2d(ByDlpack(X), 2, return_indices=True, out=pooled)
    assert found is pooled and np.array_equal(index.numpy(), fastconv.max_pool2d(X, 2, return_indices=True)[1])


def test_tensors_of_torch(monkeypatch):
    """PyTorch's own functions read its tensors; those of the processor pose as being on a GPU."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        pytest.skip("needs a PyTorch with DLPack's C functions")

    class Posing(torch.Tensor):
        def __dlpack_device__(self):
            return 2, 0

    def there(array):
        return torch.from_numpy(array.copy()).as_subclass(Posing)

    monkeypatch.setattr(_libraries._Torch, "device", lambda self, array: 0)
    monkeypatch.setattr(_libraries._Torch, "stream", lambda self, array: 0)
    x, w, b = there(X), there(W), there(B)
    assert not seen(x, w, b, *PLAIN)
    results = [fastconv.conv2d(x, w, b) for _ in range(3)]
    assert seen(x, w, b, *PLAIN) and not seen(x.double(), w, b, *PLAIN)
    assert not seen(x.transpose(2, 3), w, b, *PLAIN) and not seen(there(np.tile(X, 2))[..., ::2], w, b, *PLAIN)
    for result in results:
        assert type(result) is torch.Tensor and np.array_equal(result.numpy(), fastconv.conv2d(X, W, B))
    w.requires_grad_()
    assert not seen(x, w, b, *PLAIN)
    with torch.no_grad():
        assert seen(x, w, b, *PLAIN)
    with pytest.raises(TypeError, match="weight requires a gradient"):
        fastconv.conv2d(x, w, b)
    split = fastconv.conv2d(there(X), there(W), there(B), algorithm="im2col")
    assert np.array_equal(split.numpy(), fastconv.conv2d(there(X), there(W), there(B), algorithm="im2col").numpy())


WGMMA = """
import numpy as np, fastconv
from fastconv import cuda
from tests.device_arrays import Namespaced, Posing, emulated_device, numbers
rng = np.random.default_rng(0)
x = rng.integers(-2, 3, (1, 6, 6, 8)).astype(np.float16)
w = rng.integers(-2, 3, (16, 8, 3, 3)).astype(np.float16)
memory = np.zeros(x.size + 8, np.float16)
shifted = memory[1 : x.size + 1].reshape(x.shape)
if shifted.ctypes.data % 16 == 0:
    shifted = memory[2 : x.size + 2].reshape(x.shape)
shifted[...] = x
Namespaced.__array_namespace__(None).float16 = np.dtype("f2")
with emulated_device() as _:
    view = Namespaced(shifted, copy=False)
    assert view.memory.ctypes.data % 16
    run = lambda x, **more: fastconv.conv2d(x, Namespaced(w), layout="NHWC", algorithm="im2col_wgmma", **more)
    want = fastconv.conv2d(x, w, layout="NHWC")
    assert np.array_equal(run(Namespaced(x)).memory, want) and np.array_equal(run(view).memory, want)
    out = Namespaced(np.zeros(want.size + 1, np.float16)[1:].reshape(want.shape), copy=False)
    if out.memory.ctypes.data % 16:
        try:
            run(view, out=out)
        except ValueError as error:
            print(error)
    own, weight = cuda.asarray(x), cuda.asarray(w)
    for _ in range(3):
        found = fastconv.conv2d(own, weight, layout="NHWC", algorithm="im2col_wgmma")
        assert np.array_equal(found.numpy(), want)
"""


def test_the_hopper_kernel_copies_what_is_not_aligned():
    """In a process whose emulated device is of that architecture."""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", WGMMA], cwd=root, capture_output=True, text=True,
                          env={**os.environ, "FASTCONV_EMULATED_ARCH": "90"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "out is not aligned to 16 bytes: expected that for this algorithm"


def test_an_index_outside_its_plane_has_no_effect_in_a_kernel():
    """Where nothing could look at it before: in the capture of a graph."""
    values = np.arange(1, 9, dtype=np.float32).reshape(1, 2, 2, 2)
    index = np.array([[[[0, 1], [5, 8]]] * 2]).astype(np.int64)
    wrong = index.copy()
    wrong[0, 0, 0, 1], wrong[0, 1, 1, 1] = 9, -1
    for layout in ("NCHW", "NHWC"):
        there = (lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1))) if layout == "NHWC" else (lambda a: a)
        size = (1, 3, 3, 2) if layout == "NHWC" else (1, 2, 3, 3)
        for add in (False, True):
            place = lambda i: emulated().place(there(values), there(i), size, add=add, spatial=2, layout=layout)  # noqa: E731, B023
            whole, partial = place(index), place(wrong)
            left_out = there(np.array([[[[0, 2, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 8]]]], "f4"))
            assert np.array_equal(whole - left_out, partial)
        taken = emulated().take(place(index), there(wrong), spatial=2, layout=layout)
        want = values.copy()
        want[0, 0, 0, 1] = want[0, 1, 1, 1] = 0
        assert np.array_equal(taken, there(want))
