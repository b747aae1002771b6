"""The README's Python runs as it is pasted, prints what its comments say, and names only what exists."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import fastconv

README = Path(__file__).parent.parent / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def expected_output(block: str) -> list[str]:
    return re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)


def test_examples_run_and_print_what_their_comments_say():
    pytest.importorskip("scipy")
    blocks = python_blocks()
    assert len(blocks) >= 5
    namespace: dict[str, object] = {}
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(README), "exec"), namespace)
        assert printed.getvalue().splitlines() == expected_output(block)


def test_every_print_has_its_output_beside_it():
    for block in python_blocks():
        assert len(expected_output(block)) == len(re.findall(r"^print\(", block, flags=re.MULTILINE)), block


def named_in_table() -> list[str]:
    text = README.read_text(encoding="utf-8").split("## What there is")[1]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row.split("|")[1])]


@pytest.mark.parametrize("name", named_in_table())
def test_the_table_names_what_exists(name):
    found: object = fastconv
    for part in name.split("."):
        assert hasattr(found, part), f"the README names fastconv.{name}"
        found = getattr(found, part)


def test_the_table_leaves_out_no_function():
    hidden = {"__version__", "ConvPlan", "Explanation", "grad", "nn", "optim"}
    listed = {name.split(".")[0] for name in named_in_table()}
    listed |= {f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 3)}
    assert set(fastconv.__all__) - hidden <= listed


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target


def test_commands_are_those_that_continuous_integration_runs():
    text = README.read_text(encoding="utf-8")
    assert 'pip install ".[demo]" && python -m fastconv demo' in text
    assert 'pip install ".[test]" && pytest' in text


def test_the_map_names_files_that_exist():
    text = (README.parent / "csrc" / "README.md").read_text(encoding="utf-8").split("## The life of a call")[0]
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = [name for cell in first_cells for name in re.findall(r"`([^`<]+)`", cell)]
    assert len(named) >= 15
    for name in named:
        assert list((README.parent / "csrc").glob(f"**/{name}".rstrip("/"))), f"csrc/README.md names {name}"
