"""Timing against other libraries, each result checked before it is timed; ``python -m fastconv bench`` runs it.

The protocol, and how to read a result, is in ``benchmarks/README.md``.
"""

from .records import Row, Run, geometric_mean
from .run import run_suite
from .suites import SUITES

__all__ = ["SUITES", "Row", "Run", "geometric_mean", "run_suite"]
