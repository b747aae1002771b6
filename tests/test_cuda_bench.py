"""The benchmark on a GPU, dry: PyTorch's tensors of the processor pose as a GPU's, and the emulator computes."""

from __future__ import annotations

import json
import math

import pytest

import fastconv
from fastconv.bench import device, device_report
from fastconv.bench.suites import Pooling, _layer

from .device_arrays import emulated_device

torch = pytest.importorskip("torch", reason="the benchmark on a GPU has PyTorch as its peer and its clock")

LAYERS = (_layer("tiny 4x6 to 5, 3x3", 4, 6, 5, 3), _layer("tiny depthwise 4x6, 3x3 s2", 4, 6, 4, 3, 2, groups=4))
POOLINGS = (Pooling("max 4x6, 2x2", "max", 1, 4, 6, 2, 2, return_indices=True), Pooling("avg", "avg", 1, 4, 6, 3, 1, 1))
CEILINGS = {"fp32": 1e12, "tf32": 2e12, "fp16": 4e12, "copy": 1e11}


@pytest.fixture
def posing(monkeypatch):
    """PyTorch's tensors are taken for a GPU's by everything that asks."""
    from fastconv import _arguments
    from fastconv.cuda import _call, _libraries

    real = _arguments.on_device
    for module in (_arguments, _call):
        monkeypatch.setattr(module, "on_device", lambda value: isinstance(value, torch.Tensor) or real(value))
    monkeypatch.setattr(_libraries._Torch, "device", lambda self, array: 0)
    monkeypatch.setattr(_libraries._Torch, "stream", lambda self, array: 1)
    monkeypatch.setattr(device, "DEVICE_LAYERS", LAYERS)
    monkeypatch.setattr(device, "POOLINGS", POOLINGS)
    with emulated_device():
        yield


def clock(calls, seconds):
    assert seconds == 0.5 and 1 < len(calls) <= device.MOST_INPUTS
    for call in calls[:2]:
        call()
    return 1e-3 * len(calls)


def test_every_row_is_checked_timed_and_reported(posing):
    wanted = device.cases((1, 2))
    assert len(wanted) == 2 * 3 * 2 * (2 + 2) + 2 * 2 * 2 * 2
    rows = [device.measure(case, torch.device("cpu"), clock, 0.5, 4000, CEILINGS) for case in wanted[:12] + wanted[-4:]]
    assert not [row for row in rows if row.wrong]
    assert all(row.ratio == 1 and 0 < row.bound < 1e-6 for row in rows)
    place = {"device": "none", "architecture": 80, "multiprocessors": 4, "driver": "13.0", "torch": "2", "cudnn": 1,
             "fastconv": "0", "commit": "?", "compiler": "nvcc", "built_for": "80", "date": "today",
             "ceilings": CEILINGS}  # fmt: skip
    run = device.DeviceRun(rows, place, left_out=3)
    text = device_report.markdown(run)
    assert "**convolution, bias, ReLU, N = 1, fp32, NCHW**" in text and "Not timed, for want of time: 3 rows." in text
    assert json.loads(run.to_json())["rows"][0]["seconds"]["torch"] == rows[0].seconds["torch"]
    rows[0].errors["fastconv"] = math.nan
    assert rows[0].wrong and "WRONG: convolution" in device_report.markdown(run)


def test_without_a_device_it_ends_with_the_reason(capsys):
    from fastconv.__main__ import main

    if fastconv.is_cuda_available():
        pytest.skip("there is a device")
    for command in ("bench", "demo"):
        assert main([command, "--device", "cuda"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"fastconv {command}: --device cuda: ") and said.count("\n") == 1
