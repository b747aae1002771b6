"""From a picture of any size to the network's input."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

# Share of the network's image that the ink takes up: MNIST fits its digits into 20 of 28 pixels (LeCun et al., 1998),
# the digits of scikit-learn reach from edge to edge.
_MNIST_SIZE, _MNIST_INK = 28, 20


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a picture as grey levels, shape (H, W), float32, 0 the paper and 1 the ink.

    Transparent pixels count as white. What most of the border shows is the paper: a picture whose border is brighter
    than half is inverted.

    Raises
    ------
    ImportError
        Pillow is not installed.
    ValueError
        The file is no picture, or has too many pixels.
    OSError
        The file cannot be opened.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("pictures need Pillow: pip install pillow") from None
    with open(path, "rb") as file:
        try:
            picture: Image.Image = Image.open(file)
            if "A" in picture.getbands() or "transparency" in picture.info:
                above = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
            grey = np.asarray(picture.convert("L"), np.float32) / 255
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is no picture that Pillow can read: {error}") from None
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 1 - grey if np.median(border) > 0.5 else grey


def fit(picture: np.ndarray, size: int) -> np.ndarray:
    """Bring a picture to `size` x `size` pixels, shape (1, 1, size, size).

    One that has that size is taken as it is. Of a larger or smaller one the rectangle with the ink is cut out, scaled
    as the training images are, and put into the middle: by its centre of mass for the size of MNIST, whose images
    were made so, else by its edges.
    """
    if picture.shape == (size, size):
        return picture.reshape(1, 1, size, size)
    inked = picture > max(0.25 * float(picture.max()), 1e-3)
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    if not len(rows):
        return np.zeros((1, 1, size, size), np.float32)
    cut = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mnist = size == _MNIST_SIZE
    longest = _MNIST_INK if mnist else size
    height, width = (max(1, round(pixels * longest / max(cut.shape))) for pixels in cut.shape)
    small = _resized(cut, height, width)
    if mnist:
        mass = small.sum()
        top, left = (round(size / 2 - float((small.sum(1 - i) * (np.arange(n) + 0.5)).sum() / mass))
                     for i, n in enumerate(small.shape))  # fmt: skip
        top, left = min(max(top, 0), size - height), min(max(left, 0), size - width)
    else:
        top, left = (size - height) // 2, (size - width) // 2
    image = np.zeros((size, size), np.float32)
    image[top : top + height, left : left + width] = small
    return image.reshape(1, 1, size, size)


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    floats: Any = Image.fromarray(picture)
    # The mean of the pixels that fall into one, so that thin strokes get fainter and do not vanish.
    return np.asarray(floats.resize((width, height), Image.Resampling.BOX), np.float32)
