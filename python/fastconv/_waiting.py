"""Loads the engine so that threads that wait for its next call soon sleep.

libgomp's threads spin between two parallel regions, by default for some 5 ms, in which another pool or another process
does without their cores. A tenth of that still bridges the time between two layers of a network, so that nothing is
lost in calls one after another. libgomp reads the count when it is loaded, once: where another package has
loaded the same libgomp before, or whoever starts the process has chosen, theirs holds.
"""

import os

_CHOSEN_BY = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_TURNS = "30000"  # of a pause of some 15 ns: about half a millisecond

if not any(name in os.environ for name in _CHOSEN_BY):
    os.environ["GOMP_SPINCOUNT"] = _TURNS
    try:
        from . import _core as _core
    finally:
        del os.environ["GOMP_SPINCOUNT"]
