"""On a GPU, where there is one; ``benchmarks/device_check.sh`` runs this. Elsewhere some of it runs in the emulator, so
that this file is known to work.

Convolutions are exact on small integers, whatever the algorithm. Tests with "small" in their name are what
compute-sanitizer runs, those with "emulator" compare the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import cuda
from fastconv.cuda import _loader

from .cases import BY_NAME, CASES
from .cuda_emulator.load import emulated
from .device_arrays import emulated_device
from .directions import DIRECTIONS, call, from_layout, question, to_layout
from .test_cuda_conv import Case, arrays
from .test_cuda_wgmma import CASES as WGMMA_CASES

GPU = fastconv.is_cuda_available()
needs_gpu = pytest.mark.skipif(not GPU, reason="needs a GPU")
# What the oracle sums in a moment; and what the emulator does.
MOST, MOST_EMULATED = 20_000_000, 3_000
SHARED = [case for case in CASES if case.multiply_adds <= (MOST if GPU else MOST_EMULATED)]
SMALL = [case for case in CASES if case.multiply_adds <= MOST_EMULATED][::4]
HOPPER = [
    *WGMMA_CASES,
    Case("one_pixel_left", 3, 64, 64, (7, 7), (7, 7)),
    Case("far_padding", 1, 8, 8, (4, 4), (3, 3), padding=((120, 120), (0, 0))),
    Case("long_steps", 2, 64, 64, (40, 40), (3, 3), (8, 8)),
]
RUNS = [("auto", "fp32"), ("reference", "fp32"), ("depthwise", "fp32"), ("direct", "fp32"),
        ("im2col", "fp32"), ("im2col", "fp32-simt"), ("im2col", "tf32"),
        ("pointwise", "fp32"), ("pointwise", "tf32")]  # fmt: skip


@pytest.fixture(autouse=True)
def _device():
    if GPU:
        yield
        return
    with emulated_device():
        emulated().configure()
        yield


def on_device(name: str, direction: str, layout: str, integers: bool, dtype: Any = np.float32) -> dict[str, Any]:
    """The operands of a case, where the device is."""
    arrays = question(name, direction, integers).arrays
    spatial = {role: role in "xy" and layout == "NHWC" for role in arrays}
    return {role: cuda.asarray(to_layout(array, "NHWC" if spatial[role] else "NCHW").astype(dtype))
            for role, array in arrays.items()}  # fmt: skip


def check_exact(case: Any, direction: str, layout: str) -> None:
    arrays, expected = on_device(case.name, direction, layout, True), question(case.name, direction, True).expected
    for algorithm, precision in RUNS:
        try:
            result = call(case, direction, arrays, layout=layout, algorithm=algorithm, precision=precision).numpy()
        except NotImplementedError:
            assert algorithm not in ("auto", "reference")
            continue
        result = result if direction == "weight_gradient" else from_layout(result, layout)
        assert np.array_equal(result, expected), (algorithm, precision)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", SHARED, ids=[case.name for case in SHARED])
def test_shared_case(case, direction, layout):
    check_exact(case, direction, layout)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_small_cases(direction, layout):
    for case in SMALL:
        check_exact(case, direction, layout)


@pytest.mark.parametrize("case", HOPPER, ids=[case.name for case in HOPPER])
def test_small_halves_on_hopper(case):
    """A kernel that is taken by name alone until this has passed on a device of architecture 9.0."""
    x, w, _ = (np.clip(array, -2, 2) for array in arrays(case, dtype=np.float64, whole=True))
    convolve = getattr(fastconv, f"conv{len(case.size)}d")
    window = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "layout": "NHWC"}
    x = np.moveaxis(x, 1, -1).copy()
    given = [cuda.asarray(array.astype(np.float16)) for array in (x, w)]
    if not GPU or _loader.engine().architecture(0) != 90:
        with pytest.raises(NotImplementedError, match="architecture 9.0"):
            convolve(*given, **window, algorithm="im2col_wgmma")
        return
    found = convolve(*given, **window, algorithm="im2col_wgmma").numpy()
    assert np.array_equal(found, convolve(x, w, **window).astype(np.float16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_small_poolings(layout, dtype):
    size = 33 if GPU else 9
    x = to_layout(np.random.default_rng(0).integers(-9, 9, (2, 5, size, size - 1)), layout).astype(dtype)
    wide = x.astype(np.float64)
    for window in [(2,), (3, 2, 1), (3, 1, 1), (size - 1,), ((2, 3), (1, 2))]:
        want, where = fastconv.max_pool2d(wide, *window, layout=layout, return_indices=True)
        got, places = fastconv.max_pool2d(cuda.asarray(x), *window, layout=layout, return_indices=True)
        assert np.array_equal(got.numpy(), want) and np.array_equal(places.numpy(), where)
        assert np.array_equal(fastconv.max_pool2d(cuda.asarray(x), *window, layout=layout).numpy(), want)
        back = fastconv.grad.max_pool2d(x.shape, got, places, layout=layout).numpy()
        assert np.array_equal(back, fastconv.grad.max_pool2d(x.shape, want, where, layout=layout))
        mean = fastconv.avg_pool2d(wide, *window, layout=layout)
        found = fastconv.avg_pool2d(cuda.asarray(x), *window, layout=layout)
        assert np.allclose(found.numpy(), mean, rtol=2e-3 if dtype is np.float16 else 1e-6, atol=1e-3)


def test_real_numbers_are_as_close_as_the_precision_says():
    """Errors as a share of the sum of the absolute values: 2^-22 for float32, 2^-10 for rounded factors."""
    names = [case.name for case in SHARED][:: 3 if GPU else 9]
    for name, direction in [(name, direction) for name in names for direction in DIRECTIONS]:
        asked = question(name, direction, False)
        for precision, bound in [("fp32", 2.0**-18), ("fp32-simt", 2.0**-18), ("tf32", 2.0**-9)]:
            arrays = on_device(name, direction, "NCHW", False)
            result = call(BY_NAME[name], direction, arrays, precision=precision).numpy()
            assert np.all(np.abs(result - asked.expected) <= bound * (asked.magnitude + 1)), (name, precision)


def test_results_repeat_bit_for_bit():
    name = SHARED[-1].name
    arrays = on_device(name, "weight_gradient", "NCHW", False)
    results = {call(BY_NAME[name], "weight_gradient", arrays).numpy().tobytes() for _ in range(5)}
    assert len(results) == 1


def test_warmup_and_plans():
    cuda.warmup()
    cuda.synchronize()
    arrays = on_device(SMALL[0].name, "forward", "NCHW", True)
    plan = fastconv.plan_conv2d((2, 8, 12, 12), np.ones((3, 8, 3, 3), np.float32), padding=1)
    x = np.random.default_rng(1).integers(-3, 4, (2, 8, 12, 12)).astype(np.float32)
    there = fastconv.plan_conv2d(x.shape, cuda.asarray(np.ones((3, 8, 3, 3), np.float32)), padding=1)
    assert np.array_equal(there(cuda.asarray(x)).numpy(), plan(x)) and arrays


@needs_gpu
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_emulator_agrees(layout):
    """The same numbers through the same kernels: the emulator is a model of this device."""
    seen, equal = 0, 0
    for case in [case for case in CASES if case.multiply_adds <= 40_000]:
        for direction in DIRECTIONS:
            for algorithm, precision in RUNS[1:]:
                more = {"layout": layout, "algorithm": algorithm, "precision": precision}
                try:
                    device = call(case, direction, on_device(case.name, direction, layout, False), **more).numpy()
                except NotImplementedError:
                    continue
                with emulated_device():
                    model = call(case, direction, on_device(case.name, direction, layout, False), **more).numpy()
                # How tensor cores add within an instruction is not modelled to the last bit.
                scale = question(case.name, direction, False).magnitude.max()
                assert np.abs(device - model).max(initial=0) <= 2.0**-17 * (scale + 1), (case.name, more)
                seen, equal = seen + device.size, equal + int((device == model).sum())
    print(f"{layout}: {equal / seen:.2%} of {seen} numbers are equal bit for bit")


@needs_gpu
def test_torch_tensors_go_through_without_a_copy():
    torch = pytest.importorskip("torch")
    x = torch.randn(4, 16, 14, 14, device="cuda")
    w, b = torch.randn(8, 16, 3, 3, device="cuda"), torch.randn(8, device="cuda")
    y = fastconv.conv2d(x, w, b, padding=1, activation="relu")
    assert type(y) is torch.Tensor and y.device == x.device
    want = torch.relu(torch.nn.functional.conv2d(x.double(), w.double(), b.double(), padding=1))
    assert float((y - want).abs().max()) <= 1e-4
    for dtype in (torch.float16, torch.bfloat16):
        y = fastconv.conv2d(x.to(dtype), w.to(dtype), padding=1)
        want = torch.nn.functional.conv2d(x.to(dtype).double(), w.to(dtype).double(), padding=1)
        assert y.dtype == dtype and float((y.double() - want).abs().max()) <= 2.0**-7 * float(want.abs().max())
    assert cuda.asarray(x)._pointer == x.data_ptr()
    assert torch.from_dlpack(cuda.asarray(x)).data_ptr() == x.data_ptr()
    with pytest.raises(TypeError, match="x requires a gradient"):
        fastconv.conv2d(x.requires_grad_(), w)


@needs_gpu
def test_calls_run_on_the_current_stream_and_are_captured():
    torch = pytest.importorskip("torch")
    x, w = torch.zeros(2, 16, 14, 14, device="cuda"), torch.ones(8, 16, 3, 3, device="cuda")
    plan = fastconv.plan_conv2d(tuple(x.shape), w)
    steps = [lambda: plan(x), lambda: fastconv.conv2d(x, w), lambda: fastconv.max_pool2d(x, 2),
             lambda: fastconv.grad.conv2d_weight(x, w.shape, plan(x))]  # fmt: skip
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        expected = [step() for step in steps]
    side.synchronize()
    graph, kept = torch.cuda.CUDAGraph(), []
    with torch.cuda.graph(graph):
        kept += [step() for step in steps]
    for value in (1.0, 2.0):
        x.fill_(value)
        graph.replay()
        torch.cuda.synchronize()
        expected = [step() for step in steps]
        assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))


@needs_gpu
def test_cupy():
    x, w = np.ones((1, 3, 8, 8), np.float32), np.ones((2, 3, 3, 3), np.float32)
    cupy = pytest.importorskip("cupy")
    y = fastconv.conv2d(cupy.asarray(x), cupy.asarray(w))
    assert isinstance(y, cupy.ndarray) and float(y.min()) == 27 == float(y.max())
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        assert float(fastconv.conv2d(cupy.asarray(x), cupy.asarray(w)).max()) == 27


@needs_gpu
def test_jax(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = pytest.importorskip("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX does not see the GPU")
    x, w = jax.numpy.ones((1, 3, 8, 8)), jax.numpy.ones((2, 3, 3, 3))
    y = fastconv.conv2d(x + 1, w)
    assert isinstance(y, jax.Array) and float(y.min()) == 54 == float(y.max())
