"""Layers of a convolutional network: forward, backward, and parameters named and shaped as in ``torch.nn``.

There is no graph and no tape: each layer keeps what its own backward pass needs.

>>> import numpy as np
>>> from fastconv import nn, optim
>>> model = nn.Sequential(nn.Conv2d(1, 4, 3, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10, rng=1))
>>> optimizer, loss = optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss()
>>> images, labels = np.ones((2, 1, 8, 8), np.float32), np.array([3, 7])
>>> first = loss(model(images), labels)
>>> _ = model.backward(loss.backward(), input_grad=False)
>>> optimizer.step()
>>> loss(model(images), labels) < first
True
"""

from .activation import ReLU
from .container import Sequential
from .conv import Conv1d, Conv2d, Conv3d
from .conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .linear import Dropout, Flatten, Linear
from .loss import CrossEntropyLoss
from .module import LoadResult, Module
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .parameter import Parameter
from .pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from .summary import Summary, SummaryRow, summary

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Linear",
    "LoadResult",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "Summary",
    "SummaryRow",
    "summary",
]
