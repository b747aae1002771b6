"""Pictures of what a network sees: filters, feature maps, answers. Needs matplotlib (``pip install matplotlib``)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _arguments as arg

RIGHT, WRONG = "#2a7f3f", "#c0392b"


def mosaic(maps: Any, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Lay maps out in rows, one picture for all.

    Parameters
    ----------
    maps : ndarray, shape (count, H, W)
    columns : int, optional
        Maps per row; without it the rows and columns are about as many.
    gap : int, default 1
        Pixels between the maps; they are NaN.

    Returns
    -------
    ndarray, shape (rows * (H + gap) - gap, columns * (W + gap) - gap)

    Raises
    ------
    ValueError
        `maps` has not three axes or is empty, or a number is out of range.
    """
    array = arg.array("maps", maps)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"maps has shape {array.shape}: expected (count, height, width), none of them 0")
    count, height, width = array.shape
    across = math.ceil(math.sqrt(count)) if columns is None else arg.integer("columns", columns)
    if across < 1 or gap < 0:
        raise ValueError(f"columns={columns}, gap={gap}: expected at least 1 column and a gap of at least 0")
    down = math.ceil(count / across)
    shape = (down * (height + gap) - gap, across * (width + gap) - gap)
    picture = np.full(shape, np.nan, np.result_type(array, np.float32))
    for i, one in enumerate(array):
        top, left = i // across * (height + gap), i % across * (width + gap)
        picture[top : top + height, left : left + width] = one
    return picture


def show_filters(weight: Any, *, channel: int = 0, columns: int | None = None, ax: Any = None) -> Any:
    """Draw the filters of a layer: blue takes away, red adds, white does not care.

    Parameters
    ----------
    weight : ndarray, shape (out_channels, in_channels, kernel_height, kernel_width)
    channel : int, default 0
        The input channel whose weights are shown.
    columns : int, optional
        Filters per row.
    ax : matplotlib Axes, optional
        Where to draw; pyplot's current ones by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        `weight` has not four axes, or there is no such channel.
    """
    filters = arg.array("weight", weight)
    if filters.ndim != 4 or filters.size == 0:
        raise ValueError(f"weight has shape {filters.shape}: expected (out_channels, in_channels, height, width)")
    if not 0 <= channel < filters.shape[1]:
        raise ValueError(f"channel={channel}: expected 0 to {filters.shape[1] - 1}")
    return _show_signed(mosaic(filters[:, channel], columns), ax)


def show_feature_maps(maps: Any, *, columns: int | None = None, ax: Any = None) -> Any:
    """Draw the feature maps of one image on one scale: red where a filter answers, blue where it finds the opposite.

    Parameters
    ----------
    maps : ndarray, shape (channels, H, W)
        What a layer gives for one image, with the channels first.
    columns, ax
        As in :func:`show_filters`.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        `maps` has not three axes.
    """
    # The gap grows with the maps, so that it is seen beside them.
    picture = mosaic(maps, columns, gap=max(1, arg.array("maps", maps).shape[-1] // 12))
    return _show_signed(picture, ax)


def show_answer(image: Any, answer: int, label: int | None = None, *, ax: Any = None) -> Any:
    """Draw an image with the answer that it got; a wrong one is red and says what was right.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (1, H, W)
        0 is the paper, 1 is the ink.
    answer : int
        The class that was recognised.
    label : int, optional
        The right class.
    ax : matplotlib Axes, optional
        As in :func:`show_filters`.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.
    ValueError
        `image` is no single grey image.
    """
    grey = arg.array("image", image)
    if grey.ndim == 3 and grey.shape[0] == 1:
        grey = grey[0]
    if grey.ndim != 2:
        raise ValueError(f"image has shape {grey.shape}: expected (height, width) or (1, height, width)")
    right = label is None or answer == label
    ax = _show(grey, ax, cmap="gray_r", vmin=0, vmax=1)
    ax.set_title(f"{answer}" if right else f"{answer}, is {label}", color=RIGHT if right else WRONG,
                 fontsize=10, fontweight="normal" if right else "bold", pad=3)  # fmt: skip
    ax.set_frame_on(True)
    for spine in ax.spines.values():
        spine.set(color=RIGHT if right else WRONG, linewidth=1.0 if right else 2.5)
    return ax


def _show_signed(picture: np.ndarray, ax: Any) -> Any:
    """Zero is white, and the gaps are grey."""
    most = float(np.nanmax(np.abs(picture))) or 1.0
    ax = _show(picture, ax, cmap="RdBu_r", vmin=-most, vmax=most)
    ax.set_facecolor("#d0d0d0")
    ax.set_frame_on(True)
    for spine in ax.spines.values():
        spine.set(color="#d0d0d0")
    return ax


def _show(picture: np.ndarray, ax: Any, **how: Any) -> Any:
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ImportError("fastconv.viz needs matplotlib: pip install matplotlib") from None
        ax = pyplot.gca()
    ax.imshow(picture, interpolation="nearest", **how)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_frame_on(False)
    return ax
