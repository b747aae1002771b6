"""The house rules that a machine can check; each has its reason in CONTRIBUTING and the design."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv import _core

from .worker import ROOT

SOURCES = {".cpp", ".h", ".cu", ".cuh", ".py", ".pyi"}
BUILD_FILES = {"CMakeLists.txt", "CMakePresets.json", "pyproject.toml", "setup.py", "setup.cfg"}
CPP = {".cpp", ".h", ".cu", ".cuh"}
TEXT = SOURCES | {".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".cff", ".cfg", ".sh", ".cmake", ""}


def files(*folders: str, suffixes: set[str] = SOURCES) -> list[Path]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT).parts
            if path.is_file() and path.suffix in suffixes and not {"build", "__pycache__"} & set(inside):
                found.append(path)
    return found


def project_files() -> list[Path]:
    """Everything that belongs to the project, as text: what git knows, or in an sdist everything there is."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if path.is_file() and "build" not in path.relative_to(ROOT).parts]
    return [path for path in paths if path.suffix in TEXT and path.is_file()]


def lines_with(pattern: str, paths: list[Path]) -> list[str]:
    """`file:line: text` for every match."""
    compiled = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if compiled.search(line)
    ]


def test_files_are_short() -> None:
    long = {str(p.relative_to(ROOT)): n for p in files("csrc", "cuda", "python", "tests", "benchmarks")
            if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}  # fmt: skip
    assert long == {}, "at most 400 lines a file"


