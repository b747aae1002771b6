"""explain, plans, threads and the configuration: what they say is what happens."""

from __future__ import annotations

import argparse
import threading

import numpy as np
import pytest

import fastconv
from fastconv import _core
from fastconv.cli import explain as explain_command
from fastconv.cli import info as info_command

X = (2, 8, 9, 10)
W = (16, 8, 3, 3)


def arrays(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal(X).astype(dtype),
        rng.standard_normal(W).astype(dtype),
        rng.standard_normal(16).astype(dtype),
    )


def test_explain_takes_shapes_and_arrays_alike():
    x, w, b = arrays()
    assert fastconv.explain(x, w, b, padding=1) == fastconv.explain(X, W, (16,), padding=1)


def test_explain_asks_every_algorithm_and_chooses_the_cheapest():
    explanation = fastconv.explain(X, W)
    assert tuple(row.name for row in explanation.candidates) == fastconv.algorithms()
    able = [row for row in explanation.candidates if not row.reason]
    assert explanation.algorithm == min(able, key=lambda row: row.cycles).name
    assert [row.chosen for row in explanation.candidates].count(True) == 1


@pytest.mark.parametrize("name", fastconv.algorithms())
def test_explain_refuses_and_chooses_as_the_call_does(name):
    x, w, _ = arrays()
    row = next(row for row in fastconv.explain(x, w).candidates if row.name == name)
    if row.reason:
        with pytest.raises(NotImplementedError) as refused:
            fastconv.conv2d(x, w, algorithm=name)
        assert row.reason in str(refused.value)
        with pytest.raises(NotImplementedError):
            fastconv.explain(x, w, algorithm=name)
    else:
        fastconv.conv2d(x, w, algorithm=name)
        assert fastconv.explain(x, w, algorithm=name).algorithm == name


def test_explain_counts_the_definition():
    explanation = fastconv.explain((1, 64, 56, 56), (128, 64, 3, 3), padding=1)
    assert explanation.output_shape == (1, 128, 56, 56)
    assert explanation.flops == 2 * 128 * 64 * 9 * 56 * 56
    assert explanation.gflop == pytest.approx(0.462422016)
    elements = 64 * 56 * 56 + 128 * 64 * 9 + 128 * 56 * 56
    assert explanation.bytes == 4 * elements
    assert explanation.intensity == pytest.approx(explanation.flops / (4 * elements))
    assert fastconv.explain((1, 64, 56, 56), (128, 64, 3, 3), padding=1, dtype="float64").bytes == 8 * elements


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize("direction", ["forward", "input_gradient", "weight_gradient"])
def test_explain_in_every_direction_and_dimension(spatial, direction):
    x, w = (2, 4) + (7,) * spatial, (6, 2) + (3,) * spatial
    explanation = fastconv.explain(x, w, stride=2, groups=2, direction=direction)
    expected = {"forward": (2, 6) + (3,) * spatial, "input_gradient": x, "weight_gradient": w}
    assert explanation.output_shape == expected[direction]
    assert explanation.problem.startswith(direction)


