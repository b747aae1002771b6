"""ReLU, softmax, padding and explain of arrays on a GPU, in the emulator: what they give on the processor."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import fastconv
from fastconv import cuda

from .cuda_emulator.load import emulated, run_sanitized
from .device_arrays import ByDlpack, ByInterface, Namespaced, emulated_device

RNG = np.random.default_rng(8)
DTYPES = [np.float32, np.float64, np.float16]


@pytest.fixture(autouse=True)
def _emulated():
    with emulated_device():
        emulated().configure()
        yield


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu(dtype):
    x = RNG.standard_normal(1027).astype(dtype)
    x[[3, 500, 1026]] = np.nan, -0.0, -np.inf
    for start, shape in ((0, (13, 79)), (1, (1026,)), (1027, (0, 4))):
        part = x[start:].reshape(shape)
        found = fastconv.relu(ByInterface(np.ascontiguousarray(part))).numpy()
        assert found.dtype == dtype and np.array_equal(found, fastconv.relu(part), equal_nan=True)
    shifted = ByInterface(x[1:], copy=False)  # no vectors begin here
    assert np.array_equal(fastconv.relu(shifted).numpy(), fastconv.relu(x[1:]), equal_nan=True)


def test_relu_in_place():
    x = RNG.standard_normal((3, 7)).astype(np.float32)
    for kind in (cuda.asarray, ByInterface, ByDlpack, Namespaced):
        array = kind(x)
        assert fastconv.relu(array, inplace=True) is array
        assert np.array_equal(cuda.asarray(array).numpy(), np.maximum(x, 0))
    frozen = ByInterface(x)
    frozen.memory.flags.writeable = False
    with pytest.raises(ValueError, match="x is read-only: expected a writeable array with inplace=True"):
        fastconv.relu(frozen, True)
    with pytest.raises(ValueError, match="x is not C-contiguous and aligned: expected both with inplace=True"):
        fastconv.relu(Namespaced(x.T, copy=False), True)
    with pytest.raises(TypeError, match="x has dtype int64: expected float32"):
        fastconv.relu(cuda.asarray(np.arange(4)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [fastconv.softmax, fastconv.log_softmax])
def test_softmax(function, dtype):
    units = 4 * np.finfo(dtype).eps  # of a result's last place: exp, log and the sums round a few times
    for shape, dim in [((5, 10), 1), ((2, 70), None), ((3, 4, 6), 0), ((2, 5, 3, 4), None), ((9,), None), ((), None),
                       ((0, 3), 1), ((3, 0), 1), ((2, 1), -1), ((1, 300), 1)]:  # fmt: skip
        x = (5 * RNG.standard_normal(shape)).astype(dtype)
        found = function(cuda.asarray(x), dim).numpy()
        assert found.dtype == dtype and found.shape == shape
        exact = function(x.astype(np.float64), dim)
        assert np.all(np.abs(found - exact) <= units * np.maximum(np.abs(exact), 1)), (shape, dim)
    rows = np.array([[1, np.nan, 2], [1000, 999, -np.inf], [np.inf, 1, 2]], dtype)
    for arranged, dim in ((rows, 1), (rows.T.copy(), 0)):
        with np.errstate(all="ignore"):
            expected = function(arranged, dim)
        found = function(cuda.asarray(arranged), dim).numpy()
        assert np.allclose(found, expected, rtol=float(units), equal_nan=True)
    for wrong in (2, -3):
        with pytest.raises(ValueError, match=f"dim={wrong}: expected -2 to 1 for an array of 2 axes"):
            function(cuda.asarray(rows), wrong)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pad(dtype):
    x = RNG.standard_normal((2, 3, 5, 7)).astype(dtype)
    for pads, value in [((1, 2), 0), ((0, 0, -1, 3), 1.5), ((-7, 3), 2), ((1, 1, 0, 0, 2, 0, 0, 1), -np.inf), ((), 1)]:
        found = fastconv.pad(cuda.asarray(x), pads, value=value).numpy()
        assert found.dtype == dtype and np.array_equal(found, fastconv.pad(x, pads, value=value))
    for mode, pads in product(["reflect", "replicate", "circular"], [(4, 3, 0, 0), (1, -2, -3, 2), (-1, 3, 2, 1)]):
        found = fastconv.pad(cuda.asarray(x), pads, mode).numpy()
        assert np.array_equal(found, fastconv.pad(x, pads, mode)), (mode, pads)
    with pytest.raises(ValueError, match=r"expected at most 6 with mode='reflect'"):
        fastconv.pad(cuda.asarray(x), (7, 0, 0, 0), "reflect")
    with pytest.raises(ValueError, match="nothing is left"):
        fastconv.pad(cuda.asarray(x), (-4, -4))
    many = np.zeros((1,) * 12, dtype)
    assert fastconv.pad(cuda.asarray(many), (0, 0) * 5 + (1, 1)).shape == fastconv.pad(many, (0, 0) * 5 + (1, 1)).shape
    with pytest.raises(NotImplementedError, match="pad on CUDA: more than 8 axes"):
        fastconv.pad(cuda.asarray(many), (1, 0) * 9)


def test_layers_with_borders_and_a_relu_of_their_own():
    from fastconv import nn

    x = RNG.integers(-3, 4, (2, 3, 6, 5)).astype(np.float32)
    convolution = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    convolution.weight.data[...] = RNG.integers(-3, 4, convolution.weight.shape)
    model = nn.Sequential(convolution, nn.AvgPool2d(2), nn.ReLU()).eval()
    expected = model(x)
    assert np.allclose(model.to("cuda")(cuda.asarray(x)).numpy(), expected, atol=1e-5)


def test_explain_tells_of_the_device():
    x, w, b = np.empty((1, 16, 9, 9), np.float16), np.empty((8, 16, 3, 3), np.float16), np.empty(8, np.float16)
    onto = cuda.asarray
    found = fastconv.explain(onto(x), onto(w), onto(b), padding=1)
    assert tuple(row.name for row in found.candidates) == cuda.algorithms()
    assert found.output_shape == (1, 8, 9, 9) and found.isa.startswith("sm_") and found.threads >= 1
    assert found.bytes == 2 * (x.size + w.size + 8 * 81) and "multiprocessor" in str(found)
    assert found.algorithm == fastconv.plan_conv2d(x.shape, onto(w), onto(b), padding=1).algorithm
    assert "bias" in found.problem and ">" in str(found)
    # Any of them may be a shape alone, and says what the others must be.
    assert fastconv.explain(x.shape, onto(w), padding=1, direction="weight_gradient").output_shape == w.shape
    simt = fastconv.explain(onto(x.astype("f4")), w.shape, precision="fp32-simt")
    assert simt.candidates != fastconv.explain(onto(x.astype("f4")), w.shape, precision="tf32").candidates
    with pytest.raises(TypeError, match="weight has dtype float16: expected float32 like x"):
        fastconv.explain(onto(x.astype("f4")), onto(w))
    with pytest.raises(TypeError, match="x has dtype float16: expected float32 like dtype"):
        fastconv.explain(onto(x), w.shape, dtype="float32")
    with pytest.raises(NotImplementedError, match="algorithm='depthwise' cannot do"):
        fastconv.explain(onto(x), w.shape, algorithm="depthwise")
    with pytest.raises(ValueError, match="bias is given: expected None for direction='input_gradient'"):
        fastconv.explain(onto(x), w.shape, (8,), direction="input_gradient")


def test_nothing_outside_the_arrays_is_touched():
    """The sanitizers see an access that the results would not show."""
    code = """
import numpy as np, fastconv
from fastconv.cuda import _loader, asarray
with _loader.substitute(m.engine):
    for dtype, n in [(dtype, n) for dtype in ("f4", "f2") for n in (1, 31, 33, 257)]:
        x = asarray(np.ones((n, 3), dtype))
        for dim in (0, 1):
            fastconv.softmax(x, dim), fastconv.log_softmax(x.reshape(3, n), dim)
        fastconv.relu(x), fastconv.relu(x, True), fastconv.pad(x, (2, 3, -1, 4)), fastconv.pad(x, (1, -1), "circular")
print("done")
"""
    done = run_sanitized(code)
    assert done.returncode == 0 and "done" in done.stdout, done.stderr
