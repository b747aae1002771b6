"""Images with labels: IDX files, the format of MNIST and Fashion-MNIST, and the digits of scikit-learn."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

# The third byte of an IDX file (LeCun, Cortes and Burges, The MNIST database, "File formats"); big-endian.
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_CHUNK = 1 << 20  # bytes read at once, so that a header that lies makes nobody reserve what is not there


@dataclass(frozen=True)
class Dataset:
    """Images to learn from and others to be asked about.

    Attributes
    ----------
    name : str
    train_images, test_images : ndarray of float32, shape (N, 1, H, W)
        0 is the paper, 1 is the ink.
    train_labels, test_labels : ndarray of int64, shape (N,)
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def classes(self) -> int:
        """One more than the highest label."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1


def load_digits() -> Dataset:
    """Load scikit-learn's 1797 handwritten digits of 8x8 pixels; every fifth, after shuffling, is held out.

    The shuffle is the same every time (seed 0), so that accuracies can be compared.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise ImportError("the digits need scikit-learn: pip install scikit-learn") from None
    digits = load()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)[:, np.newaxis]  # 16 is the format's white
    labels = digits.target[order].astype(np.int64)
    held_out = len(labels) // 5
    return Dataset("scikit-learn digits", images[held_out:], labels[held_out:], images[:held_out], labels[:held_out])


def load_idx_folder(folder: str | os.PathLike[str]) -> Dataset:
    """Load the four files of MNIST, Fashion-MNIST or another set in their format.

    Parameters
    ----------
    folder : path
        Has ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, each plain or with ``.gz``.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is no IDX file, is cut off, or does not fit the others; the message names it.
    """
    where = Path(folder)
    parts = []
    for part in ("train", "t10k"):
        image_file, label_file = _find(where, f"{part}-images-idx3-ubyte"), _find(where, f"{part}-labels-idx1-ubyte")
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3 or images.dtype != np.uint8 or 0 in images.shape:
            came = f"shape {images.shape} and dtype {images.dtype}"
            raise ValueError(f"{image_file} has {came}: expected images of uint8, (count, height, width)")
        if labels.ndim != 1 or labels.dtype != np.uint8:
            came = f"shape {labels.shape} and dtype {labels.dtype}"
            raise ValueError(f"{label_file} has {came}: expected labels of uint8, (count,)")
        if len(images) != len(labels):
            raise ValueError(f"{image_file} has {len(images)} images and {label_file} {len(labels)} labels: "
                             "expected as many")  # fmt: skip
        parts.append((images, labels))
    (train, train_labels), (test, test_labels) = parts
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(f"{where}: images of {train.shape[1:]} to train and of {test.shape[1:]} to test: "
                         "expected one size")  # fmt: skip
    learned, asked = train_labels.astype(np.int64), test_labels.astype(np.int64)
    return Dataset(where.resolve().name, _ink(train), learned, _ink(test), asked)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file, plain or gzip-compressed.

    Parameters
    ----------
    path : path

    Returns
    -------
    ndarray
        Of the shape and the dtype that the file states, in native byte order.

    Raises
    ------
    ValueError
        The magic number is wrong, or there are fewer or more bytes than the sizes say.
    OSError
        The file cannot be read.
    """
    try:
        with open(path, "rb") as plain:
            compressed = plain.read(2) == b"\x1f\x8b"
        opener: Any = gzip.open if compressed else open
        with opener(path, "rb") as file:
            return _read(file, str(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _read(file: IO[bytes], path: str) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES or magic[3] == 0:
        came = magic.hex(" ") or "nothing"
        raise ValueError(f"{path} begins with {came}: expected 00 00, a type (08 for bytes) and the number of axes")
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise ValueError(f"{path} ends within the sizes of its {magic[3]} axes")
    shape = struct.unpack(f">{magic[3]}I", header)
    dtype = np.dtype(_IDX_DTYPES[magic[2]])
    expected = math.prod(shape) * dtype.itemsize
    chunks, count = [], 0
    while count <= expected and (chunk := file.read(_CHUNK)):
        chunks.append(chunk)
        count += len(chunk)
    if count != expected:
        raise ValueError(f"{path} has {'more than ' if count > expected else ''}{min(count, expected)} bytes of data: "
                         f"expected {expected} for shape {shape}")  # fmt: skip
    array = np.frombuffer(b"".join(chunks), dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def _find(folder: Path, name: str) -> Path:
    # Some copies have a dot in place of the dash before "idx".
    for candidate in (name, name.replace("-idx", ".idx")):
        for path in (folder / candidate, folder / f"{candidate}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz")


def _ink(images: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = images[:, np.newaxis] * np.float32(1 / 255)
    return scaled
