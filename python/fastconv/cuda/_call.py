"""A call of the engine: its library, its device, its stream, and views of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._arguments import on_device
from ._libraries import View, library_of


def refuse_elsewhere(name: str, array: Any, like: str) -> None:
    """Raise TypeError where an argument is not on a GPU."""
    if not on_device(array):
        kind = type(array)
        where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        raise TypeError(f"{name} is {where}{kind.__qualname__}: expected an array on the GPU, as {like} is")


class Call:
    """What ``cuda/bindings/arrays.h`` asks of a call. The first array says library, device and stream for all.

    Parameters
    ----------
    name : str
        Of the argument that `array` is.
    array : array on a GPU
    """

    __slots__ = ("device", "library", "like", "name", "stream")

    def __init__(self, name: str, array: Any) -> None:
        self.name, self.like = name, array
        self.library = library_of(array)
        self.device = self.library.device(array)
        self.stream = self.library.stream(array)

    def view(self, name: str, array: Any) -> View:
        """Return the view of an argument; one that is elsewhere is refused."""
        if array is self.like:
            return self.library.view(name, array, self.stream)
        refuse_elsewhere(name, array, self.name)
        library = self.library if self.library.owns(array) else library_of(array)
        device = library.device(array)
        if device != self.device:
            raise ValueError(f"{name} is on device {device}: expected device {self.device}, where {self.name} is")
        return library.view(name, array, self.stream)

    def optional(self, name: str, array: Any) -> View | None:
        """Return the view of an argument that may be None."""
        return None if array is None else self.view(name, array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> View:
        """Allocate in the library of the call."""
        array = self.library.empty(shape, dtype, self.like, self.device, self.stream)
        return library_of(array).view("the result", array, self.stream)

    def maker(self, shape: tuple[int, ...], dtype: str) -> Callable[..., Any]:
        """Return what makes such arrays; see ``Library.maker``."""
        return self.library.maker(shape, dtype, self.like, self.device)

    def plain(self, view: View) -> View:
        """Return the view of a C-contiguous and aligned copy."""
        copy = library_of(view[0]).copy(view[0])
        return library_of(copy).view("a copy", copy, self.stream)

    def finish(self, result: Any, out: Any = None) -> Any:
        """Hand results over as arrays of the library of the call; the first one is `out` where that was given."""
        if isinstance(result, tuple):
            return (self.finish(result[0], out), *map(self.library.finish, result[1:]))
        return self.library.finish(result) if out is None else out
