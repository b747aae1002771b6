"""Builds tests/cpp/guard_pages.cpp with the engine and runs it over the cases.

FASTCONV_SANITIZE=address,undefined builds it with sanitizers; CI does that in a job of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from .cases import CASES, as_text
from .worker import ROOT

SANITIZE = os.environ.get("FASTCONV_SANITIZE", "")


def _cmake() -> str | None:
    """CMake from the path, or from the package of that name."""
    found = shutil.which("cmake")
    return found or shutil.which("cmake", path=os.path.dirname(sys.executable))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the guard pages are made with mmap")
@pytest.mark.skipif(_cmake() is None, reason="CMake is not installed")
def test_guard_pages() -> None:
    folder = ROOT / "build" / ("guard-pages-" + SANITIZE.replace(",", "-") if SANITIZE else "guard-pages")
    configure = [_cmake(), "-S", ROOT, "-B", folder, "-DFASTCONV_TESTS=ON", f"-DFASTCONV_SANITIZE={SANITIZE}"]
    configure.append(f"-DPython3_EXECUTABLE={sys.executable}")
    for command in (configure, [_cmake(), "--build", folder, "--target", "guard_pages", "--parallel", "2"]):
        built = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)  # type: ignore[arg-type]
        assert built.returncode == 0, (built.stdout + built.stderr)[-4000:]
    lines = "\n".join(map(as_text, CASES)) + "\n"
    ran = subprocess.run(
        [folder / "guard_pages"], input=lines, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    print(ran.stdout)
