"""The README's tables, from the JSON files of `python -m fastconv bench --json`.

    python benchmarks/table.py benchmarks/results/*.json

The first table has a row for each layer of the suite `layers` and a column of ratios for each run of it; the second a
row for each run of whatever suite. A ratio is the time of the best peer that counts ÷ ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastconv.bench import records
from fastconv.bench.records import OURS, Row, Run


def title(run: Run) -> str:
    """What distinguishes a run of a suite."""
    batch = f"batch {run.place['batch']}, " if run.suite in ("layers", "networks", "plain") else ""
    layout = "NHWC, " if run.place["layout"] == "NHWC" else ""
    return f"{batch}{layout}{run.threads} thread{'s' * (run.threads > 1)}"


def best(row: Row) -> str:
    """Name and rate of the best peer that counts."""
    return "–" if row.best_peer is None else f"{row.best_peer} {row.rate(row.best_peer) / 1e9:.0f}"


def ratio(row: Row | None) -> str:
    """Of a row, in bold where it is below 1."""
    if row is None or row.ratio is None:
        return "–"
    return f"**{row.ratio:.2f}**" if row.ratio < 1 else f"{row.ratio:.2f}"


def layers_table(runs: list[Run]) -> list[str]:
    """A row for each layer: rates of the first run, ratios of all."""
    first = runs[0]
    by_name = [{row.name: row for row in run.rows} for run in runs]
    lines = [
        f"| GFLOP/s, {title(first)} | fastconv | by | best peer | "
        + " | ".join(f"ratio, {title(run)}" for run in runs)
        + " |",
        "|---|--:|---|---|" + "--:|" * len(runs),
    ]
    for row in first.rows:
        ratios = " | ".join(ratio(rows.get(row.name)) for rows in by_name)
        lines.append(f"| {row.name} | {row.rate(OURS) / 1e9:.0f} | {row.algorithm or '–'} | {best(row)} | {ratios} |")
    return lines


def suites_table(runs: list[Run]) -> list[str]:
    """A row for each run: means, and what is below 1."""
    lines = [
        "| suite | rows | geometric mean | torch NCHW ÷ ours | below 1 | least |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for run in runs:
        ratios = {row.name: row.ratio for row in run.rows if row.ratio is not None}
        torch = records.geometric_mean(row.against("torch") for row in run.rows)
        least = min(ratios, key=ratios.__getitem__)
        lines.append(
            f"| {run.suite}, {title(run)} | {len(ratios)} | {records.geometric_mean(ratios.values()):.2f} | "
            f"{'–' if torch is None else f'{torch:.2f}'} | {sum(r < 1 for r in ratios.values())} | "
            f"{ratios[least]:.2f} {least} |"
        )
    return lines


def main(paths: list[str]) -> int:
    """Print both tables and where the runs were made."""
    runs = [Run.from_json(Path(path).read_text(encoding="utf-8")) for path in paths]
    if not runs:
        print(__doc__)
        return 2
    order = ("layers", "networks", "plain", "pooling", "gradients", "training", "call")
    runs.sort(key=lambda run: (order.index(run.suite), run.place["layout"], run.place["batch"], run.threads))
    layers = [run for run in runs if run.suite == "layers"]
    place = runs[0].place
    peers = ", ".join(f"{name} {version}" for name, version in place["peers"].items())
    peaks = ", ".join(f"{run.place['peak_gflops']:.0f}" for run in layers)
    print(
        f"{place['processor']}, {place['isa']}, {place['compiler']}; multiply-add peak in the runs of `layers` {peaks} "
        f"GFLOP/s; {peers}; fastconv at {place['commit']}, {place['date']}.\n"
    )
    for lines in ([layers_table(layers)] if layers else []) + [suites_table(runs)]:
        print("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
