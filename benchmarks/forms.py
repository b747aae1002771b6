"""Channels last and other types of numbers beside float32 NCHW: ``python benchmarks/forms.py --help``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial

import numpy as np

import fastconv
from fastconv.bench import suites, tasks, timing

# What each is held against: NHWC within 10 % of NCHW, float64 at half the rate or better, both of the same algorithms
# ("exact" for float64: Winograd's computes in float32 only). float16 has no goal of its own.
FORMS = ("NCHW", "NHWC", "float64", "float32 exact", "float16")


def _call(layer: suites.Layer, form: str) -> Callable[[], object]:
    dtype = np.dtype(form if form in ("float64", "float16") else "float32")
    x, w, b = (array.astype(dtype) for array in tasks.operands(layer))
    layout = "NHWC" if form == "NHWC" else "NCHW"
    if layout == "NHWC":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    algorithm = "exact" if form == "float32 exact" else "auto"
    plan = tasks.PLAN[layer.axes - 1](x.shape, w, b, **layer.window, layout=layout, algorithm=algorithm)
    return partial(plan, x, np.empty(plan.output_shape, dtype))


def rates(layer: suites.Layer, threads: int, seconds: float) -> dict[str, float]:
    """Return how fast each form of a layer is: the time of its fellow over its own.

    Parameters
    ----------
    layer : Layer
    threads : int
    seconds : float
        For each form.

    Returns
    -------
    dict of str to float
        "NHWC" against NCHW, "float64" against the exact algorithms of float32, "float16" against float32.
    """
    fastconv.set_num_threads(threads)
    times = timing.interleaved({form: _call(layer, form) for form in FORMS}, seconds)
    return {
        "NHWC": times["NCHW"] / times["NHWC"],
        "float64": times["float32 exact"] / times["float64"],
        "float16": times["NCHW"] / times["float16"],
    }


def main() -> None:
    """Print a Markdown table and the geometric means."""
    parser = argparse.ArgumentParser(description="Times the layers of the suites layers and networks in other forms.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.1, help="per form and layer")
    parser.add_argument("--filter", default="", help="only layers with this in their name")
    args = parser.parse_args()
    found = []
    print("| layer | NHWC: NCHW | float64: float32 exact | float16: float32 |\n|---|--:|--:|--:|")
    for layer in suites.with_batch(suites.LAYERS + suites.NETWORKS, args.batch):
        if args.filter.lower() in layer.name.lower():
            found.append(rates(layer, args.threads, args.seconds))
            print(f"| {layer.name} | " + " | ".join(f"{rate:.2f}" for rate in found[-1].values()) + " |", flush=True)
    if not found:
        return
    means = {name: math.exp(sum(math.log(row[name]) for row in found) / len(found)) for name in found[0]}
    print("| geometric mean | " + " | ".join(f"{mean:.2f}" for mean in means.values()) + " |")
    print(f"\nNHWC at 0.9 or above: {sum(row['NHWC'] >= 0.9 for row in found)} of {len(found)} layers; ", end="")
    print(f"float64 at 0.5 or above: {sum(row['float64'] >= 0.5 for row in found)}")


if __name__ == "__main__":
    main()
