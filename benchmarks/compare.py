"""Two commits against each other on a suite: ``python benchmarks/compare.py main HEAD --filter 3x3``.

Each commit is built into a temporary folder of its own. Processes of the two take turns, so that a slow minute of the
machine meets both; the least time of each row counts. Where valgrind is installed the instructions of one call are
counted as well (callgrind), which no neighbour disturbs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Runs in either build, which may be older than the suites: it is given them as plain numbers.
WORKER = """
import importlib.machinery, json, os, sys, time
# An editable install puts a finder of its own before the search path: without this both sides would be the checkout.
sys.meta_path.insert(0, importlib.machinery.PathFinder)
import numpy as np
import fastconv
site = os.path.realpath(os.environ["PYTHONPATH"])
if os.path.commonpath([site, os.path.realpath(fastconv.__file__)]) != site:
    sys.exit(f"fastconv was imported from {fastconv.__file__}, not from the build in {site}")
rows, threads, seconds, only = json.loads(sys.stdin.read())
fastconv.set_num_threads(threads)
rng = np.random.default_rng(0)
result = {}
for name, axes, x_shape, w_shape, window in rows:
    x = rng.standard_normal(x_shape, dtype=np.float32)
    w = rng.standard_normal(w_shape, dtype=np.float32)
    b = rng.standard_normal(w_shape[0], dtype=np.float32)
    plan = (fastconv.plan_conv1d, fastconv.plan_conv2d, fastconv.plan_conv3d)[axes - 1](tuple(x_shape), w, b, **window)
    best, end, calls = float("inf"), time.perf_counter() + seconds, 0
    while calls < only or (not only and (calls < 3 or time.perf_counter() < end)):
        start = time.perf_counter()
        plan(x)
        best = min(best, time.perf_counter() - start)
        calls += 1
    result[name] = best
print(json.dumps(result))
"""


def build(ref: str, folder: Path) -> Path:
    """Install a commit into a folder and return it."""
    source, target = folder / "source", folder / "site"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", ref], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)],
        check=True,
    )
    return target


def run(site: Path, request: str, prefix: tuple[str, ...] = ()) -> dict[str, float]:
    """Run the worker with a build and return the least seconds by row."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [*prefix, sys.executable, "-c", WORKER],
        input=request,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    times: dict[str, float] = json.loads(done.stdout)
    return times


def instructions(site: Path, row: list[object], folder: Path) -> int:
    """Instructions of one call: those of a process that makes three, less those of one that makes one, halved."""
    counts = []
    for calls in (3, 1):
        out = folder / "callgrind.out"
        run(site, json.dumps([[row], 1, 0, calls]), ("valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"))
        total = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
        assert total is not None, "callgrind wrote no total"
        counts.append(int(total[1]))
    return (counts[0] - counts[1]) // 2


def main() -> None:
    """Print a Markdown table: milliseconds of both, their ratio, and instructions where they were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--suite", choices=["layers", "networks"], default="layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.1, help="per row and turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--filter", default="")
    parser.add_argument("--instructions", action="store_true", help="count with callgrind; slow")
    args = parser.parse_args()
    if args.instructions and shutil.which("valgrind") is None:
        parser.error("--instructions needs valgrind")
    from fastconv.bench import suites

    layers = [layer for layer in suites.CONVOLUTIONS[args.suite] if args.filter.lower() in layer.name.lower()]
    rows = [[layer.name, layer.axes, layer.x_shape, layer.w_shape, layer.window] for layer in layers]
    if not rows:
        parser.error(f"--filter: nothing of the suite {args.suite!r} has {args.filter!r} in its name")
    request = json.dumps([rows, args.threads, args.seconds, 0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = [build(ref, folder / side) for side, ref in (("old", args.old), ("new", args.new))]
        best: list[dict[str, float]] = [{}, {}]
        for _ in range(args.turns):
            for times, site in zip(best, sites, strict=True):
                for row, seconds in run(site, request).items():
                    times[row] = min(times.get(row, seconds), seconds)
        print(
            f"| | {args.old} ms | {args.new} ms | old ÷ new |"
            + (" instructions old ÷ new |" if args.instructions else "")
        )
        print("|---|--:|--:|--:|" + ("--:|" if args.instructions else ""))
        for row in rows:
            old, new = (times[str(row[0])] for times in best)
            line = f"| {row[0]} | {old * 1e3:.3f} | {new * 1e3:.3f} | {old / new:.3f} |"
            if args.instructions:
                counted = [instructions(site, row, folder) for site in sites]
                line += f" {counted[0] / counted[1]:.3f} |"
            print(line)


if __name__ == "__main__":
    main()
