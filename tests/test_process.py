"""What happens around a call: Ctrl-C, fork, threads, and a cache of plans that is pushed to its limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv import _core

from .directions import DIRECTIONS, question
from .worker import ROOT

ALGORITHMS = _core.algorithms()
posix = pytest.mark.skipif(os.name != "posix", reason="signals and fork are POSIX")

# Started as a process of its own, which sends itself SIGINT from a thread during the call.
INTERRUPTED = """
import json, os, signal, sys, threading, time
import numpy as np, fastconv
from tests.test_process import LONG, accepts

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored

direction, algorithm = sys.argv[1:]
make = next((make for make in LONG[direction] if accepts(make, algorithm)), None)
latencies, finished = [], 0
for attempt in range(3 if make else 0):
    function, arguments, more = make()
    sent, done = [], []
    def interrupt():
        time.sleep(0.25)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    timer = threading.Thread(target=interrupt)
    try:
        timer.start()
        function(*arguments, algorithm=algorithm, **more)
        done.append(True)
        time.sleep(10)
    except KeyboardInterrupt:
        latencies.append(time.monotonic() - sent[0])
        finished += len(done)
    timer.join()
sound = fastconv.conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)))[0, 0, 0, 0] == 4
print(json.dumps({"latencies": latencies, "finished": finished, "sound_after": bool(sound), "taken": make is not None}))
"""


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def _long(direction: str, x: tuple[int, ...], w: tuple[int, ...], **window: Any) -> Any:
    """A call that takes seconds on any machine: few arrays, many products."""

    def make() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        y = (x[0], w[0], x[2] - w[2] + 1, x[3] - w[3] + 1)
        if direction == "forward":
            return fastconv.conv2d, (_ones(*x), _ones(*w)), window
        if direction == "input_gradient":
            return fastconv.grad.conv2d_input, (x, _ones(*w), _ones(*y)), window
        return fastconv.grad.conv2d_weight, (_ones(*x), w, _ones(*y)), window

    return make


# The first that an algorithm takes: a dense one, a pointwise one, a depthwise one. 0.2 to 2 TFLOP each.
LONG = {
    direction: [
        _long(direction, (1, 512, 150, 150), (512, 512, 7, 7)),
        _long(direction, (1, 6144, 110, 110), (6144, 6144, 1, 1)),
        _long(direction, (4, 512, 160, 160), (512, 1, 61, 61), groups=512),
    ]
    for direction in ("forward", "input_gradient", "weight_gradient")
}


@posix
@pytest.mark.slow
@pytest.mark.parametrize("direction", LONG)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_control_c_stops_a_long_call(algorithm: str, direction: str) -> None:
    """Within 0.1 s of the signal; a machine that is busy with other things may be late, but not three times."""
    done = _run(INTERRUPTED, direction, algorithm, timeout=120)
    assert done["sound_after"]
    if not done["taken"]:
        return  # it refuses all of them; that it takes others is asserted in test_conv.py
    assert done["finished"] == 0, "the call ended before it was interrupted: make it longer"
    assert min(done["latencies"]) <= 0.1, done
    assert max(done["latencies"]) <= 1.0, done


def accepts(make: Any, algorithm: str) -> bool:
    """Whether the call is not refused; a refusal comes at once, and what computes is interrupted."""

    def late(*_: object) -> None:
        raise TimeoutError

    function, arguments, more = make()
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        function(*arguments, algorithm=algorithm, **more)
    except NotImplementedError:
        return False
    except TimeoutError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return True


def _run(source: str, *arguments: str, timeout: float, env: dict[str, str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments],
        cwd=ROOT,
        env=env,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@posix
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_fork_after_use(algorithm: str, threads: int) -> None:
    """The child of a process that has used threads computes, and so does its own child."""
    _core.set_num_threads(threads)
    # The first that the algorithm takes; the last is a batch of maps that call for a form of their own.
    for channels, size, kernel, groups in ((32, 40, 3, 1), (32, 40, 1, 1), (32, 40, 3, 32), (256, 6, 3, 1)):
        x = np.ones((4, channels, size, size), np.float32)
        w = np.ones((channels, channels // groups, kernel, kernel), np.float32)
        try:
            expected = fastconv.conv2d(x, w, groups=groups, padding=kernel // 2, algorithm=algorithm)
            break
        except NotImplementedError:
            continue
    else:
        pytest.fail(f"{algorithm} takes none of the problems")

    def right() -> bool:
        got = fastconv.conv2d(x, w, groups=groups, padding=kernel // 2, algorithm=algorithm)
        return got.tobytes() == expected.tobytes()

    assert _in_child(lambda: right() and _in_child(right))
    assert right()


def _in_child(work: Any, seconds: float = 30) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


# Started as a process of its own: another test may have loaded an OpenMP that spins as it likes.
AFTER_CALLS = """
import json, os, time
import numpy as np, fastconv

