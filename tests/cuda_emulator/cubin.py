"""Reads what ptxas wrote about the kernels of a cubin, an ELF file, without a tool of the CUDA toolkit."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

# Entries of .nv.info about a function: its symbol and a number, of bytes of stack or of registers.
_STACK, _REGISTERS = 0x11, 0x2F
_SIZED = 4  # the format of entries that have a length; all others are four bytes


class Kernel(NamedTuple):
    registers: int
    stack: int  # bytes: spilled registers are there too


def kernels_of(path: Path) -> dict[str, Kernel]:
    """Return every kernel by its mangled name."""
    code = path.read_bytes()
    assert code[:4] == b"\x7fELF" and code[4] == 2, path
    (table,), (width, count, names) = struct.unpack_from("<Q", code, 0x28), struct.unpack_from("<3H", code, 0x3A)
    # name, type, flags, address, offset, size, link, info, alignment, size of an entry
    sections = [struct.unpack_from("<2I4Q2I2Q", code, table + i * width) for i in range(count)]

    def text(section: int, at: int) -> str:
        begin = sections[section][4] + at
        return code[begin : code.index(b"\0", begin)].decode()

    by_name = {text(names, section[0]): section for section in sections}
    symbols = by_name[".symtab"]
    said: dict[int, dict[str, int]] = {_STACK: {}, _REGISTERS: {}}
    for kind, value in _entries(code, by_name[".nv.info"]):
        if kind in said:
            symbol, number = struct.unpack("<2I", value)
            (name,) = struct.unpack_from("<I", code, symbols[4] + symbol * symbols[9])
            said[kind][text(symbols[6], name)] = number
    functions = [name.removeprefix(".text.") for name in by_name if name.startswith(".text.")]
    return {name: Kernel(said[_REGISTERS][name], said[_STACK][name]) for name in functions}


def _entries(code: bytes, section: tuple[int, ...]) -> list[tuple[int, bytes]]:
    at, end, found = section[4], section[4] + section[5], []
    while at < end:
        form, kind, size = struct.unpack_from("<2BH", code, at)
        length = size if form == _SIZED else 0
        found.append((kind, code[at + 4 : at + 4 + length]))
        at += 4 + length
    return found
