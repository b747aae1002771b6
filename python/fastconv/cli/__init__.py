"""Subcommands of ``python -m fastconv``: one module each, with ``add_parser(subparsers)`` and ``run(args)``."""
