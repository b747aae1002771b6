"""How much slower the planner's choice is than the best algorithm: ``python benchmarks/regret.py --help``."""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

import fastconv
from fastconv.bench import suites, tasks, timing

# The goal: within 5 % of the best on 95 % of the layers.
ALLOWED = 0.05


def regrets(layers: tuple[suites.Layer, ...], threads: int, seconds: float) -> list[tuple[str, str, str, float]]:
    """Return name, choice, best algorithm and chosen time / best time - 1 of each layer."""
    found = []
    for layer in layers:
        x, w, b = tasks.operands(layer)
        plans = {}
        for name in ("auto", *fastconv.algorithms()):
            if name == "reference":
                continue  # a hundred times slower, by design
            try:
                plans[name] = tasks.PLAN[layer.axes - 1](layer.x_shape, w, b, **layer.window, algorithm=name)
            except NotImplementedError:
                continue
        chosen = plans.pop("auto").algorithm
        out = np.empty(plans[chosen].output_shape, np.float32)
        calls = {name: partial(plan, x, out) for name, plan in plans.items()}
        times = timing.interleaved(calls, seconds)
        best = min(times, key=times.__getitem__)
        if times[chosen] > (1 + ALLOWED) * times[best]:  # for longer, and without the others in the caches
            again = timing.interleaved({name: calls[name] for name in (best, chosen)}, 5 * seconds)
            times |= {name: min(times[name], again[name]) for name in again}
            best = min((best, chosen), key=times.__getitem__)
        found.append((layer.name, chosen, best, times[chosen] / times[best] - 1))
    return found


def main() -> None:
    """Print a Markdown table and the share of layers within the goal."""
    parser = argparse.ArgumentParser(
        description="Times every algorithm on every layer of the suites layers and networks."
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.1, help="per algorithm and layer")
    parser.add_argument("--filter", default="", help="only layers with this in their name")
    args = parser.parse_args()
    fastconv.set_num_threads(args.threads)
    layers = tuple(
        layer
        for layer in suites.with_batch(suites.LAYERS + suites.NETWORKS, args.batch)
        if args.filter.lower() in layer.name.lower()
    )
    found = regrets(layers, args.threads, args.seconds)
    print("| layer | chosen | best | regret |\n|---|---|---|--:|")
    for name, chosen, best, regret in sorted(found, key=lambda row: -row[3]):
        print(f"| {name} | {chosen} | {best} | {regret:.1%} |")
    within = sum(regret <= ALLOWED for *_, regret in found)
    print(f"\nwithin {ALLOWED:.0%} of the best: {within} of {len(found)} layers")


if __name__ == "__main__":
    main()
