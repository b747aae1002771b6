"""Arrays that pose as being on a GPU, and fastconv.cuda computing in the emulator: for tests of the Python side."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.cuda import _loader

from .cuda_emulator.load import emulated


class OnStream:
    """The stream that a producer was asked to be ready for, in the order of the exports."""

    asked: list[int] = []  # noqa: RUF012


def aligned(array: np.ndarray) -> np.ndarray:
    """Copy to memory that begins at a multiple of 256 bytes, as a device's allocator gives it."""
    memory = np.empty(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 256
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Posing:
    """NumPy memory that poses as being on GPU 0; how it is exported is up to a subclass."""

    __array_ufunc__ = None

    def __init__(self, array: Any, copy: bool = True) -> None:
        plain = np.asarray(array)
        self.memory = aligned(plain) if copy else plain
        self.shape, self.dtype, self.ndim = self.memory.shape, self.memory.dtype, self.memory.ndim

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("implicit conversion of an array on a GPU")


class ByInterface(Posing):
    """``__cuda_array_interface__`` and nothing else."""

    stream: int | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        said = dict(self.memory.__array_interface__, version=3, stream=self.stream)
        del said["descr"]
        return said


class ByDlpack(Posing):
    """``__dlpack__`` and nothing else; what a library before DLPack 1.0 had."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        OnStream.asked.append(-1 if stream is None else stream)
        lent = emulated().engine.to_capsule(
            self, self.memory.ctypes.data, self.memory.shape, self.memory.dtype.name, 2, 0, False
        )
        if not self.memory.flags.c_contiguous:
            raise BufferError("strides are not exported here")
        return lent


class Namespaced(ByInterface):
    """An array of a library with an array namespace, such as CuPy's: results are to be of its class."""

    device = 0

    def __array_namespace__(self) -> Any:
        return Namespace

    def reshape(self, *shape: Any) -> Namespaced:
        return Namespaced(self.memory.reshape(*shape), copy=False)


class Namespace:
    """The few functions that fastconv calls."""

    float32, float64, int64, uint8 = np.dtype("f4"), np.dtype("f8"), np.dtype("i8"), np.dtype("u1")

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: Any, device: int) -> Namespaced:
        assert device == 0
        return Namespaced(np.full(shape, 77, dtype))

    @staticmethod
    def asarray(array: Namespaced, copy: bool) -> Namespaced:
        assert copy
        return Namespaced(np.ascontiguousarray(array.memory))


def numbers(array: Any) -> np.ndarray:
    """Return what is in an array of this file, or in a DeviceArray."""
    return array.memory if isinstance(array, Posing) else array.numpy()


def emulated_device() -> Any:
    """Return a context in which fastconv.cuda computes in the emulator, whatever is installed."""
    return _loader.substitute(emulated().engine)
