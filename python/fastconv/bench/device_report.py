"""A run on a GPU as a Markdown table with its means."""

from __future__ import annotations

from itertools import groupby

from .device import TORCH, DeviceRow, DeviceRun
from .records import OURS, geometric_mean


def _group(row: DeviceRow) -> tuple[str, int, str, str]:
    return row.epilogue, row.batch, row.precision, row.layout


def _title(row: DeviceRow) -> str:
    what = {"": "pooling", "bare": "bare convolution"}.get(row.epilogue, f"convolution, {row.epilogue}")
    return f"{what}, N = {row.batch}, {row.precision}, {row.layout}"


def markdown(run: DeviceRun) -> str:
    """Return the tables, one for each precision, layout and batch, with place and ceilings above them."""
    place, ceilings = run.place, run.place["ceilings"]
    lines = [
        f"{place['device']} (sm_{place['architecture']}, {place['multiprocessors']} multiprocessors, driver for CUDA "
        f"{place['driver']}); torch {place['torch']}, cuDNN {place['cudnn']}; fastconv {place['fastconv']} at "
        f"{place['commit']}, {place['compiler']} for {place['built_for']}, {place['date']}. Ceilings measured in the "
        f"same run: fp32 {ceilings['fp32'] / 1e12:.1f}, tf32 {ceilings['tf32'] / 1e12:.1f}, "
        f"fp16 {ceilings['fp16'] / 1e12:.1f} TFLOP/s, copy {ceilings['copy'] / 1e9:.0f} GB/s.",
    ]
    for _, group in groupby(sorted(run.rows, key=_group), _group):
        rows = list(group)
        lines += ["", f"**{_title(rows[0])}**", ""]
        lines += ["| | fastconv µs | torch µs | torch ÷ ours | of the ceiling | |", "|---|--:|--:|--:|--:|---|"]
        for row in rows:
            mark = " WRONG" if row.wrong else ""
            lines.append(
                f"| {row.name}{mark} | {row.seconds[OURS] * 1e6:.1f} | {row.seconds[TORCH] * 1e6:.1f} | "
                f"{row.ratio:.2f} | {row.bound / row.seconds[OURS]:.0%} | {row.algorithm} |"
            )
        mean = geometric_mean(row.ratio for row in rows)
        assert mean is not None
        below = sum(row.ratio < 1 for row in rows)
        lines += ["", f"Geometric mean of torch ÷ ours: {mean:.2f}; below 1 in {below} of {len(rows)}."]
    if run.left_out:
        lines += ["", f"Not timed, for want of time: {run.left_out} rows."]
    for row in run.rows:
        if row.wrong:
            lines += ["", f"WRONG: {_title(row)}, {row.name}: off by {row.errors[OURS]:.1e} of the largest value."]
    return "\n".join([*lines, ""])
