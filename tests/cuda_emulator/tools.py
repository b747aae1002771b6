"""Where the CUDA tools are: on the path, or in the packages that PyPI has them in."""

from __future__ import annotations

import shutil
import site
import sys
from pathlib import Path


def find_tool(name: str) -> str | None:
    """Return the path of nvcc, nvdisasm or cuobjdump, or None."""
    found = shutil.which(name)
    if found:
        return found
    for folder in {*site.getsitepackages(), site.getusersitepackages(), *sys.path}:
        for path in sorted(Path(folder).glob(f"nvidia/*/bin/{name}")):
            return str(path)
    return None
