"""Gives tests the compiled emulator: as a module here, or in a child process under the sanitizers."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .build import build


def _needs_compiler() -> str:
    compiler = os.environ.get("CXX", "c++")
    if sys.platform != "linux" or shutil.which(compiler) is None:
        pytest.skip("the emulator of the CUDA kernels needs Linux and a C++ compiler")
    return compiler


@functools.cache
def emulated() -> Any:
    """Return the module, compiled where it was not up to date."""
    _needs_compiler()
    path = build()
    spec = importlib.util.spec_from_file_location("emulated_cuda", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _sanitized() -> tuple[Path, dict[str, str]]:
    compiler = _needs_compiler()
    # The C++ library is loaded first too: AddressSanitizer must find __cxa_throw when it starts.
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    return build(sanitize=True), {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def run_sanitized(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with the module as ``m`` in a child under AddressSanitizer and UndefinedBehaviorSanitizer."""
    path, environment = _sanitized()
    tests = Path(__file__).resolve().parents[1]
    start = f"import sys; sys.path[:0] = [{str(path.parent)!r}, {str(tests)!r}]; import emulated_cuda as m\n"
    return subprocess.run(
        [sys.executable, "-c", start + code], env=environment, capture_output=True, text=True, timeout=600
    )
