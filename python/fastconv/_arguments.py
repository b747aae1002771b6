"""Spelling to numbers: what the user wrote becomes tuples of int, and nothing is computed from them here.

Arrays come out as NumPy's or as they are on a GPU, and with them the module that computes there.

Whether a number makes sense is decided in one place, ``ConvProblem::make`` and ``PoolProblem::make``.
"""

from __future__ import annotations

import operator
import reprlib
from typing import Any

import numpy as np

from . import _core

Pairs = tuple[tuple[int, int], ...]

#: The module that computes on a GPU, once :mod:`fastconv.cuda` has loaded it.
device_engine: Any = None

_RANGE = range(-(2**63), 2**63)


def quoted(value: Any) -> str:
    """Return ``repr(value)`` cut short: a message does not grow with what it complains of."""
    try:
        return reprlib.repr(value)
    except Exception:  # the repr of somebody's object, or of an integer beyond sys.get_int_max_str_digits()
        return f"<{type(value).__name__}>"


def integer(name: str, value: Any) -> int:
    """Return ``value`` as an int; a float, a bool, a string or None is a TypeError that names the argument."""
    if type(value) is int:
        number = value
    else:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}={quoted(value)}: expected an integer, got a bool")
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"{name}={quoted(value)}: expected an integer, got {type(value).__name__}") from None
    if number not in _RANGE:
        raise ValueError(f"size overflow: {name}={quoted(number)} does not fit in 64 bits")
    return number


def integers(name: str, value: Any) -> tuple[int, ...]:
    """Return a tuple of int from one integer or a sequence of them; how many is checked where the axes are known."""
    if type(value) is int:
        return (integer(name, value),)
    if isinstance(value, (str, bytes, dict, set)):
        raise TypeError(
            f"{name}={quoted(value)}: expected an integer or a sequence of integers, got {type(value).__name__}"
        )
    if isinstance(value, np.ndarray) and value.ndim > 1:
        raise TypeError(f"{name} is an array of {value.ndim} axes: expected an integer or a sequence of integers")
    try:
        items = tuple(value)
    except TypeError:
        return (integer(name, value),)
    if not items:
        raise ValueError(f"{name}=(): expected at least one integer")
    if len(items) > 64:
        raise ValueError(f"{name} has {len(items)} entries: expected at most 64")
    return tuple(integer(name, item) for item in items)


def shape(name: str, value: Any) -> tuple[int, ...]:
    """Return a shape given as a sequence of integers; a lone integer is refused."""
    if isinstance(value, (str, bytes, dict, set)) or not hasattr(value, "__len__"):
        raise TypeError(f"{name}={quoted(value)}: expected a sequence of integers, got {type(value).__name__}")
    return integers(name, value)


def padding(value: Any) -> str | Pairs:
    """Return 'same', 'valid' or one (low, high) pair for all axes or one per axis."""
    if type(value) is int:
        integer("padding", value)
        return ((value, value),)
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(f"padding={quoted(value)}: expected numbers, 'same' or 'valid'")
        return value
    if isinstance(value, (bytes, dict, set)):
        raise TypeError(f"padding={quoted(value)}: expected integers, pairs, 'same' or 'valid'")
    try:
        items = tuple(value)
    except TypeError:
        number = integer("padding", value)
        return ((number, number),)
    if not items:
        raise ValueError("padding=(): expected at least one integer")
    if len(items) > 64:
        raise ValueError(f"padding has {len(items)} entries: expected at most 64")
    pairs = []
    for item in items:
        numbers = integers("padding", item)
        if isinstance(item, (tuple, list, np.ndarray)) and len(numbers) != 2:
            raise ValueError(f"padding={quoted(value)}: expected (low, high) pairs, got {quoted(item)}")
        pairs.append((numbers[0], numbers[-1]))
    return tuple(pairs)


def text(name: str, value: Any) -> str:
    """Return ``value`` if it is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={quoted(value)}: expected a string, got {type(value).__name__}")
    return value


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if text(name, value) not in choices:
        *front, back = (f"'{choice}'" for choice in choices)
        raise ValueError(f"{name}={quoted(value)}: expected {', '.join(front)} or {back}")
    return str(value)


def array(name: str, value: Any) -> np.ndarray:
    """Return ``value`` if it is a NumPy array; a list or a number is converted as NumPy would."""
    if isinstance(value, np.ndarray):
        return value
    if value is None or isinstance(value, (str, bytes, dict, set)):
        raise TypeError(f"{name} is {type(value).__name__}: expected a NumPy array")
    try:
        converted = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name}: expected a NumPy array, got {type(value).__name__} ({error})") from None
    # Python's own integers have no dtype to respect: [[1, 0], [0, 1]] means numbers.
    if isinstance(value, (list, tuple)) and (converted.dtype.kind in "iu" or converted.dtype == np.float64):
        converted = converted.astype(np.float32)
    return converted


def on_device(value: Any) -> bool:
    """Whether `value` is an array on a GPU."""
    if isinstance(value, (np.ndarray, list, tuple, int, float, str, bytes, dict, type, type(None))):
        return False
    find = getattr(value, "__dlpack_device__", None)
    if find is None:
        return hasattr(value, "__cuda_array_interface__")
    try:
        return find()[0] in (2, 13)  # DLPack's numbers of CUDA's own and managed memory
    except Exception:  # an array that cannot be exported, or not from where it is
        return False


def operand(name: str, value: Any) -> Any:
    """Return `value` if it is an array on a GPU, and otherwise what :func:`array` makes of it."""
    if isinstance(value, np.ndarray) or on_device(value):
        return value
    return array(name, value)


def engine(first: Any) -> Any:
    """Return the module that computes with arrays such as the first one, which :func:`operand` has seen."""
    if isinstance(first, np.ndarray):
        return _core
    from .cuda import _engine

    return _engine


def flag(name: str, value: Any) -> bool:
    """Return a bool; a number or a string is a TypeError, since it may have slipped in from another argument."""
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise TypeError(f"{name}={quoted(value)}: expected True or False, got {type(value).__name__}")
    return bool(value)


def sizes(name: str, value: Any) -> tuple[int | None, ...]:
    """Return one size for all axes or one per axis, None standing for the size of the input."""
    if value is None:
        raise TypeError(f"{name}=None: expected an integer or a sequence of integers and None")
    if isinstance(value, (tuple, list)) and any(item is None for item in value):
        if len(value) > 64:
            raise ValueError(f"{name} has {len(value)} entries: expected at most 64")
        return tuple(None if item is None else integer(name, item) for item in value)
    return integers(name, value)


def given_pairs(value: Any) -> bool:
    """Whether padding was spelled as (low, high) pairs."""
    if isinstance(value, np.ndarray):
        return value.ndim > 1
    return isinstance(value, (tuple, list)) and any(isinstance(item, (tuple, list, np.ndarray)) for item in value)
