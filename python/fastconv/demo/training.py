"""Train a classifier, and ask it about images it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import cuda, nn, optim
from ..functional import softmax


class Progress(NamedTuple):
    """Where the training is: epoch counted from 1, images of the batch, its loss."""

    epoch: int
    images: int
    loss: float


def train(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    report: Callable[[Progress], object] = lambda progress: None,
) -> None:
    """Train with Adam; the learning rate falls linearly to zero, so that the last steps settle.

    Parameters
    ----------
    model : Module
    images, labels : ndarray
    epochs : int
        How often each image is shown, in another order every time.
    batch_size : int, default 64
        Images per step; the last step of an epoch takes what is left.
    lr : float, default 2e-3
        Learning rate of the first step.
    seed : int, default 0
        Of the orders.
    report : callable, optional
        Called after each step.
    """
    rng = np.random.default_rng(seed)
    optimizer, loss = optim.Adam(model.parameters(), lr=lr), nn.CrossEntropyLoss()
    starts = range(0, len(images), batch_size)
    steps, step = epochs * len(starts), 0
    model.train()
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(images))
        for start in starts:
            batch = order[start : start + batch_size]
            optimizer.lr = lr * (1 - step / steps)
            value = loss(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            model.backward(loss.backward(), input_grad=False)
            optimizer.step()
            step += 1
            report(Progress(epoch, len(batch), value))


def answers(model: nn.Module, images: np.ndarray, batch_size: int = 256, device: str = "cpu") -> np.ndarray:
    """Return the probabilities of the classes, shape (N, classes); the model is on `device`."""
    model.eval()
    parts = []
    for i in range(0, len(images), batch_size):
        batch = images[i : i + batch_size]
        scores = model(batch) if device == "cpu" else model(cuda.asarray(batch)).numpy()  # type: ignore[attr-defined]
        parts.append(softmax(scores, 1))
    return np.concatenate(parts)


class Confusion(NamedTuple):
    """How often images of one class were taken for another."""

    label: int
    answer: int
    times: int


def worst_confusions(labels: np.ndarray, given: np.ndarray, most: int = 5) -> list[Confusion]:
    """Return the pairs that are confused most often, the most frequent first."""
    wrong = labels != given
    pairs, counts = np.unique(np.stack([labels[wrong], given[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [Confusion(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in order]