def test_the_table_names_every_algorithm_and_marks_one():
    explanation = fastconv.explain(X, W, (16,), activation="relu")
    lines = str(explanation).splitlines()
    assert lines[0] == explanation.problem
    for name in fastconv.algorithms():
        assert any(line[2:].startswith(name) for line in lines[3:])
    assert [line[2:].split()[0] for line in lines[3:] if line.startswith(">")] == [explanation.algorithm]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fastconv.explain(X, (16, 7, 3, 3)), ValueError, "x has 8 channels"),
        (lambda: fastconv.explain(X, (16, 8)), ValueError, "weight has shape (16, 8)"),
        (lambda: fastconv.explain(4, W), TypeError, "x=4"),
        (lambda: fastconv.explain(X, W, (15,)), ValueError, "bias has shape (15,)"),
        (lambda: fastconv.explain(X, W, dtype="int32"), TypeError, "dtype=int32"),
        (lambda: fastconv.explain(X, W, direction="back"), ValueError, "direction='back'"),
        (lambda: fastconv.explain(X, W, (16,), direction="weight_gradient"), ValueError, "bias"),
        (lambda: fastconv.explain(X, W, activation="relu", direction="input_gradient"), ValueError, "activation"),
        (lambda: fastconv.explain(X, W, algorithm="magic"), ValueError, "algorithm='magic'"),
        (lambda: fastconv.explain(arrays()[0], arrays(np.float64)[1]), TypeError, "weight has dtype float64"),
        (lambda: fastconv.explain(arrays()[0], W, dtype="float64"), TypeError, "x has dtype float32"),
        (lambda: fastconv.explain((2**40, 2**30, 9, 9), (1, 2**30, 3, 3)), ValueError, "size overflow"),
        (lambda: fastconv.plan_conv2d(X, np.ones((16, 7, 3, 3), np.float32)), ValueError, "x_shape has 8 channels"),
        (lambda: fastconv.plan_conv2d(X[0], np.ones(W, np.float32)), TypeError, "x_shape=2"),
        (lambda: fastconv.plan_conv2d(X, np.ones(W, np.float32), np.ones(16)), TypeError, "bias has dtype float64"),
        (lambda: fastconv.set_num_threads(0), ValueError, "threads=0"),
        (lambda: fastconv.set_num_threads(10**6), ValueError, "threads=1000000"),
        (lambda: fastconv.set_num_threads(2**70), ValueError, "threads"),
        (lambda: fastconv.set_num_threads(2.0), TypeError, "threads=2.0"),
        (lambda: fastconv.set_num_threads(True), TypeError, "threads=True"),
        (lambda: fastconv.show_config("print"), ValueError, "mode='print'"),
    ],
)
def test_refusals_name_the_argument(call, error, words):
    before = fastconv.get_num_threads()
    with pytest.raises(error) as refused:
        call()
    assert words in str(refused.value)
    assert fastconv.get_num_threads() == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["auto", *fastconv.algorithms()])
def test_a_plan_gives_what_the_call_gives(name, dtype):
    x, w, b = arrays(dtype)
    try:
        expected = fastconv.conv2d(x, w, b, 2, 1, activation="relu", algorithm=name)
    except NotImplementedError:
        with pytest.raises(NotImplementedError):
            fastconv.plan_conv2d(X, w, b, 2, 1, activation="relu", algorithm=name)
        return
    plan = fastconv.plan_conv2d(X, w, b, 2, 1, activation="relu", algorithm=name)
    if name == "auto":  # a call, which packs the filters each time, may choose otherwise
        expected = fastconv.conv2d(x, w, b, 2, 1, activation="relu", algorithm=plan.algorithm)
    assert plan.x_shape == X
    assert plan.output_shape == expected.shape
    assert name in ("auto", plan.algorithm)
    assert plan.packed_bytes >= 0
    assert plan.workspace_bytes >= 0
    assert plan.algorithm in repr(plan)
    w[:] = 0  # the plan has its own filters and bias
    b[:] = 0
    np.testing.assert_array_equal(plan(x), expected)
    out = np.empty_like(expected)
    assert plan(x, out) is out
    np.testing.assert_array_equal(out, expected)


def test_plans_in_one_and_three_dimensions():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 4, 11), np.float32), rng.standard_normal((6, 4, 3), np.float32)
    np.testing.assert_array_equal(fastconv.plan_conv1d(x.shape, w, stride=2)(x), fastconv.conv1d(x, w, stride=2))
    x, w = rng.standard_normal((2, 4, 5, 6, 7), np.float32), rng.standard_normal((6, 4, 2, 3, 3), np.float32)
    np.testing.assert_array_equal(fastconv.plan_conv3d(x.shape, w, padding=1)(x), fastconv.conv3d(x, w, padding=1))


