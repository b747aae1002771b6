"""The loss of a classifier."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..functional import float_array, log_softmax


class CrossEntropyLoss:
    """Cross entropy of the softmax of scores against labels; ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    reduction : {"mean", "sum"}, default "mean"
        What is made of the losses of the single answers.
    label_smoothing : float, default 0.0
        Share of each answer that is spread over all classes alike, 0 to 1 (Szegedy et al., Rethinking the Inception
        architecture, 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> loss = nn.CrossEntropyLoss()
    >>> round(loss(np.zeros((4, 10), np.float32), np.array([3, 1, 4, 1])), 4)
    2.3026
    >>> loss.backward().shape
    (4, 10)
    """

    def __init__(self, *, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction={reduction!r}: expected 'mean' or 'sum'")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing={label_smoothing!r}: expected 0 to 1")
        self.reduction, self.label_smoothing = reduction, float(label_smoothing)
        self._kept: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, scores: Any, labels: Any) -> float:
        return self.forward(scores, labels)

    def forward(self, scores: Any, labels: Any) -> float:
        """Compute the loss.

        Parameters
        ----------
        scores : ndarray, shape (N, classes), (N, classes, ...) or (classes,)
            Before softmax; float32 or float64.
        labels : ndarray of int, shape (N,), (N, ...) or ()
            0 to classes - 1.

        Returns
        -------
        float
            As in torch NaN for the mean of no answers.

        Raises
        ------
        ValueError
            The shapes do not fit, or a label is no class.
        TypeError
            The labels are no integers, or the scores neither float32 nor float64.
        """
        array, classes = float_array("scores", scores), _labels(labels)
        along = 1 if array.ndim > 1 else 0
        if array.ndim == 0 or array.shape[along] == 0:
            raise ValueError(f"scores has shape {array.shape}: expected (N, classes) with at least one class")
        expected = array.shape[:along] + array.shape[along + 1 :]
        if classes.shape != expected:
            raise ValueError(f"labels has shape {classes.shape}: expected {expected} for scores of shape {array.shape}")
        count = array.shape[along]
        if classes.size and not (classes.min() >= 0 and classes.max() < count):
            wrong = classes[(classes < 0) | (classes >= count)].flat[0]
            raise ValueError(f"labels has {wrong}: expected 0 to {count - 1}, the classes of scores {array.shape}")
        logs = log_softmax(array, along)
        self._kept = logs, classes
        picked = np.take_along_axis(logs, np.expand_dims(classes, along), along)
        value = -float(picked.sum(dtype=np.float64))
        if self.label_smoothing:
            spread = -float(logs.sum(dtype=np.float64)) / count
            value += self.label_smoothing * (spread - value)
        if self.reduction == "sum":
            return value
        return value / classes.size if classes.size else math.nan

    def backward(self) -> np.ndarray:
        """Gradient of the latest loss with respect to its scores.

        Returns
        -------
        ndarray, shape and dtype of the scores
            Probabilities minus the wanted ones, over the number of answers with "mean".

        Raises
        ------
        RuntimeError
            There was no loss yet.
        """
        if self._kept is None:
            raise RuntimeError("CrossEntropyLoss.backward was called before the loss was computed")
        logs, classes = self._kept
        along = 1 if logs.ndim > 1 else 0
        grad: np.ndarray = np.exp(logs)
        if self.label_smoothing:
            grad -= self.label_smoothing / logs.shape[along]
        where = np.expand_dims(classes, along)
        wanted = np.take_along_axis(grad, where, along) - grad.dtype.type(1 - self.label_smoothing)
        np.put_along_axis(grad, where, wanted, along)
        if self.reduction == "mean" and classes.size:
            grad /= classes.size
        return grad


def _labels(labels: Any) -> np.ndarray:
    """Return labels as an array of integers; a list of Python integers is one too."""
    array = labels if isinstance(labels, np.ndarray) else np.asarray(labels)
    if array.dtype.kind not in "iu" and not (array.size == 0 and not isinstance(labels, np.ndarray)):
        raise TypeError(f"labels has dtype {array.dtype}: expected integers")
    return array.astype(np.int64, copy=False)
