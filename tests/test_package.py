"""The package as a thing to install: what importing it costs and pulls in, its version, its files."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastconv
from fastconv import _core

ROOT = Path(__file__).parent.parent


def run(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT / "tests"
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_import_costs_little_more_than_numpy():
    # The processor's time, the least of several runs: what else the machine does is not the package's.
    code = "import numpy, time; begin = time.process_time(); import fastconv; print(time.process_time() - begin)"
    seconds = min(float(run(code)) for _ in range(10))
    assert seconds <= 0.015, f"importing fastconv takes {1000 * seconds:.1f} ms after NumPy: expected at most 15"


def test_import_pulls_in_nothing_but_numpy():
    code = "import sys, numpy; before = set(sys.modules); import fastconv; print(*sorted(set(sys.modules) - before))"
    packages = {name.split(".")[0] for name in run(code).split()}
    foreign = packages - {"fastconv", "numpy"} - set(sys.stdlib_module_names)
    # how an editable installation finds its files; an installed wheel has none of these
    foreign = {name for name in foreign if "editable" not in name}
    assert not foreign


def test_import_prints_nothing():
    assert run("import fastconv") == ""


def test_one_version_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", fastconv.__version__)
    assert _core.__version__ == fastconv.__version__
    assert importlib.metadata.version("fastconv") == fastconv.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {fastconv.__version__}\n" in citation
    assert f"\n## {fastconv.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_numpy_is_the_only_requirement():
    required = [r for r in importlib.metadata.requires("fastconv") or [] if "extra ==" not in r]
    assert [re.split(r"[<>=!~ ]", r)[0] for r in required] == ["numpy"]


def test_the_package_says_that_it_is_typed():
    assert (Path(fastconv.__file__).parent / "py.typed").exists()


def test_all_names_what_exists():
    assert len(set(fastconv.__all__)) == len(fastconv.__all__)
    for name in fastconv.__all__:
        assert hasattr(fastconv, name), name


def test_pre_commit_runs_the_linters_of_the_lint_extra():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for tool in ("ruff", "mypy", "clang-format"):
        version = re.search(rf'"{tool}==([\d.]+)"', project)
        assert version, f"{tool} has no exact version in the lint extra"
        assert re.search(rf"{tool}(-pre-commit)?\n    rev: v{re.escape(version[1])}\n", hooks), tool


def test_wheels_at_hand_are_small():
    wheels = list((ROOT / "dist").glob("fastconv-*.whl"))
    if not wheels:
        pytest.skip("no wheel in dist/")
    for wheel in wheels:
        assert wheel.stat().st_size <= 2_000_000, wheel
