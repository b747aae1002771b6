"""The libraries that arrays on a GPU come from: how to read their arrays, and how to make more of them.

A view is what ``cuda/bindings/arrays.h`` reads: ``(array, pointer, shape, dtype, plain, read_only)``. `array` keeps the
memory alive; `plain` says that the elements are C-contiguous and each is aligned to its size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import _array
from ._array import LEGACY_STREAM, SIZES, DeviceArray
from ._loader import engine

View = tuple[Any, int, tuple[int, ...], str, bool, bool]


def aligned(pointer: int, dtype: str) -> bool:
    """Whether elements from here on are aligned to their size."""
    return pointer % SIZES.get(dtype, 1) == 0


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Whether strides, in elements, are those of a C-contiguous array; axes of one element may have any."""
    if strides is None or 0 in shape:
        return True
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


class Library:
    """What is known of any library: DLPack, the CUDA array interface and, where it has one, its array namespace."""

    def owns(self, array: Any) -> bool:
        """Whether `array` is of this library."""
        return True

    def device(self, array: Any) -> int:
        """Return the number of the array's GPU."""
        if hasattr(array, "__dlpack_device__"):
            return int(array.__dlpack_device__()[1])
        return 0

    def stream(self, array: Any) -> int:
        """Return the handle of the stream to run on: the one that the array itself names, or the default stream."""
        named = getattr(array, "__cuda_array_interface__", {}).get("stream")
        return LEGACY_STREAM if named is None else int(named)

    def view(self, name: str, array: Any, stream: int) -> View:
        """Return the view of an array that a call on `stream` may read."""
        if hasattr(array, "__dlpack__"):
            return self._by_dlpack(name, array, stream)
        return self._by_interface(name, array, stream)

    def _by_dlpack(self, name: str, array: Any, stream: int) -> View:
        try:
            try:
                capsule = array.__dlpack__(stream=stream, max_version=(1, 0))
            except TypeError:  # a producer from before DLPack 1.0
                capsule = array.__dlpack__(stream=stream)
        except BufferError as error:
            raise TypeError(f"{name} cannot be read through DLPack: {error}") from None
        lent = engine().Borrowed(capsule)
        shape = tuple(lent.shape)
        strides = None if lent.strides is None else tuple(lent.strides)
        plain = is_contiguous(shape, strides) and aligned(lent.pointer, lent.dtype)
        return (lent if plain else array), lent.pointer, shape, lent.dtype, plain, lent.read_only

    def _by_interface(self, name: str, array: Any, stream: int) -> View:
        said = array.__cuda_array_interface__
        order, kind, bytes_each = said["typestr"][0], said["typestr"][1], int(said["typestr"][2:])
        dtype = {"f": "float", "i": "int", "u": "uint"}.get(kind, kind) + str(8 * bytes_each)
        if dtype not in SIZES or order == ">":
            raise TypeError(f"{name} has dtype {said['typestr']}: expected float32, float64, float16 or bfloat16")
        if said.get("stream") is not None:
            _array.ordered(self.device(array), stream, said["stream"])
        shape, strides = tuple(said["shape"]), said.get("strides")
        if strides is not None:
            strides = tuple(stride // bytes_each for stride in strides)
        pointer, read_only = said["data"]
        plain = is_contiguous(shape, strides) and aligned(pointer, dtype)
        return array, pointer, shape, dtype, plain, bool(read_only)

    def copy(self, array: Any) -> Any:
        """Return a C-contiguous copy."""
        namespace = _namespace(array)
        if namespace is None:
            raise ValueError(
                f"an array of {type(array).__module__}.{type(array).__name__} is not C-contiguous and aligned: "
                "expected both, because its library does not say how to copy it"
            )
        return namespace.asarray(array, copy=True) if not hasattr(namespace, "array") else namespace.array(
            array, copy=True, order="C"
        )  # fmt: skip

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any, device: int, stream: int) -> Any:
        """Return an array whose elements are not defined yet, on the device and for the stream of a call."""
        if _namespace(like) is None:
            return _array.empty(shape, dtype, device, stream)
        return self.maker(shape, dtype, like, device)()

    def maker(self, shape: tuple[int, ...], dtype: str, like: Any, device: int) -> Callable[..., Any]:
        """Return what makes such arrays, one at each call, without keeping `like`; DeviceArrays take a stream."""
        namespace = _namespace(like)
        return partial(namespace.empty, shape, dtype=_dtype(namespace, like, dtype), device=like.device)

    def functions(self, kind: type) -> Any:
        """Return the capsule with DLPack's C functions of a type of arrays, or None."""
        return getattr(kind, "__dlpack_c_exchange_api__", None) if hasattr(kind, "__array_namespace__") else None

    def finish(self, array: Any) -> Any:
        """Return a result as an array of this library."""
        return array


def _namespace(array: Any) -> Any:
    find = getattr(array, "__array_namespace__", None)
    return None if find is None else find()


