"""Fixtures: the engine held to one instruction set or one number of threads, and set back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Read when OpenMP is loaded. Threads that spin while they wait for each other take the cores from whatever else runs
# on this machine, and with more threads than cores from one another: the suite takes four times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from fastconv import _core

from .worker import Worker

ISAS: list[str] = _core.config()["isas_available"]
THREADS = (1, 2, 3)

# The normal run asks the same questions every time; HYPOTHESIS_PROFILE=search looks for more.
settings.register_profile("normal", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


@pytest.fixture(autouse=True)
def _engine_as_found() -> Iterator[None]:
    """No test sees the ISA or the number of threads that another one chose."""
    threads = _core.get_num_threads()
    _core.hold_serial_cycles(0)  # small problems meet several threads too
    yield
    _core.hold_serial_cycles(-1)
    _core.hold_isa("")
    _core.set_num_threads(threads)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set that this build has and this machine can run, one after the other."""
    name: str = request.param
    _core.hold_isa(name)
    return name


@pytest.fixture(params=THREADS, ids=lambda n: f"{n}threads")
def threads(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    _core.set_num_threads(count)
    return count


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """A process of its own with a memory limit, for calls that might take this one down."""
    with Worker() as process:
        yield process
