"""``python -m fastconv info``: version, compiler, instruction sets, threads; what a bug report should carry."""

from __future__ import annotations

import argparse
from typing import Any

import fastconv


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("info", help="show version, compiler, instruction sets and threads")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    fastconv.show_config()
    return 0