def _dtype(namespace: Any, like: Any, name: str) -> Any:
    return like.dtype if str(like.dtype) == name else getattr(namespace, name)


class _Own(Library):
    """DeviceArray."""

    def owns(self, array: Any) -> bool:
        return type(array) is DeviceArray

    def device(self, array: Any) -> int:
        device: int = array.device
        return device

    def stream(self, array: Any) -> int:
        return _array.current_stream()

    def view(self, name: str, array: Any, stream: int) -> View:
        if array._stream != stream:
            _array.ordered(array.device, stream, array._stream)
        return array, array._pointer, array.shape, array._dtype, True, array._read_only

    def maker(self, shape: tuple[int, ...], dtype: str, like: Any, device: int) -> Callable[..., Any]:
        return partial(_array.empty, shape, dtype, device)


class _Torch(Library):
    """PyTorch, whose tensors have no array namespace."""

    def owns(self, array: Any) -> bool:
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(array, torch.Tensor)

    def device(self, array: Any) -> int:
        return int(array.get_device())

    def stream(self, array: Any) -> int:
        return int(sys.modules["torch"].cuda.current_stream(array.device).cuda_stream)

    def view(self, name: str, array: Any, stream: int) -> View:
        if array.requires_grad and sys.modules["torch"].is_grad_enabled():
            raise TypeError(f"{name} requires a gradient, which is not recorded here: pass {name}.detach(), or call "
                            "inside torch.no_grad()")  # fmt: skip
        pointer, dtype = array.data_ptr(), str(array.dtype).removeprefix("torch.")
        plain = array.is_contiguous() and aligned(pointer, dtype)
        return array, pointer, tuple(array.shape), dtype, plain, False

    def copy(self, array: Any) -> Any:
        torch = sys.modules["torch"]
        return array.detach().clone(memory_format=torch.contiguous_format)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any, device: int, stream: int) -> Any:
        return self.maker(shape, dtype, like, device)()

    def maker(self, shape: tuple[int, ...], dtype: str, like: Any, device: int) -> Callable[..., Any]:
        torch = sys.modules["torch"]
        return partial(torch.empty, shape, dtype=getattr(torch, dtype), device=like.device)

    def functions(self, kind: type) -> Any:
        return getattr(kind, "__dlpack_c_exchange_api__", None)


class _CuPy(Library):
    """CuPy, whose current stream only it knows."""

    def owns(self, array: Any) -> bool:
        return type(array).__module__.split(".")[0] == "cupy"

    def stream(self, array: Any) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr) or LEGACY_STREAM

    def view(self, name: str, array: Any, stream: int) -> View:
        pointer, dtype = int(array.data.ptr), str(array.dtype)
        plain = bool(array.flags.c_contiguous) and aligned(pointer, dtype)
        return array, pointer, tuple(array.shape), dtype, plain, False

    def maker(self, shape: tuple[int, ...], dtype: str, like: Any, device: int) -> Callable[..., Any]:
        # CuPy's own namespace has no device: it allocates on the current one, which is the call's.
        namespace = _namespace(like)
        return partial(namespace.empty, shape, dtype=_dtype(namespace, like, dtype))


class _Jax(Library):
    """JAX, whose arrays never change: results are computed into memory of our own and handed over."""

    def owns(self, array: Any) -> bool:
        return type(array).__module__.split(".")[0] in ("jax", "jaxlib")

    def stream(self, array: Any) -> int:
        return LEGACY_STREAM  # JAX has no current stream; DLPack orders its own behind and before this one

    def copy(self, array: Any) -> Any:
        return sys.modules["jax"].numpy.array(array, copy=True)

    def empty(self, shape: tuple[int, ...], dtype: str, like: Any, device: int, stream: int) -> Any:
        return _array.empty(shape, dtype, device, stream)

    def functions(self, kind: type) -> Any:
        return None  # results are handed over, which takes Python's part

    def finish(self, array: Any) -> Any:
        from jax import dlpack  # type: ignore[import-not-found, unused-ignore]

        if type(array) is not DeviceArray:
            return array
        return dlpack.from_dlpack(array)


_LIBRARIES: tuple[Library, ...] = (_Own(), _Torch(), _CuPy(), _Jax(), Library())


def library_of(array: Any) -> Library:
    """Return the library of an array."""
    return next(library for library in _LIBRARIES if library.owns(array))


def reader_of(array: Any) -> tuple[bool, Any, Any]:
    """Say how ``cuda/bindings/again.h`` reads arrays of a type, of which this is one.

    Returns
    -------
    (bool, capsule or None, callable or None)
        Whether they are DeviceArrays; the C functions that read them; what says whether gradients are recorded.
    """
    library = library_of(array)
    records = sys.modules["torch"].is_grad_enabled if isinstance(library, _Torch) else None
    return isinstance(library, _Own), library.functions(type(array)), records
