"""``python -m fastconv bench``: time fastconv against the other libraries that are installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="time fastconv against the other libraries that are installed",
        description="Checks every answer against float64, then times all contenders in turn and keeps the least time. "
        "Peers, where installed: torch, torch channels_last, onnxruntime (with onnx), openvino, ncnn, MNN.",
    )
    add = parser.add_argument
    add(
        "--suite",
        default="layers",
        help="layers, networks, plain, pooling, gradients, training or call; default layers",
    )
    add("--threads", type=_count, default=1, metavar="N", help="for everyone; default 1")
    add("--batch", type=_count, metavar="N",
        help="images per call in layers, networks, plain; default 1, on a GPU 1 and then 32")  # fmt: skip
    add("--peers", metavar="A,B", help='comma-separated; default all that are installed; "none" for ours alone')
    add("--filter", default="", metavar="TEXT", help="only rows with this in their name")
    add("--seconds", type=_positive, help="for each contender of each row; default 0.3, on a GPU 0.03")
    add("--layout", choices=["NCHW", "NHWC"], default="NCHW", help="of our arrays in layers, networks; default NCHW")
    add("--device", choices=["cpu", "cuda"], default="cpu",
        help="where to compute; default cpu. cuda has one suite, of layers and poolings in both layouts and three "
        "precisions, against torch")  # fmt: skip
    add("--minutes", type=_positive, default=float("inf"), help="on a GPU: begin no row after this time")
    add("--json", metavar="FILE", help="write figures, machine, versions, commit")
    add("--plot", metavar="FILE.png", help="draw speed-ups and shares of the peak; needs matplotlib")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Time, print the table, write the files; status 1 where one of our own answers is wrong."""
    if args.device == "cuda":
        return _run_on_device(args)
    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib: pip install matplotlib")
    from fastconv import bench
    from fastconv.bench import report

    peers = None if args.peers is None else [name.strip() for name in args.peers.split(",") if name.strip() != "none"]
    result = bench.run_suite(
        args.suite, args.threads, args.batch or 1, peers, args.filter, args.seconds or 0.3, args.layout, _progress()
    )
    print(report.markdown(result))
    if args.json:
        Path(args.json).write_text(result.to_json())
    if args.plot:
        report.plot(result, args.plot)
    return int(any(row.wrong for row in result.rows))


def _run_on_device(args: argparse.Namespace) -> int:
    from fastconv.bench import device, device_report

    batches = (1, 32) if args.batch is None else (args.batch,)
    result = device.run_device(batches, args.filter, args.seconds or 0.03, args.minutes, _progress())
    print(device_report.markdown(result))
    if args.json:
        Path(args.json).write_text(result.to_json())
    return int(any(row.wrong for row in result.rows))


def _progress() -> Callable[[list[Any]], Iterable[Any]]:
    """A bar on stderr where tqdm is installed and somebody looks."""
    if importlib.util.find_spec("tqdm") is None or not sys.stderr.isatty():
        return iter
    from tqdm import tqdm

    return lambda jobs: tqdm(jobs, unit="row", leave=False)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: expected at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value}: expected more than 0")
    return value
