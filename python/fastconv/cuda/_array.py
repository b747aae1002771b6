"""DeviceArray: an array on a GPU for those who have NumPy and no library of the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .. import _arguments as arg
from ._loader import engine

KDL_CUDA, KDL_CUDA_MANAGED = 2, 13
#: CUDA's handle of the legacy default stream, which other streams of a device wait for.
LEGACY_STREAM = 1
#: Names of dtypes and their sizes in bytes.
SIZES = {
    "float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1,
}  # fmt: skip
_current_stream: ContextVar[int] = ContextVar("fastconv_cuda_stream", default=LEGACY_STREAM)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of this name; that of bfloat16 is in the package ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(name)


def current_stream() -> int:
    """Handle of the stream on which calls with DeviceArrays run.

    Returns
    -------
    int
        1, the legacy default stream, outside of :func:`stream`.
    """
    return _current_stream.get()


@contextmanager
def stream(handle: int) -> Iterator[None]:
    """Run the calls of a ``with`` block that get DeviceArrays on another stream.

    Arrays of other libraries always run on the current stream of their own library.

    Parameters
    ----------
    handle : int
        A ``cudaStream_t`` as a number, such as ``torch.cuda.Stream().cuda_stream``.
    """
    number = arg.integer("handle", handle)
    token = _current_stream.set(number or LEGACY_STREAM)
    try:
        yield
    finally:
        _current_stream.reset(token)


class DeviceArray:
    """A C-contiguous array on a GPU; made by :func:`asarray` and by calls that get DeviceArrays.

    It has no arithmetic. Other libraries read it without a copy through ``__dlpack__`` and
    ``__cuda_array_interface__``: ``torch.from_dlpack(array)``, ``cupy.asarray(array)``.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
        That of bfloat16 needs the package ml_dtypes.
    device : int
        Number of the GPU.
    """

    __slots__ = ("_dtype", "_owner", "_pointer", "_read_only", "_stream", "device", "shape")
    #: NumPy's own operators leave an array on a GPU alone.
    __array_ufunc__ = None

    def __init__(self, owner: Any, pointer: int, shape: tuple[int, ...], dtype: str, device: int, stream: int,
                 read_only: bool = False) -> None:  # fmt: skip
        self._owner, self._pointer, self._dtype, self._stream = owner, pointer, dtype, stream
        self._read_only = read_only
        self.shape, self.device = shape, device

    @property
    def dtype(self) -> np.dtype[Any]:
        return numpy_dtype(self._dtype)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Memory of the elements, in bytes."""
        return self.size * SIZES[self._dtype]

    def numpy(self) -> np.ndarray:
        """Copy to a NumPy array, when everything queued on the array's stream is done.

        Returns
        -------
        ndarray, shape and dtype of this array
        """
        host = np.empty(self.shape, numpy_dtype(self._dtype))
        if host.size:
            engine().download(host.reshape(-1).view(np.uint8), self._pointer, self.nbytes, self.device, self._stream)
        return host

    def reshape(self, *shape: Any) -> DeviceArray:
        """Give another shape to the same memory; one extent may be -1."""
        wanted = arg.integers("shape", shape[0] if len(shape) == 1 else shape) if shape != ((),) else ()
        known = math.prod(extent for extent in wanted if extent != -1)
        if wanted.count(-1) == 1 and known > 0 and self.size % known == 0:
            wanted = tuple(self.size // known if extent == -1 else extent for extent in wanted)
        if math.prod(wanted) != self.size or min(wanted, default=0) < 0:
            raise ValueError(f"shape={wanted}: expected {self.size} elements, those of {self.shape}")
        return DeviceArray(self, self._pointer, wanted, self._dtype, self.device, self._stream, self._read_only)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self._dtype}, device={self.device})"

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("a DeviceArray is on a GPU: copy it with .numpy()")

    def __dlpack_device__(self) -> tuple[int, int]:
        return KDL_CUDA, self.device

    def __dlpack__(
        self, *, stream: int | None = None, max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None, copy: bool | None = None,
    ) -> Any:  # fmt: skip
        if dl_device not in (None, (KDL_CUDA, self.device)) or copy:
            raise BufferError("a DeviceArray is exported where it is and without a copy")
        if stream != -1:
            ordered(self.device, LEGACY_STREAM if stream is None else int(stream), self._stream)
        versioned = max_version is not None and max_version[0] >= 1
        if self._read_only:
            raise BufferError("this DeviceArray is a view of read-only memory")
        return engine().to_capsule(
            self, self._pointer, self.shape, self._dtype, KDL_CUDA, self.device, versioned
        )  # fmt: skip

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self._dtype == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16: use __dlpack__")
        return {
            "shape": self.shape,
            "typestr": numpy_dtype(self._dtype).str,
            "data": (self._pointer if self.size else 0, self._read_only),
            "version": 3,
            "strides": None,
            "stream": self._stream,
        }


def ordered(device: int, waiting: int, behind: int) -> None:
    """Let the stream `waiting` wait for all that the stream `behind` was given so far."""
    if waiting != behind:
        engine().wait(device, waiting, behind)


def empty(shape: tuple[int, ...], dtype: str, device: int, stream: int) -> DeviceArray:
    """Allocate an array on a stream, its elements undefined."""
    memory = engine().Memory(math.prod(shape) * SIZES[dtype], device, stream)
    return DeviceArray(memory, memory.pointer, shape, dtype, device, stream)


def upload(array: np.ndarray, device: int) -> DeviceArray:
    """Copy a NumPy array to a device."""
    if array.dtype.name not in SIZES:
        raise TypeError(f"x has dtype {array.dtype}: expected one of {', '.join(SIZES)}")
    result = empty(array.shape, array.dtype.name, device, current_stream())
    if array.size:
        plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
        engine().upload(plain.reshape(-1).view(np.uint8), result._pointer, result.nbytes, device, result._stream)
    return result
