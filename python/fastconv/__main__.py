"""``python -m fastconv``: every module of :mod:`fastconv.cli` is a subcommand."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from . import __version__, cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status.

    A subcommand's ``run(args)`` returns the status. What is wrong with files and arguments ends in one sentence on
    stderr and status 2; a missing package in one that says how to install it, and status 1.
    """
    parser = argparse.ArgumentParser(prog="python -m fastconv", description="Convolutional networks on NumPy arrays.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{module.name}").add_parser(subparsers)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        status: int = args.run(args)
    except (ValueError, OSError) as error:
        print(f"fastconv {args.command}: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"fastconv {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as shells report it
    return status


if __name__ == "__main__":
    sys.exit(main())
