"""The benchmarks: what is checked before it is timed, what a run leaves behind, and the command."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import bench
from fastconv.__main__ import main
from fastconv.bench import peers, records, report, suites, tasks, timing

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def wrong_peer(monkeypatch: pytest.MonkeyPatch) -> str:
    """A peer that is fast and off by a thousandth of the largest value."""

    def prepare(layer, x, w, b, threads):  # type: ignore[no-untyped-def]
        y = fastconv.conv2d(x, w, b, **layer.window)
        y[..., 0] += 1e-3 * np.abs(y).max()
        return (lambda: None), (lambda: y)

    monkeypatch.setitem(peers.PEERS, "wrong", prepare)
    monkeypatch.setitem(peers._NEEDS, "wrong", ("numpy",))
    return "wrong"


def run_one(names: list[str], suite: str = "layers", text: str = "96x14 to 576") -> bench.Run:
    return bench.run_suite(suite, peers=names, pattern=text, seconds=0.001)


def test_a_peer_that_answers_wrongly_does_not_count(wrong_peer: str) -> None:
    run = run_one([wrong_peer])
    (row,) = run.rows
    assert 0.9e-3 < row.errors[wrong_peer] < 1.1e-3
    assert row.errors["fastconv"] < records.OUR_ERROR
    assert row.best_peer is None and row.ratio is None
    assert "†" in report.markdown(run) and "WRONG" not in report.markdown(run)


def test_our_own_wrong_answer_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(records, "OUR_ERROR", 1e-12)
    assert main("bench --peers none --filter lecture --seconds 0.001".split()) == 1
    assert "WRONG: our batch 64, 1x28 to 25" in capsys.readouterr().out


def test_json_says_where_and_comes_back() -> None:
    run = run_one([])
    again = bench.Run.from_json(run.to_json())
    assert again == run
    assert {"processor", "isa", "commit", "peers", "peak_gflops", "copy_gb_per_s", "date"} <= set(run.place)
    assert run.place["peak_gflops"] > 1 and run.place["copy_gb_per_s"] > 0.1


def test_ratios_and_means() -> None:
    row = bench.Row("a", "GFLOP/s", 2e9, {"fastconv": 1.0, "torch": 3.0, "ncnn": 2.0, "MNN": 0.5}, {"MNN": 6e-4})
    assert row.best_peer == "ncnn" and row.ratio == 2.0 and row.against("torch") == 3.0 and row.rate("ncnn") == 1e9
    assert bench.geometric_mean([2.0, None, 8.0]) == pytest.approx(4.0)
    assert bench.geometric_mean([]) is None
    nan = bench.Row("b", "GFLOP/s", 1.0, {"fastconv": 1.0}, {"fastconv": float("nan")})
    assert nan.wrong


def test_contenders_take_turns() -> None:
    order: list[str] = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 0.0)
    assert set(times) == {"a", "b"} and all(0 < t < 1 for t in times.values())
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["a", "b"] * timing.FEWEST_ROUNDS


@pytest.mark.parametrize("suite", ["plain", "pooling", "gradients", "training", "call"])
def test_every_suite_is_right_before_it_is_timed(suite: str) -> None:
    text = {
        "plain": "24x56",
        "pooling": "1024x7",
        "gradients": "lecture 25x13 to 50, 3x3, batch 8",
        "training": "",
        "call": "",
    }
    names = peers.installed()
    run = run_one([name for name in names if name.startswith("torch")], suite, text[suite])
    for row in run.rows:
        assert all(error <= records.PEER_ERROR for error in row.errors.values()), row
        assert not row.wrong


def test_suites_hold_no_layer_twice_and_only_sound_ones() -> None:
    for layers in (suites.LAYERS, suites.NETWORKS, suites.GRADIENTS):
        assert len({layer.name for layer in layers}) == len(layers)
        for layer in layers:
            x, w = np.empty((1, *layer.x_shape[1:]), np.float32), np.empty(layer.w_shape, np.float32)
            assert min(tasks.PLAN[layer.axes - 1](x.shape, w, **layer.window).output_shape) > 0
    assert len(suites.LAYERS) == 27


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--suite layer", "--suite: 'layer': expected one of layers, networks"),
        ("--peers caffe", "--peers: 'caffe': expected some of torch, torch channels_last"),
        ("--filter nothing", "--filter: nothing of the suite 'layers' has 'nothing' in its name"),
    ],
)
def test_slips_end_in_a_sentence(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments.split()]) == 2
    assert message in capsys.readouterr().err


def test_the_command_writes_what_it_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "run.json", tmp_path / "run.png"]
    arguments = [
        "--peers",
        "none",
        "--filter",
        "96x14",
        "--seconds",
        "0.001",
        "--json",
        str(files[0]),
        "--plot",
        str(files[1]),
    ]
    assert main(["bench", *arguments]) == 0
    assert "| 96x14 to 576, 1x1 |" in capsys.readouterr().out
    assert bench.Run.from_json(files[0].read_text()).suite == "layers"
    assert files[1].read_bytes().startswith(b"\x89PNG")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the folder benchmarks, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_compare_times_the_build_and_not_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fastconv" / "__init__.py"
    package.parent.mkdir()
    package.write_text('def set_num_threads(n): print("{\\"build\\": 1}"); raise SystemExit')
    compare = script("compare", monkeypatch)
    assert compare.run(tmp_path, "[[], 1, 0, 0]") == {"build": 1}
    shutil.rmtree(package.parent)  # with the bytecode that may lie there
    with pytest.raises(subprocess.CalledProcessError):
        compare.run(tmp_path, "[[], 1, 0, 0]")


def test_regret_is_measured_over_every_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    regret = script("regret", monkeypatch)
    monkeypatch.setattr(
        timing, "interleaved", lambda calls, seconds: {name: 1.0 + (name != "im2col") for name in calls}
    )
    (layer,) = (layer for layer in suites.LAYERS if layer.name == "64x56 to 64, 3x3")
    ((name, chosen, best, value),) = regret.regrets((layer,), 1, 0.001)
    assert (name, best) == (layer.name, "im2col")
    assert value == (0.0 if chosen == "im2col" else 1.0)


def test_forms_are_held_against_their_fellows(monkeypatch: pytest.MonkeyPatch) -> None:
    forms = script("forms", monkeypatch)
    seconds = {"NCHW": 4.0, "NHWC": 5.0, "float64": 6.0, "float32 exact": 3.0, "float16": 8.0}
    asked = {}

    def interleaved(calls: dict[str, Any], _: float) -> dict[str, float]:
        asked.update({name: call() for name, call in calls.items()})
        return {name: seconds[name] for name in calls}

    monkeypatch.setattr(timing, "interleaved", interleaved)
    (layer,) = (layer for layer in suites.LAYERS if layer.name == "512x7 to 512, 3x3")
    assert forms.rates(layer, 1, 0.001) == {"NHWC": 0.8, "float64": 0.5, "float16": 0.5}
    assert asked["NHWC"].shape == (1, 7, 7, 512)
    assert asked["float64"].dtype == np.float64 and asked["float16"].dtype == np.float16
    np.testing.assert_allclose(np.moveaxis(asked["NHWC"], -1, 1), asked["NCHW"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(asked["float64"], asked["float32 exact"], rtol=0, atol=1e-3)


def test_the_readme_tables_come_from_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {**run_one([]).place, "peers": {"torch": "2"}}
    files = []
    for threads in (2, 1):
        rows = [
            bench.Row("a", "GFLOP/s", 2e9, {"fastconv": 1.0, "torch": 3.0, "ncnn": 2.0}, {}, "direct"),
            bench.Row("b", "GFLOP/s", 2e9, {"fastconv": 1.0, "torch": 0.5 * threads}, {}, "pointwise"),
        ]
        files.append(tmp_path / f"{threads}.json")
        files[-1].write_text(bench.Run("layers", threads, rows, place).to_json())
    assert script("table", monkeypatch).main([str(file) for file in files]) == 0
    printed = capsys.readouterr().out
    assert "| a | 2 | direct | ncnn 1 | 2.00 | 2.00 |" in printed
    assert "| b | 2 | pointwise | torch 4 | **0.50** | 1.00 |" in printed
    assert "| layers, batch 1, 2 threads | 2 | 1.41 | 1.73 | 0 | 1.00 b |" in printed
