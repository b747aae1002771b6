"""What a run leaves behind: rows, where they were measured, and their JSON."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fastconv

from .. import _core

OURS = "fastconv"
# A peer counts where its own answer is this close to float64's, as a share of the largest value; ours must be closer.
PEER_ERROR, OUR_ERROR = 1e-4, 3e-5


@dataclass
class Row:
    """One thing timed: seconds and errors by contender; `work` is operations, bytes or images, as `unit` says.

    `traffic` is the bytes of operands and result, each once, where `work` is operations; else 0.
    """

    name: str
    unit: str
    work: float
    seconds: dict[str, float]
    errors: dict[str, float] = field(default_factory=dict)
    algorithm: str = ""
    traffic: float = 0.0

    @property
    def peers(self) -> dict[str, float]:
        """Seconds of the peers whose answer counts."""
        return {
            name: seconds
            for name, seconds in self.seconds.items()
            if name != OURS and not self.errors.get(name, 0.0) > PEER_ERROR
        }

    @property
    def best_peer(self) -> str | None:
        """Name of the fastest peer that counts, or None."""
        return min(self.peers, key=self.peers.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """Time of the best peer over ours, or None without peers."""
        best = self.best_peer
        return None if best is None else self.seconds[best] / self.seconds[OURS]

    def against(self, peer: str) -> float | None:
        """Time of this peer over ours, counted or not, or None."""
        return self.seconds[peer] / self.seconds[OURS] if peer in self.seconds else None

    def rate(self, contender: str) -> float:
        """Work per second in the unit of the row."""
        return self.work / self.seconds[contender]

    @property
    def wrong(self) -> bool:
        """Whether our own result is further from float64's than we promise."""
        return not self.errors.get(OURS, 0.0) <= OUR_ERROR


@dataclass
class Run:
    """The rows of a suite and where, when and with what they were measured."""

    suite: str
    threads: int
    rows: list[Row]
    place: dict[str, Any]

    def to_json(self) -> str:
        """Return the run as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Run:
        """Read what :meth:`to_json` wrote."""
        data = json.loads(text)
        return Run(data["suite"], data["threads"], [Row(**row) for row in data["rows"]], data["place"])


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Of the values that are there, or None."""
    logs = [math.log(value) for value in values if value is not None]
    return math.exp(sum(logs) / len(logs)) if logs else None


def processor() -> str:
    """Name of the processor as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> str:
    """Of the checkout that this package is run from, or 'unknown'; with '+' where files differ from it."""
    folder = Path(__file__).resolve().parent
    # A wheel may be installed below somebody else's repository: ours holds this very file.
    tracked = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
    if tracked is None:
        return "unknown"
    head, changes = _git(folder, "rev-parse", "--short", "HEAD"), _git(folder, "status", "--porcelain")
    return f"{head}{'+' if changes else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe_place(peer_versions: dict[str, str], peak: float, bandwidth: float) -> dict[str, Any]:
    """Machine, versions and roofs of a run; nothing that names the host or a path of it."""
    config = _core.config()
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "isa": config["isa"],
        "compiler": config["compiler"],
        "caches": [config["l1_bytes"], config["l2_bytes"], config["l3_bytes"]],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "fastconv": fastconv.__version__,
        "commit": commit(),
        "peers": peer_versions,
        "peak_gflops": peak,
        "copy_gb_per_s": bandwidth,
        "date": datetime.date.today().isoformat(),
    }
