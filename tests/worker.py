"""A Python process with a memory limit in which calls are made that might hang or crash.

Started once and asked many times: ``ask("fastconv.conv2d(zeros(1, 3, 0, 5), ...)")`` evaluates the expression there
and says how it ended. A process that died or did not answer in time is an Outcome as well, and is replaced.
"""

from __future__ import annotations

import io
import pickle
import resource
import selectors
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent
MEGABYTE = 1 << 20
ROOM = 512 * MEGABYTE  # address space a worker may add to what it has when it is ready
RESIDENT = 64 * MEGABYTE  # of it, what a refused call may touch


@dataclass
class Outcome:
    """How an expression ended. `kind` is the exception's name, "" where there was none, or "crash" or "hang"."""

    kind: str
    message: str = ""
    value: Any = None
    seconds: float = 0
    resident_bytes: int = 0  # growth of the largest resident size
    sound_after: bool = True  # the next valid call was right


class Worker:
    def __init__(self, timeout: float = 10) -> None:
        self.timeout = timeout
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-c", "from tests import worker; worker.serve()"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert _receive(self.process.stdout, 60).kind == "ready"

    def ask(self, expression: str, timeout: float | None = None) -> Outcome:
        assert self.process.stdin is not None
        pickle.dump(expression, self.process.stdin)
        self.process.stdin.flush()
        outcome = _receive(self.process.stdout, timeout or self.timeout)
        if outcome.kind in ("crash", "hang"):
            self.close()
            outcome.message = f"{outcome.message} exit status {self.process.returncode}"
            self._start()
        return outcome

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _receive(pipe: Any, timeout: float) -> Outcome:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        if not selector.select(timeout):
            return Outcome("hang", f"no answer after {timeout} s;")
    try:
        outcome: Outcome = pickle.load(pipe)
    except (EOFError, pickle.UnpicklingError):
        return Outcome("crash", "the process ended;")
    return outcome


def _peak_bytes() -> int:
    """Largest resident size since _forget_peak, on Linux; since the start of the process elsewhere."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _forget_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def _limit_memory() -> None:
    try:
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def serve() -> None:
    """The worker's side: reads expressions from stdin and writes an Outcome for each to stdout."""
    from . import expressions

    answers = io.FileIO(sys.stdout.fileno(), "w", closefd=False)
    questions = sys.stdin.buffer
    expressions.warm_up()
    _limit_memory()
    answers.write(pickle.dumps(Outcome("ready")))
    while True:
        try:
            expression = pickle.load(questions)
        except EOFError:
            return
        outcome = Outcome("")
        _forget_peak()
        before, start = _peak_bytes(), time.monotonic()
        try:
            outcome.value = eval(expression, vars(expressions).copy())  # the expression is this test suite's own
        except Exception as error:
            outcome.kind, outcome.message = type(error).__name__, str(error)
            if isinstance(error, AssertionError):
                outcome.message = traceback.format_exc()
        outcome.seconds = time.monotonic() - start
        outcome.resident_bytes = _peak_bytes() - before
        outcome.sound_after = expressions.sound()
        answers.write(pickle.dumps(outcome))
