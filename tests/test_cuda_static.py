"""What the compiler made of the CUDA kernels, against the budgets of cuda_budgets.json. Needs nvcc, no GPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from .cuda_emulator.tools import find_tool

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = json.loads(Path(__file__).with_name("cuda_budgets.json").read_text())
SOURCES = sorted((ROOT / "cuda").glob("*/*.cu"))
# Each source with the architectures that it is compiled for.
PAIRS = [(s, arch) for s in SOURCES for arch in BUDGETS["only"].get(s.stem, BUDGETS["architectures"])]
IDS = [f"{source.stem}-{arch}" for source, arch in PAIRS]
NVCC, NVDISASM = find_tool("nvcc"), find_tool("nvdisasm")

# They come with the toolkit, or from the packages of the extra, whose folder find_tool knows.
pytestmark = pytest.mark.skipif(NVCC is None, reason="needs nvcc: pip install '.[cuda-budgets]'")


@cache
def plain(symbol: str) -> str:
    """Return depthwise<float, 3, 1> for a mangled name."""
    name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"fastconv::cuda::|\(anonymous namespace\)::|^void ", "", name)
    return name[: name.rindex(">(") + 1] if ">(" in name else name.split("(")[0]


@cache
def compiled(source: Path, arch: str, directory: Path) -> tuple[dict[str, str], Path]:
    """Return what ptxas says of each kernel, and the machine code."""
    assert NVCC is not None
    code = directory / f"{source.stem}.{arch}.cubin"
    command = [NVCC, "-std=c++20", "-O3", f"-arch={arch}", "--expt-relaxed-constexpr", "-Xptxas", "-v", "-cubin"]
    done = subprocess.run([*command, str(source), "-o", str(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "serialized" not in done.stderr, done.stderr  # wgmma whose registers ptxas could not leave alone
    parts = re.split(r"Compiling entry function '(\w+)'", done.stderr)
    return {plain(symbol): text for symbol, text in zip(parts[1::2], parts[2::2], strict=False)}, code


def budget_of(kernel: str) -> dict[str, int]:
    found = [budget for prefix, budget in BUDGETS["kernels"].items() if kernel.startswith(prefix)]
    assert len(found) == 1, f"{kernel}: expected one budget in cuda_budgets.json, found {len(found)}"
    return dict(found[0])


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where the machine code is; all of it is compiled here, on all processors."""
    folder = tmp_path_factory.mktemp("cubin")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda pair: compiled(*pair, folder), PAIRS))
    return folder


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs c++filt")
@pytest.mark.parametrize(("source", "arch"), PAIRS, ids=IDS)
def test_registers_and_spills(source, arch, directory):
    kernels, _ = compiled(source, arch, directory)
    assert kernels
    wrong = []
    for kernel, said in kernels.items():
        memory = [int(n) for n in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", said)]
        registers = int(re.search(r"Used (\d+) registers", said)[1])
        if any(memory) or len(memory) != 3 or registers > budget_of(kernel)["registers"]:
            wrong.append(f"{kernel}: {registers} registers; stack, spill stores, spill loads: {memory}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(
    NVDISASM is None or shutil.which("c++filt") is None, reason="needs nvdisasm (cuda-budgets) and c++filt"
)
@pytest.mark.parametrize(("source", "arch"), PAIRS, ids=IDS)
def test_instructions(source, arch, directory):
    kernels, code = compiled(source, arch, directory)
    text = subprocess.run([NVDISASM, "-c", str(code)], capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\.text\.(\w+):$", text, flags=re.MULTILINE)
    assert len(parts[1::2]) == len(kernels)
    wrong = []
    for symbol, body in zip(parts[1::2], parts[2::2], strict=False):
        kernel = plain(symbol)
        names = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Za-z0-9_.]+)", body)
        assert len(names) > 20, kernel
        if any(name.split(".")[0] in ("LDL", "STL") for name in names):
            wrong.append(f"{kernel}: touches local memory")
        for prefix, least in budget_of(kernel).items():
            count = sum(name.startswith(prefix) for name in names)
            if prefix != "registers" and count < least:
                wrong.append(f"{kernel}: {count} x {prefix}, expected at least {least}")
    assert not wrong, "\n".join(wrong)
