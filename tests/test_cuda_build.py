"""How fastconv._cuda is built or not built, and what an installed one is. None of it needs a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = importlib.util.find_spec("fastconv._cuda")

# The module's CMake file alone, in a project that says what it would build.
PROJECT = f"""
cmake_minimum_required(VERSION 3.20...3.25)
project(trial CXX)
set(FASTCONV_WARNINGS "")
include({ROOT.as_posix()}/cuda/module.cmake)
"""


def configure(folder: Path, nvcc: str, *definitions: str) -> tuple[int, str]:
    """Run CMake with a script in the place of nvcc; return its status and what it said."""
    (folder / "CMakeLists.txt").write_text(PROJECT)
    script = folder / "nvcc"
    script.write_text(f"#!/bin/sh\n{nvcc}\n")
    script.chmod(0o755)
    command = ["cmake", "-S", folder, "-B", folder / "build", f"-DFASTCONV_NVCC={script}", *definitions]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


needs_cmake = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cmake") is None or shutil.which("c++") is None,
    reason="needs Linux, cmake and a C++ compiler",
)


@needs_cmake
@pytest.mark.parametrize(
    ("nvcc", "reason"),
    [
        ("exit 1", "nvcc does not run"),
        ("echo '#$ TOP=/nowhere/bin/..' >&2; echo 'release 11.8, V11.8.89'", "nvcc is version 11.8, expected 12.0"),
        ("echo '#$ TOP=/nowhere/bin/..' >&2; echo 'release 13.0, V13.0.88'", "neither cuda_runtime.h nor libcudart_st"),
    ],
)
def test_auto_goes_on_without_a_compiler_that_works_and_on_does_not(tmp_path, nvcc, reason):
    status, said = configure(tmp_path, nvcc)
    assert status == 0, said
    assert "fastconv: no CUDA kernels in this build" in said and reason in re.sub(r"\s+", " ", said)
    status, said = configure(tmp_path, nvcc, "-DFASTCONV_CUDA=ON")
    assert status != 0
    assert "FASTCONV_CUDA=ON, but" in said and reason in re.sub(r"\s+", " ", said)


@needs_cmake
def test_nvcc_is_not_asked_where_nobody_wants_it(tmp_path):
    asked = tmp_path / "asked"
    for definitions in (["-DFASTCONV_CUDA=OFF"], ["-DFASTCONV_CUDA=AUTO", "-DSKBUILD_STATE=editable"]):
        status, said = configure(tmp_path, f"touch {asked}", *definitions)
        assert status == 0 and "no CUDA kernels in this build (FASTCONV_CUDA=" in said
        assert not asked.exists()


def run(code: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests",
                          env={**os.environ, **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_neither_the_module_nor_the_package_of_it():
    """Nor does computing with NumPy arrays, whether or not the module is installed."""
    said = run("import sys, numpy as np, fastconv; fastconv.max_pool2d(np.ones((1, 1, 4, 4), np.float32), 2);"
               "print([name for name in sys.modules if 'fastconv' in name and 'cuda' in name])")  # fmt: skip
    assert said.strip() == "[]"


def test_the_place_that_says_why_there_is_no_device():
    cuda = fastconv.show_config("dicts")["cuda"]
    assert cuda["available"] == fastconv.is_cuda_available()
    if cuda["available"]:
        assert cuda["devices"] and cuda["built_for"]
    elif INSTALLED is None:
        assert cuda["reason"].startswith("this build of fastconv has no CUDA kernels")
    else:
        assert re.search(r"driver|device", cuda["reason"])


needs_module = pytest.mark.skipif(INSTALLED is None, reason="needs an installation with fastconv._cuda")


@needs_module
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf of the binutils")
def test_it_links_to_no_library_of_cuda():
    assert INSTALLED is not None and INSTALLED.origin is not None
    listed = subprocess.run(["readelf", "-dW", INSTALLED.origin], capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"NEEDED.*\[([^\]]+)\]", listed))
    system = re.compile(r"lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so|ld-linux")
    assert needed and [name for name in needed if not system.match(name)] == []
    assert "RPATH" not in listed and "RUNPATH" not in listed
    # Another cudart in the process, PyTorch's for one, stays another one.
    symbols = subprocess.run(["readelf", "-sW", "--dyn-syms", INSTALLED.origin], capture_output=True, text=True,
                             check=True).stdout  # fmt: skip
    exported = re.findall(r"(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+\s+(\S+)", symbols)
    assert "PyInit__cuda" in exported and [name for name in exported if name.startswith("cuda")] == []


@needs_module
def test_where_there_is_no_device_a_call_says_so_once():
    code = ("import numpy as np, fastconv\n"
            "try: fastconv.cuda.asarray(np.ones(2, np.float32))\n"
            "except RuntimeError as error: print(error)")  # fmt: skip
    said = run(code, CUDA_VISIBLE_DEVICES="-1").strip()
    assert said.startswith("no CUDA device can be used: ") and "\n" not in said


@needs_module
def test_it_is_of_this_version():
    from fastconv import _cuda  # type: ignore[attr-defined, unused-ignore]

    assert _cuda.__version__ == fastconv.__version__