fastconv.set_num_threads(2)
x, w = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
burnt = []
for _ in range(10):
    fastconv.conv2d(x, w)
    before = time.process_time()
    time.sleep(0.05)
    burnt.append(time.process_time() - before)
print(json.dumps({"burnt": min(burnt), "environment": "GOMP_SPINCOUNT" in os.environ}))
"""


@pytest.mark.skipif(fastconv.show_config("dicts")["threading"] != "OpenMP", reason="a build without OpenMP")
def test_threads_sleep_soon_after_a_call() -> None:
    """Half a millisecond, up to three times that where a pause takes longer; libgomp's own default is above 4."""
    chosen = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # conftest.py has chosen for the tests
    done = _run(AFTER_CALLS, timeout=60, env={name: value for name, value in os.environ.items() if name not in chosen})
    assert done["burnt"] < 2e-3
    assert not done["environment"]


def test_eight_threads_at_once() -> None:
    """Calls from many Python threads, of different problems, give bitwise what they give one after the other."""
    names = ("plain", "strided", "pointwise_tail", "depthwise", "deep", "grouped", "signal", "large_image")
    questions = [(question(n, d, False), a) for n in names for d in DIRECTIONS for a in ("auto", *ALGORITHMS)]
    expected = {}
    for index, (asked, algorithm) in enumerate(questions):
        try:
            expected[index] = asked.ask(np.float32, "NCHW", algorithm).tobytes()
        except NotImplementedError:
            pass
    start = threading.Barrier(8)

    def work(seed: int) -> list[str]:
        start.wait()
        wrong = []
        for index in np.random.default_rng(seed).permutation(list(expected))[:40]:
            asked, algorithm = questions[index]
            if asked.ask(np.float32, "NCHW", algorithm).tobytes() != expected[int(index)]:
                wrong.append(f"{asked.case} {asked.direction} {algorithm}")
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert [wrong for wrongs in pool.map(work, range(8)) for wrong in wrongs] == []


def test_settings_changed_while_others_compute() -> None:
    """The number of threads and the ISA may change at any time: a call goes by what it found."""
    asked = question("plain", "forward", True)
    stop = threading.Event()

    def change() -> None:
        rng = np.random.default_rng(0)
        isas = _core.config()["isas_available"]
        while not stop.is_set():
            _core.set_num_threads(int(rng.integers(1, 4)))
            _core.hold_isa(str(rng.choice(isas)))

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(200):
            np.testing.assert_array_equal(asked.ask(np.float32, "NCHW", "exact"), asked.expected)
    finally:
        stop.set()
        other.join()


def test_more_plans_than_the_cache_holds() -> None:
    """1500 problems, each met again after it has fallen out, and problems that differ in one number only."""
    _core.set_num_threads(1)
    rng = np.random.default_rng(5)
    w = rng.integers(-3, 4, (3, 2, 3, 3)).astype(np.float32)
    x = rng.integers(-3, 4, (1, 2, 30, 50)).astype(np.float32)
    whole = fastconv.conv2d(x, w)
    sizes = [(h, n) for h in range(3, 31) for n in range(3, 51)] + [(3, 3), (30, 50)]
    for h, n in sizes:
        np.testing.assert_array_equal(fastconv.conv2d(x[:, :, :h, :n], w), whole[:, :, : h - 2, : n - 2])
    for stride, dilation, pad in np.ndindex(3, 3, 3):
        for _ in range(2):
            y = fastconv.conv2d(x, w, stride=stride + 1, dilation=dilation + 1, padding=((pad, 0), (0, pad)))
            padded = np.pad(x, ((0, 0), (0, 0), (pad, 0), (0, pad)))
            every = fastconv.conv2d(padded, w, dilation=dilation + 1)
            np.testing.assert_array_equal(y, every[:, :, :: stride + 1, :: stride + 1])


def test_memory_does_not_grow() -> None:
    """Ten thousand calls of changing shapes leave the process as large as the first thousand did."""
    _core.set_num_threads(1)
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        return  # only Linux says how large a process is
    x, w = np.ones((1, 8, 40, 40), np.float32), np.ones((8, 8, 3, 3), np.float32)

    def resident() -> int:
        with open(statm) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def work(calls: int) -> None:
        for i in range(calls):
            fastconv.conv2d(x[:, :, : 5 + i % 35, : 5 + i % 31], w)

    work(2000)
    before = resident()
    work(8000)
    assert resident() - before < 4 << 20
