"""What the compiler made of the CUDA kernels, against the budgets of cuda_budgets.json. Needs no GPU.

Read is what a build with ``-DFASTCONV_CUDA_KEEP=FOLDER`` left, where the variable FASTCONV_CUDA_KEPT names that folder;
else the kernels are compiled here, which needs nvcc and takes minutes.
"""

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

from .cuda_emulator.cubin import kernels_of
from .cuda_emulator.tools import find_tool

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = json.loads(Path(__file__).with_name("cuda_budgets.json").read_text())
SOURCES = sorted((ROOT / "cuda").glob("*/*.cu"))
# Each source with the architectures that it is compiled for.
ARCHITECTURES = {s: BUDGETS["only"].get(s.stem, BUDGETS["architectures"]) for s in SOURCES}
PAIRS = [(source, arch) for source, archs in ARCHITECTURES.items() for arch in archs]
IDS = [f"{source.stem}-{arch}" for source, arch in PAIRS]
NVCC, NVDISASM, KEPT = find_tool("nvcc"), find_tool("nvdisasm"), os.environ.get("FASTCONV_CUDA_KEPT")

# They come with the toolkit, or from the packages of the extra, whose folder find_tool knows.
pytestmark = pytest.mark.skipif(NVCC is None, reason="needs nvcc: pip install '.[cuda-budgets]'")


@cache
def plain(symbol: str) -> str:
    """Return depthwise<float, 3, 1> for a mangled name."""
    name = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"fastconv::cuda::|\(anonymous namespace\)::|^void ", "", name)
    return name[: name.rindex(">(") + 1] if ">(" in name else name.split("(")[0]


def compile_one(source: Path, directory: Path) -> None:
    """Leave the machine code of a source in the folder, made as cuda/module.cmake makes it."""
    archs = ARCHITECTURES[source]
    code = f"-gencode=arch={archs[0].replace('sm', 'compute')},code=[{','.join(archs)}]"
    command = [NVCC, "-std=c++20", "-O3", "--expt-relaxed-constexpr", code, "-fatbin", "--keep", "--keep-dir"]
    command += [str(directory), str(source), "-o", str(directory / f"{source.stem}.fatbin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "serialized" not in done.stderr, done.stderr  # wgmma whose registers ptxas could not leave alone


def budget_of(kernel: str) -> dict[str, int]:
    found = [budget for prefix, budget in BUDGETS["kernels"].items() if kernel.startswith(prefix)]
    assert len(found) == 1, f"{kernel}: expected one budget in cuda_budgets.json, found {len(found)}"
    return dict(found[0])


@pytest.fixture(scope="module")
def code_of(tmp_path_factory):
    """Give the cubin of a source and an architecture; what no build has left is compiled, on all processors."""
    here = tmp_path_factory.mktemp("cubin")
    # Of kernels for one architecture the compiler's notes are looked at too.
    missing = [source for source in SOURCES if not KEPT or source.stem in BUDGETS["only"]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda source: compile_one(source, here), missing))

    def find(source: Path, arch: str) -> Path:
        folder = here if source in missing else Path(KEPT)
        # nvcc leaves the architecture out of the name where there is one alone
        names = (f"{source.stem}.*{arch.removeprefix('sm')}.cubin", f"{source.stem}.cubin")
        (path,) = (path for name in names for path in folder.glob(name))
        return path

    return find


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs c++filt")
@pytest.mark.parametrize(("source", "arch"), PAIRS, ids=IDS)
def test_registers_and_spills(source, arch, code_of):
    kernels = {plain(symbol): kernel for symbol, kernel in kernels_of(code_of(source, arch)).items()}
    assert kernels
    wrong = []
    for name, kernel in kernels.items():
        if kernel.stack or not 0 < kernel.registers <= budget_of(name)["registers"]:
            wrong.append(f"{name}: {kernel.registers} registers; {kernel.stack} bytes of stack")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(
    NVDISASM is None or shutil.which("c++filt") is None, reason="needs nvdisasm (cuda-budgets) and c++filt"
)
@pytest.mark.parametrize(("source", "arch"), PAIRS, ids=IDS)
def test_instructions(source, arch, code_of):
    code = code_of(source, arch)
    text = subprocess.run([NVDISASM, "-c", str(code)], capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\.text\.(\w+):$", text, flags=re.MULTILINE)
    assert set(parts[1::2]) == set(kernels_of(code))
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