def _function_lengths(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body
            if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                body = body[1:]
            if body and body[-1].end_lineno is not None:
                yield f"{path.relative_to(ROOT)}: {node.name}", body[-1].end_lineno - body[0].lineno + 1


def test_functions_are_short() -> None:
    paths = files("python", "tests", "benchmarks", suffixes={".py"})
    long = {name: n for path in paths for name, n in _function_lengths(path) if n > 60}
    assert long == {}, "at most 60 lines a function, without its docstring"


def test_names_say_something() -> None:
    meaningless = re.compile(r"(^|_)(utils?|helpers?|misc|common|v2|new|old|fast)(_|$)")
    named = [str(p.relative_to(ROOT)) for p in files("csrc", "cuda", "python", "tests") if meaningless.search(p.stem)]
    assert named == []


def test_only_one_file_names_openmp() -> None:
    others = [
        p for p in files("csrc", "cuda", suffixes=CPP) if p.relative_to(ROOT).as_posix() != "csrc/cpu/parallel.cpp"
    ]
    named = lines_with(r"#\s*pragma\s+omp|\bomp_[a-z]|<omp\.h>", others)
    assert named == []
    assert lines_with(r"#\s*pragma omp", [ROOT / "csrc/cpu/parallel.cpp"]), "the rule looks for what is there"


def test_only_the_bindings_know_python() -> None:
    engine = [p for p in files("csrc", "cuda", suffixes=CPP) if "bindings" not in p.parts]
    assert lines_with(r"include\s*[<\"](Python\.h|pybind11)|pybind11::|\bPy(_|Err_|Object)", engine) == []


def test_who_may_include_whom() -> None:
    """core knows neither device; CUDA does not know the CPU, nor the CPU CUDA."""
    core = files("csrc/core", suffixes=CPP)
    assert lines_with(r'#\s*include\s+".*\b(cpu|cuda|bindings)/', core) == []
    assert lines_with(r'#\s*include\s+".*\bcpu/', files("cuda", suffixes=CPP)) == []
    assert lines_with(r'#\s*include\s+".*\b(cuda|bindings)/', files("csrc/cpu", suffixes=CPP)) == []
    assert lines_with(r"immintrin|arm_neon|vector_size", core) == []


def test_flags_that_change_numerics_or_the_target_are_not_used() -> None:
    build_files = [p for p in project_files() if p.name in BUILD_FILES or p.suffix in (".cmake", ".yml", ".yaml")]
    assert any(p.name == "CMakeLists.txt" for p in build_files)
    assert (
        lines_with(r"-march=native|-mcpu=native|-ffast-math|-Ofast|/fp:fast|-funsafe-math|use_fast_math", build_files)
        == []
    )


def test_import_leaves_the_floating_point_environment_alone() -> None:
    """A library linked with crtfastmath would turn subnormal numbers into zero for the whole process."""
    assert np.float32(1e-40) * np.float32(1) != 0


# -- kernels ---------------------------------------------------------------------------------------

KERNELS = ROOT / "csrc/cpu/kernels"


def isa_folder_files() -> list[Path]:
    """What an ISA file is made of: everything in the folder of an operation, and simd.h."""
    return [p for p in files("csrc/cpu/kernels", suffixes=CPP) if p.parent != KERNELS] + [ROOT / "csrc/cpu/simd.h"]


def test_kernel_files_open_with_a_comment() -> None:
    headers = files("csrc", suffixes={".h"})
    rows = [path for name in _core.algorithms() if (path := ROOT / f"csrc/cpu/algorithms/{name}.cpp").exists()]
    assert rows, "algorithms live in csrc/cpu/algorithms/<name>.cpp"
    bare = [str(p.relative_to(ROOT)) for p in [*isa_folder_files(), *headers, *rows]
            if not p.read_text(encoding="utf-8").startswith(("//", "/*"))]  # fmt: skip
    assert bare == []


def test_kernels_state_no_speeds() -> None:
    assert lines_with(r"[GT]FLOP|times faster|\dx faster|GB/s", files("csrc", "cuda", suffixes=CPP)) == []


def test_isa_files_include_nothing_that_could_be_shared() -> None:
    """An inline function compiled for AVX-512 could be the copy that the linker keeps for everyone."""
    assert lines_with(r"#\s*include\s+<(?!stdint\.h>|stddef\.h>|immintrin\.h>|arm_neon\.h>)", isa_folder_files()) == []


def _isa_sources() -> list[Path]:
    isas = r"(baseline|avx2|avx512|neon)\.cpp$"
    built = set(_core.config()["isas_available"])
    return [p for p in isa_folder_files() if (m := re.search(isas, p.name)) and m.group(1) in built]


def _object_of(source: Path, folder: Path) -> Path:
    """The object file of a source: from a build that is newer than all of csrc, else compiled for the same ISA."""
    newest = max(p.stat().st_mtime for p in files("csrc", suffixes=CPP))
    inside = Path("CMakeFiles/fastconv_kernels.dir") / source.relative_to(ROOT).with_suffix(".cpp.o")
    for build in sorted((ROOT / "build").glob("*")):
        built = build / inside
        if not re.search("address|sanitize", build.name) and built.exists() and built.stat().st_mtime > newest:
            return built
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    flags = re.search(rf"set\(FASTCONV_FLAGS_{source.stem}\s+([^)]*)\)", text)
    assert flags, f"CMakeLists.txt has no flags for {source.stem}"
    target = folder / f"{source.parent.name}-{source.stem}.o"
    compiler = os.environ.get("CXX") or shutil.which("c++") or "c++"
    words = [word for word in flags.group(1).split() if word != '""']
    # Without inlining every function that the linker could share is there to be seen; and it takes a tenth of the time.
    flags_of_test = ["-std=c++20", "-O0", "-fno-exceptions"]
    subprocess.run([compiler, *flags_of_test, *words, "-c", str(source), "-o", str(target)], check=True)
    return target


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm of the binutils")
def test_isa_objects_export_one_table(tmp_path: Path) -> None:
    sources = _isa_sources()
    assert len(sources) >= len(_core.config()["isas_available"])
    for source in sources:
        path = _object_of(source, tmp_path)
        listed = subprocess.run(["nm", "--defined-only", "-C", path], capture_output=True, text=True, check=True).stdout
        symbols = [line.split(maxsplit=2)[1:] for line in listed.splitlines()]
        shared = [name for kind, name in symbols if kind in "WVuw"]
        exported = [name for kind, name in symbols if kind.isupper() and kind not in "WV"]
        assert shared == [], f"{path.name}: symbols that the linker may share with the rest of the program"
        assert exported == [f"fastconv::{source.parent.name}_{source.stem}"], path


# -- Python ----------------------------------------------------------------------------------------


def test_nothing_is_executed_that_was_loaded() -> None:
    library = files("python", suffixes={".py"})
    # A method of that name is not the builtin: model.eval(), def eval(self), ``eval()`` in a text.
    forbidden = r"\bpickle\b|(?<![.`])(?<!def )\beval\(|\bexec\(|allow_pickle\s*=\s*True|\bmarshal\b|os\.system"
    assert lines_with(forbidden, library) == []


def test_the_library_does_not_print_or_abort() -> None:
    # What a user calls to be told something, prints: the command line and show_config.
    prints = {"cli", "__main__.py", "introspection.py"}
    quiet = [p for p in files("python", suffixes={".py"}) if not prints & set(p.parts)]
    assert lines_with(r"^\s*print\(", quiet) == []
    assert (
        lines_with(
            r"std::cout|std::cerr|\bprintf\(|\babort\(\)|\bexit\(|\bassert\(", files("csrc", "cuda", suffixes=CPP)
        )
        == []
    )


def test_one_version() -> None:
    assert fastconv.__version__ == _core.__version__ == _core.config()["version"]
    assert lines_with(r"^version\s*=", [ROOT / "pyproject.toml"]) == []


def test_public_names_are_documented() -> None:
    missing = [name for name in fastconv.__all__ if name != "__version__" and not getattr(fastconv, name).__doc__]
    assert missing == []
    gradients = [name for name in dir(fastconv.grad) if re.match(r"(conv|max_pool|avg_pool)\d", name)]
    assert [name for name in gradients if not getattr(fastconv.grad, name).__doc__] == []


def test_no_machine_is_named() -> None:
    """Neither a folder of somebody's machine nor a package registry."""
    folders = r"(?<![\w.~*\])}])/(?:work|root|home)/\w"
    hosts = r"https?://(?:\w+\.)*(?:pypi|pythonhosted|registry|index|mirror)[\w-]*\.(?!test\b)"
    own = [p for p in project_files() if p != Path(__file__)]
    assert lines_with(folders, own) == []
    assert lines_with(hosts, [p for p in own if p.suffix != ".md"]) == []


def test_the_top_level_is_that_of_the_design() -> None:
    design = {"csrc", "cuda", "python", "tests", "benchmarks"}
    made = {"build", "dist", "__pycache__"}
    folders = {
        p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".") and not p.name.endswith(".egg-info")
    }
    assert folders - made <= design


def test_no_test_is_switched_off() -> None:
    """A test is skipped for what a machine lacks, never because it fails."""
    mine = [p for p in files("tests", suffixes={".py"}) if p != Path(__file__)]
    assert lines_with(r"mark\.(xfail|skip)\b(?!if)", mine) == []
