"""A run as a Markdown table, in a sentence, and as pictures."""

from __future__ import annotations

from typing import Any

from .records import OURS, PEER_ERROR, Row, Run, geometric_mean

_SCALE = {"GFLOP/s": 1e9, "GB/s": 1e9, "images/s": 1.0, "calls/s": 1.0}


def _figure(row: Row, contender: str) -> str:
    if contender not in row.seconds:
        return "–"
    mark = "†" if row.errors.get(contender, 0.0) > PEER_ERROR else ""
    if row.unit == "calls/s":
        return f"{row.seconds[contender] * 1e6:.2f} µs{mark}"
    value = row.rate(contender) / _SCALE[row.unit]
    return f"{value:.{0 if value >= 1000 else 1}f}{mark}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def contenders(run: Run) -> list[str]:
    """Everybody timed, ourselves first."""
    return list(dict.fromkeys([OURS, *(name for row in run.rows for name in row.seconds)]))


def markdown(run: Run) -> str:
    """Return the table, with units and the place above it."""
    names = contenders(run)
    units = sorted({row.unit for row in run.rows})
    place = run.place
    peers = ", ".join(f"{name} {version}" for name, version in place["peers"].items()) or "no peers"
    lines = [
        f"Suite `{run.suite}`, batch {place['batch']}, {place['layout']}, {run.threads} "
        f"thread{'s' * (run.threads > 1)}, {' and '.join(units)}. {place['processor']}, {place['isa']}; multiply-add "
        f"peak {place['peak_gflops']:.0f} GFLOP/s, copy {place['copy_gb_per_s']:.0f} GB/s; {peers}; "
        f"fastconv {place['fastconv']} at {place['commit']}, {place['date']}.",
        "",
        "| | " + " | ".join(names) + " | best peer ÷ ours | torch ÷ ours | |",
        "|---|" + "--:|" * (len(names) + 2) + "---|",
    ]
    for row in run.rows:
        figures = " | ".join(_figure(row, name) for name in names)
        lines.append(
            f"| {row.name} | {figures} | {_ratio(row.ratio)} | {_ratio(row.against('torch'))} | {row.algorithm} |"
        )
    return "\n".join([*lines, "", summary(run), ""])


def summary(run: Run) -> str:
    """Return the geometric means, what is below 1, and whose answers were wrong, in sentences."""
    ratios = {row.name: ratio for row in run.rows if (ratio := row.ratio) is not None}
    parts = []
    mean = geometric_mean(ratios.values())
    if mean is not None:
        least = min(ratios, key=ratios.__getitem__)
        below = sum(ratio < 1 for ratio in ratios.values())
        parts.append(
            f"Best peer's time over ours: geometric mean {mean:.2f}; below 1 in {below} of {len(ratios)}, "
            f"least {ratios[least]:.2f} ({least})."
        )
    for name in contenders(run):
        mean = geometric_mean(row.against(name) for row in run.rows)
        if name != OURS and mean is not None:
            parts.append(f"{name}: {mean:.2f}.")
    if "†" in "".join(_figure(row, name) for row in run.rows for name in contenders(run)):
        parts.append(f"† off by more than {PEER_ERROR:g} of the largest value: not counted.")
    for row in run.rows:
        if row.wrong:
            parts.append(f"WRONG: our {row.name} is off by {row.errors[OURS]:.1e} of the largest value.")
    return " ".join(parts)


def plot(run: Run, path: str) -> None:
    """Draw the speed-up over the best peer as bars and, where rows have operations, all contenders under the roofline.

    The roofline is that of S. Williams, A. Waterman, D. Patterson, Roofline, CACM 52(4), 2009: the lesser of the
    multiply-add peak and of the copy's bandwidth times operations per byte, bytes being those of operands and result.
    """
    from matplotlib.figure import Figure

    rows = run.rows[::-1]
    roofline = all(row.traffic for row in rows)
    figure = Figure(figsize=(15 if roofline else 8, max(4.0, 1.5 + 0.27 * len(rows))), layout="constrained")
    axes: Any = figure.subplots(1, 2 if roofline else 1, squeeze=False)[0]
    ratios = [row.ratio or 0.0 for row in rows]
    colours = ["tab:blue" if ratio >= 1 else "tab:red" for ratio in ratios]
    axes[0].barh([row.name for row in rows], ratios, color=colours)
    axes[0].axvline(1, color="black", linewidth=1)
    axes[0].margins(y=0.01)
    axes[0].set_xlabel("time of the best peer ÷ ours")
    axes[0].set_title(f"{run.suite}, {run.threads} thread{'s' * (run.threads > 1)}")
    if roofline:
        _draw_roofline(axes[1], run)
    figure.savefig(path, dpi=120)


def _draw_roofline(axes: Any, run: Run) -> None:
    peak, bandwidth = run.place["peak_gflops"], run.place["copy_gb_per_s"]
    for name, marker in zip(contenders(run), "os^vDP*", strict=False):
        rows = [row for row in run.rows if name in row.seconds]
        intensities = [row.work / row.traffic for row in rows]
        axes.plot(intensities, [row.rate(name) / 1e9 for row in rows], marker, label=name, alpha=0.7)
    reached = [row.work / row.traffic for row in run.rows]
    places = sorted([min(reached) / 1.5, peak / bandwidth, max(reached) * 1.5])
    axes.plot(places, [min(peak, bandwidth * place) for place in places], color="black", linewidth=1)
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s of the direct sum")
    axes.set_xlabel("operations of the direct sum per byte of operands and result")
    axes.set_title(f"roofs: {peak:.0f} GFLOP/s on registers, {bandwidth:.0f} GB/s of a copy in memory")
    axes.legend(fontsize="small")
