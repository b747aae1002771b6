"""The lecture's network, and its weights in a file."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np

from .. import nn

# Below this the unpadded network has nothing left to pool: 10 - 2 = 8, half of it 4, - 2 = 2, half of it 1.
SMALLEST_UNPADDED = 10
SMALLEST = 4


def lecture_network(height: int, width: int, classes: int = 10, rng: Any = None) -> nn.Sequential:
    """Build the network: 25 filters 3x3, max pool 2, 50 filters 3x3, max pool 2, flatten, 100 units with ReLU, classes.

    Parameters
    ----------
    height, width : int
        Of the grey images. Below 10 pixels the convolutions get a padding of 1.
    classes : int, default 10
        Answers to choose from.
    rng : numpy.random.Generator or int, optional
        Where the first weights are drawn from.

    Returns
    -------
    Sequential

    Raises
    ------
    ValueError
        The images are smaller than 4 pixels.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"images of {height}x{width} pixels: expected at least {SMALLEST}x{SMALLEST}")
    draw = np.random.default_rng(rng)
    padding = 1 if min(height, width) < SMALLEST_UNPADDED else 0
    front = [
        nn.Conv2d(1, 25, 3, padding=padding, rng=draw),
        nn.MaxPool2d(2),
        nn.Conv2d(25, 50, 3, padding=padding, rng=draw),
        nn.MaxPool2d(2),
        nn.Flatten(),
    ]
    features = nn.summary(nn.Sequential(*front), (1, height, width)).rows[-1].output_shape[0]
    return nn.Sequential(*front, nn.Linear(features, 100, rng=draw), nn.ReLU(), nn.Linear(100, classes, rng=draw))


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights into an .npz file under exactly this name."""
    with open(path, "wb") as file:
        np.savez(file, **model.state_dict())  # type: ignore[arg-type]


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file.

    Raises
    ------
    ValueError
        It is no .npz file, is damaged, or holds pickled objects, which could run code and are not loaded.
    OSError
        The file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            return {key: file[key] for key in file.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path} is no .npz file of plain arrays: {error}") from None


def load(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Read weights into a model; see :func:`read_weights`, and :meth:`fastconv.nn.Module.load_state_dict`."""
    arrays = read_weights(path)
    try:
        model.load_state_dict(arrays)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def network_of(path: str | os.PathLike[str]) -> tuple[nn.Sequential, int]:
    """Build the network that a file has the weights of.

    The file says how many features come out of the last pooling, and a few sizes of square images lead there: any of
    them gives the same network; the sizes of MNIST and of the digits come first.

    Returns
    -------
    model : Sequential
        With the weights, ready to use.
    size : int
        Height and width of its images.

    Raises
    ------
    ValueError, OSError
        As :func:`load`.
    """
    arrays = read_weights(path)
    wanted, last = arrays.get("5.weight"), arrays.get("7.weight")
    if wanted is not None and last is not None and wanted.ndim == 2 and last.ndim == 2:
        for size in (28, 8, *range(SMALLEST, 129)):
            model = lecture_network(size, size, max(last.shape[0], 1), rng=0)
            if model.state_dict()["5.weight"].shape == wanted.shape:
                load(model, path)
                model.eval()
                return model, size
    raise ValueError(f"{path} does not hold the weights of the demo's network: expected a file written by --save")