def test_a_plan_refuses_what_it_was_not_made_for():
    plan = fastconv.plan_conv2d(X, np.ones(W, np.float32))
    with pytest.raises(ValueError, match=r"x has shape \(1, 8, 9, 10\): expected \(2, 8, 9, 10\)"):
        plan(np.ones((1, 8, 9, 10), np.float32))
    with pytest.raises(TypeError, match="x has dtype float64: expected float32"):
        plan(np.ones(X))
    with pytest.raises(TypeError, match="out is list"):
        plan(np.ones(X, np.float32), [])


def test_a_plan_for_an_empty_batch_gives_an_empty_result():
    plan = fastconv.plan_conv2d((0, 8, 9, 10), np.ones(W, np.float32))
    assert plan(np.ones((0, 8, 9, 10), np.float32)).shape == (0, 16, 7, 8)


def test_a_plan_called_from_several_threads_at_once():
    _, w, b = arrays()
    plan = fastconv.plan_conv2d(X, w, b)
    inputs = [arrays(seed=seed)[0] for seed in range(8)]
    found: list[np.ndarray | None] = [None] * len(inputs)

    def call(i: int) -> None:
        for _ in range(20):
            found[i] = plan(inputs[i])

    workers = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for x, y in zip(inputs, found, strict=True):
        np.testing.assert_array_equal(y, fastconv.conv2d(x, w, b, algorithm=plan.algorithm))


def test_threads_are_set_and_put_back():
    before = fastconv.get_num_threads()
    with fastconv.threads(3):
        assert fastconv.get_num_threads() == 3
        assert fastconv.explain(X, W).threads == 3
        with fastconv.threads(1):
            assert fastconv.get_num_threads() == 1
        assert fastconv.get_num_threads() == 3
    assert fastconv.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), fastconv.threads(2):
        _ = 1 / 0
    assert fastconv.get_num_threads() == before


def test_config_says_what_is_in_use(capsys):
    config = fastconv.show_config("dicts")
    assert capsys.readouterr().out == ""
    assert config["version"] == fastconv.__version__
    assert config["isa"] in config["isas_available"]
    assert config["isas_available"][0] == "baseline"
    assert config["threads"] == fastconv.get_num_threads()
    assert config["algorithms"] == list(fastconv.algorithms())
    assert config["cuda"]["available"] is fastconv.is_cuda_available()
    assert config["cuda"]["available"] or config["cuda"]["reason"]
    assert fastconv.show_config() is None
    printed = capsys.readouterr().out
    for name in config:
        assert f"\n{name} " in "\n" + printed


@pytest.mark.parametrize("isa", _core.config()["isas_available"])
def test_a_held_isa_shows_in_config_and_explanation(isa):
    _core.hold_isa(isa)
    try:
        assert fastconv.show_config("dicts")["isa"] == isa
        assert fastconv.explain(X, W).isa == isa
    finally:
        _core.hold_isa("")


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for module in (explain_command, info_command):
        module.add_parser(subparsers)
    args = parser.parse_args(words)
    return int(args.run(args))


def test_the_command_prints_what_explain_returns(capsys):
    words = (
        "--input 1,8,32x32 --weight 16,8,3,3 --bias --stride 2 --padding 0:1,1:0 --threads 1 --activation relu".split()
    )
    assert command("explain", *words) == 0
    with fastconv.threads(1):
        expected = fastconv.explain(
            (1, 8, 32, 32), (16, 8, 3, 3), (16,), 2, ((0, 1), (1, 0)), activation="relu", dtype="float32"
        )
    assert capsys.readouterr().out == f"{expected}\n"


def test_the_command_refuses_with_the_same_words(capsys):
    assert command("explain", "--input", "1,7,32,32", "--weight", "16,8,3,3") == 2
    assert "x has 7 channels" in capsys.readouterr().err


def test_the_info_command_prints_the_configuration(capsys):
    assert command("info") == 0
    assert f"\nisa             {_core.config()['isa']}\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--input", "1,a"], ["--input", "1", "--padding", "0:1:2"]])
def test_the_command_refuses_what_is_no_number(words, capsys):
    with pytest.raises(SystemExit):
        command("explain", *words, "--weight", "16,8,3,3")
    assert "expected" in capsys.readouterr().err
