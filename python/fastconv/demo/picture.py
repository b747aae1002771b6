"""fastconv-demo.png: images with the answers, the first layer's filters, and what they make of an image."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from .. import nn, viz
from .training import answers

_ROWS, _COLUMNS = 2, 12  # of test images
_MOST_WRONG = 8  # of them, so that what goes well is seen too


def draw(
    model: nn.Sequential, images: np.ndarray, labels: np.ndarray, title: str, path: str | os.PathLike[str]
) -> None:
    """Draw a trained network into a PNG file.

    Parameters
    ----------
    model : Sequential
        Begins with a convolution of grey images and a pooling.
    images, labels : ndarray
        That it was not trained on.
    title : str
    path : path
        Where to write.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    OSError
        The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("the picture needs matplotlib: pip install matplotlib") from None
    given = answers(model, images).argmax(1)
    chosen = _choice(labels, given)
    figure = Figure(figsize=(13, 7), dpi=110, facecolor="white")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.22))
    top, bottom = parts
    top.suptitle(title, fontsize=14, y=0.975)
    grid = top.subplots(_ROWS, _COLUMNS, squeeze=False)
    top.subplots_adjust(left=0.02, right=0.98, top=0.82, bottom=0.04, wspace=0.12, hspace=0.25)
    for ax, i in zip(grid.flat, chosen, strict=False):
        viz.show_answer(images[i], int(given[i]), int(labels[i]), ax=ax)
    for ax in list(grid.flat)[len(chosen) :]:
        ax.set_axis_off()
    right = [i for i in chosen if given[i] == labels[i]] or list(chosen)
    _draw_layer(bottom, model, images[right[0]])
    figure.savefig(path, format="png")


def _choice(labels: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Some that went wrong, then others in their order."""
    wrong, right = np.flatnonzero(labels != given)[:_MOST_WRONG], np.flatnonzero(labels == given)
    return np.concatenate([wrong, right])[: _ROWS * _COLUMNS]


def _draw_layer(figure: Any, model: nn.Sequential, image: np.ndarray) -> None:
    convolution, pooling = model[0], model[1]
    assert isinstance(convolution, nn.Conv2d)
    maps = convolution(image[np.newaxis])
    pooled = pooling(maps)
    weight = convolution.weight.data
    axes = figure.subplots(1, 4)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.84, bottom=0.03, wspace=0.06)
    axes[0].imshow(image[0], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes[0].set_xticks([])
    axes[0].set_yticks([])
    viz.show_filters(weight, ax=axes[1])
    viz.show_feature_maps(maps[0], ax=axes[2])
    viz.show_feature_maps(pooled[0], ax=axes[3])
    sizes = ["x".join(map(str, array.shape[-2:])) for array in (image, weight, maps, pooled)]
    names = ("an image", f"{len(weight)} filters", "feature maps", "after max pooling")
    notes = ("it was recognised", "red adds, blue takes away", "red: the filter answers", "the strongest of each 2x2")
    for ax, name, size, note in zip(axes, names, sizes, notes, strict=True):
        ax.set_title(f"{name}, {size}\n{note}", fontsize=11, pad=6)
