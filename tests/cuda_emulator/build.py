"""Compiles the CUDA kernels as plain C++ with the emulator into one Python module, ``emulated_cuda``.

Objects are kept under build/cuda_emulator and compiled again when a source, or a header that it includes, is newer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "cuda_emulator"
FLAGS = ["-std=c++20", "-g1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]


# What a source is compiled for decides how: kernels run for minutes, what calls them for moments, and most of what is
# compiled there are pybind11's headers, which come precompiled.
KERNELS, CALLERS = "-O2", "-O0"
HEADERS = "#include <pybind11/numpy.h>\n#include <pybind11/pybind11.h>\n#include <pybind11/stl.h>\n"


def sources(sanitize: bool = False) -> dict[Path, str]:
    """Everything that belongs to the module, with its optimization.

    All of fastconv._cuda but its name, the emulator, and what tests ask.
    """
    engine = [ROOT / "csrc/core/problem.cpp", ROOT / "csrc/core/gather.cpp", ROOT / "csrc/core/pool_problem.cpp"]
    cuda = [ROOT / "cuda/plan.cpp", ROOT / "cuda/algorithms.cpp", ROOT / "cuda/algorithms/pointwise.cpp"]
    cuda += sorted((ROOT / "cuda").glob("*/*.cu"))
    here = [*sorted(HERE.glob("*.cpp")), *sorted(HERE.glob("*.cu"))]
    callers = [path for path in here if path.stem.startswith("module") or path.stem == "trials"]
    callers += [path for path in sorted((ROOT / "cuda/bindings").glob("*.cpp")) if path.stem != "module"]
    kernels = [*engine, *cuda, *(path for path in here if path not in callers)]
    return dict.fromkeys(kernels, "-O1" if sanitize else KERNELS) | dict.fromkeys(callers, CALLERS)


def build(sanitize: bool = False) -> Path:
    """Return the path of the module, compiled where it was not up to date."""
    import pybind11

    compiler = os.environ.get("CXX", "c++")
    directory = ROOT / "build" / ("cuda_emulator_sanitized" if sanitize else "cuda_emulator")
    directory.mkdir(parents=True, exist_ok=True)
    flags = [*FLAGS, *(SANITIZE if sanitize else []), "-DFASTCONV_EMULATED", f"-I{HERE}"]
    flags += [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_path('include')}"]
    headers = directory / "headers.h"
    first, objects, commands = [], [], []
    if not _up_to_date(headers.with_suffix(".h.gch")):
        headers.write_text(HEADERS)
        first = [compiler, *flags, CALLERS, "-MMD", "-x", "c++-header", str(headers), "-o", f"{headers}.gch"]
    for source, level in sources(sanitize).items():
        target = directory / f"{source.parent.name}_{source.name}.o"
        objects.append(target)
        if _up_to_date(target):
            continue
        common = ["-include", str(headers)] if level == CALLERS else []
        commands.append([compiler, *flags, level, *common, "-MMD", "-x", "c++", "-c", str(source), "-o", str(target)])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ready = pool.submit(_run, first)
        list(pool.map(_run, [command for command in commands if CALLERS not in command]))
        ready.result()
        list(pool.map(_run, [command for command in commands if CALLERS in command]))
    module = directory / f"emulated_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    if commands or not module.exists():
        _run([compiler, "-shared", *(SANITIZE if sanitize else []), *map(str, objects), "-o", str(module)])
    return module


def _up_to_date(target: Path) -> bool:
    """Whether an object is newer than all that the compiler read for it, and than this file with its flags."""
    listed = target.with_suffix(".d")
    if not target.exists() or not listed.exists():
        return False
    read = [Path(name) for name in listed.read_text().replace("\\\n", " ").split()[1:]]
    built = target.stat().st_mtime
    return all(path.exists() and path.stat().st_mtime < built for path in [*read, Path(__file__)])


def _run(command: list[str]) -> None:
    if not command:
        return
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    if done.stderr:
        sys.stderr.write(done.stderr)


if __name__ == "__main__":
    print(build(sanitize="--sanitize" in sys.argv[1:]))
