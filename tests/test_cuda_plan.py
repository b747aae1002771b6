"""How the CUDA half chooses: by the rates of the architecture (cuda/rates.h), without a GPU and without running."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .cuda_emulator.load import emulated

H100 = {"arch": 90, "multiprocessors": 132}
RTX_4090 = {"arch": 89, "multiprocessors": 128}
SAME = [(1, 1), (1, 1)]


def layer(
    batch: int, in_c: int, out_c: int, size: int, kernel: int, layout: str = "NHWC", **more: Any
) -> dict[str, Any]:
    groups = more.get("groups", 1)
    x = (batch, size, size, in_c) if layout == "NHWC" else (batch, in_c, size, size)
    return {"x": x, "w": (out_c, in_c // groups, kernel, kernel), "padding": [(kernel // 2,) * 2] * 2, "layout": layout,
            **more}  # fmt: skip


def plan(asked: dict[str, Any], **device: Any) -> dict[str, Any]:
    found: dict[str, Any] = emulated().plan(**asked, **device)
    return found


def explained(asked: dict[str, Any], **more: Any) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in emulated().explain(**asked, **more)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("direction", ["forward", "weight_gradient"])
def test_the_least_estimate_is_chosen(dtype: str, direction: str) -> None:
    asked = layer(2, 16, 16, 20, 3, dtype=dtype, direction=direction)
    if direction == "weight_gradient":
        asked["y"] = (2, 20, 20, 16)
    rows = explained(asked, **H100)
    possible = {name: row["cycles"] for name, row in rows.items() if not row["reason"]}
    assert set(rows) == set(emulated().algorithms()) and "reference" in possible
    assert [name for name, row in rows.items() if row["chosen"]] == [min(possible, key=possible.__getitem__)]
    assert all(cycles > 0 for cycles in possible.values())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [1, 32])
def test_layers_go_where_they_belong(dtype: str, layout: str, batch: int) -> None:
    more = {"dtype": dtype, **H100}
    assert plan(layer(batch, 256, 256, 14, 3, layout), **more)["algorithm"] == "im2col"
    assert plan(layer(batch, 96, 96, 56, 3, layout, groups=96), **more)["algorithm"] == "depthwise"
    assert plan(layer(batch, 3, 16, 28, 5, layout), **more)["algorithm"] == "direct"


def test_small_layers_are_split_and_large_ones_take_large_tiles() -> None:
    asked = layer(1, 512, 512, 7, 3, dtype="float16")
    assert plan(asked, **H100)["splits"] > 1 and plan(asked, arch=90, multiprocessors=2)["splits"] == 1
    assert plan(layer(32, 256, 256, 56, 3, dtype="float16"), **H100) == {
        "algorithm": "im2col", "simt": False, "splits": 1, "tile": "large", "fused": False,
    }  # fmt: skip


def test_three_products_are_worth_it_where_tensor_cores_are_quick() -> None:
    asked = layer(32, 128, 128, 28, 3)
    assert not plan(asked, **H100)["simt"] and plan(asked, **RTX_4090)["simt"]
    assert not plan(asked, precision="tf32", **RTX_4090)["simt"] and plan(asked, precision="fp32-simt", **H100)["simt"]


def test_a_pool_is_in_the_kernel_unless_the_sum_has_to_be_split() -> None:
    vgg = layer(8, 64, 64, 112, 3, "NCHW", pooled=True)
    assert plan(vgg, **H100)["fused"]
    rows, alone = explained(vgg, **H100), explained(vgg | {"pooled": False}, **H100)
    assert rows["im2col"]["workspace_bytes"] == 0 < rows["reference"]["workspace_bytes"]
    assert rows["im2col"]["cycles"] <= alone["im2col"]["cycles"]
    assert not plan(layer(1, 512, 512, 14, 3, "NCHW", pooled=True, groups=1), arch=90, multiprocessors=100000)["fused"]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp32-simt"])
def test_exact_sums_do_not_depend_on_the_batch(precision: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((9, 40, 5, 5)).astype(np.float32)
    w = rng.standard_normal((70, 40, 3, 3)).astype(np.float32)
    more = {"w": w, "padding": SAME, "algorithm": "exact", "precision": precision, "multiprocessors": 8}
    whole = emulated().convolve(x=x, **more)
    assert np.array_equal(whole[:1], emulated().convolve(x=x[:1], **more))
    assert np.array_equal(whole[3:5], emulated().convolve(x=x[3:5], **more))
