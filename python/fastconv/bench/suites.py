"""What is timed, as data: layers of well-known networks, by what they are and not by how they are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Layer:
    """A convolution with bias: NCHW sizes of its arrays and its window, in one to three spatial axes."""

    name: str
    batch: int
    in_c: int
    out_c: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def axes(self) -> int:
        """Spatial axes."""
        return len(self.size)

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (self.batch, self.in_c, *self.size)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Shape of the filters."""
        return (self.out_c, self.in_c // self.groups, *self.kernel)

    @property
    def window(self) -> dict[str, Any]:
        """The keywords of ``fastconv.conv2d`` and of ``torch.nn.functional.conv2d``."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def flops(self, out_size: tuple[int, ...]) -> float:
        """Two per multiply-add of the direct sum, whatever the algorithm saves."""
        return 2.0 * self.batch * math.prod(out_size) * math.prod(self.w_shape)


@dataclass(frozen=True)
class Pooling:
    """A max or average pooling over squares, NCHW."""

    name: str
    kind: str
    batch: int
    channels: int
    size: int
    kernel: int
    stride: int
    padding: int = 0
    ceil_mode: bool = False
    return_indices: bool = False

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return (self.batch, self.channels, self.size, self.size)


def _layer(name: str, in_c: int, size: Any, out_c: int, kernel: Any, stride: Any = 1, padding: Any = None,
           dilation: Any = 1, groups: int = 1, batch: int = 1) -> Layer:  # fmt: skip
    """Numbers stand for squares; the padding that is not given keeps the size at stride 1."""
    size = size if isinstance(size, tuple) else (size, size)

    def every(value: Any) -> tuple[int, ...]:
        return value if isinstance(value, tuple) else (value,) * len(size)

    kernel, dilation = every(kernel), every(dilation)
    if padding is None:
        padding = tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
    return Layer(name, batch, in_c, out_c, size, kernel, every(stride), every(padding), dilation, groups)


LAYERS = (
    _layer("ResNet stem 3x224 to 64, 7x7 s2", 3, 224, 64, 7, 2),
    _layer("64x56 to 64, 1x1", 64, 56, 64, 1),
    _layer("64x56 to 64, 3x3", 64, 56, 64, 3),
    _layer("64x56 to 256, 1x1", 64, 56, 256, 1),
    _layer("128x56 to 128, 3x3 s2", 128, 56, 128, 3, 2),
    _layer("128x28 to 128, 3x3", 128, 28, 128, 3),
    _layer("128x28 to 512, 1x1", 128, 28, 512, 1),
    _layer("256x14 to 256, 3x3", 256, 14, 256, 3),
    _layer("1024x14 to 256, 1x1", 1024, 14, 256, 1),
    _layer("512x7 to 512, 3x3", 512, 7, 512, 3),
    _layer("512x7 to 2048, 1x1", 512, 7, 2048, 1),
    _layer("256x56 to 512, 1x1 s2", 256, 56, 512, 1, 2),
    _layer("VGG 3x224 to 64, 3x3", 3, 224, 64, 3),
    _layer("VGG 64x224 to 64, 3x3", 64, 224, 64, 3),
    _layer("VGG 256x56 to 256, 3x3", 256, 56, 256, 3),
    _layer("VGG 512x14 to 512, 3x3", 512, 14, 512, 3),
    _layer("depthwise 32x112, 3x3", 32, 112, 32, 3, groups=32),
    _layer("depthwise 144x56, 3x3 s2", 144, 56, 144, 3, 2, groups=144),
    _layer("depthwise 576x14, 3x3", 576, 14, 576, 3, groups=576),
    _layer("24x56 to 144, 1x1", 24, 56, 144, 1),
    _layer("96x14 to 576, 1x1", 96, 14, 576, 1),
    _layer("128x56 to 128, 3x3, 32 groups", 128, 56, 128, 3, groups=32),
    _layer("48x28 to 64, 5x5", 48, 28, 64, 5),
    _layer("128x17 to 128, 1x7", 128, 17, 128, (1, 7)),
    _layer("batch 64, 1x28 to 32, 5x5", 1, 28, 32, 5, batch=64),
    _layer("batch 64, 1x28 to 25, 3x3 (the lecture's)", 1, 28, 25, 3, padding=0, batch=64),
    _layer("256x28 to 256, 3x3, dilation 2", 256, 28, 256, 3, dilation=2),
)

NETWORKS = (
    _layer("EfficientNet depthwise 96x112, 3x3 s2", 96, 112, 96, 3, 2, groups=96),
    _layer("EfficientNet depthwise 144x56, 5x5 s2", 144, 56, 144, 5, 2, groups=144),
    _layer("EfficientNet depthwise 672x14, 5x5", 672, 14, 672, 5, groups=672),
    _layer("EfficientNet 1152x7 to 320, 1x1", 1152, 7, 320, 1),
    _layer("EfficientNet squeeze 96x1 to 4, 1x1", 96, 1, 4, 1),
    _layer("ConvNeXt depthwise 96x56, 7x7", 96, 56, 96, 7, groups=96),
    _layer("ConvNeXt depthwise 384x14, 7x7", 384, 14, 384, 7, groups=384),
    _layer("ConvNeXt patches 3x224 to 96, 4x4 s4", 3, 224, 96, 4, 4, 0),
    _layer("ConvNeXt 96x56 to 192, 2x2 s2", 96, 56, 192, 2, 2, 0),
    _layer("DenseNet 128x28 to 32, 3x3", 128, 28, 32, 3),
    _layer("DenseNet 480x14 to 128, 1x1", 480, 14, 128, 1),
    _layer("U-Net 1x256 to 32, 3x3", 1, 256, 32, 3),
    _layer("U-Net 32x256 to 32, 3x3", 32, 256, 32, 3),
    _layer("U-Net 64x128 to 2, 1x1", 64, 128, 2, 1),
    _layer("YOLO 3x320 to 16, 3x3 s2", 3, 320, 16, 3, 2),
    _layer("AlexNet 3x224 to 64, 11x11 s4", 3, 224, 64, 11, 4, 2),
    _layer("AlexNet 96x27 to 256, 5x5, 2 groups", 96, 27, 256, 5, groups=2),
    _layer("super-resolution 64x128 to 3, 3x3", 64, 128, 3, 3),
    _layer("YOLO 64x80 to 64, 3x3", 64, 80, 64, 3),
    _layer("YOLO 256x20 to 255, 1x1", 256, 20, 255, 1),
    _layer("Inception 192x17 to 192, 1x7", 192, 17, 192, (1, 7)),
    _layer("Inception 192x17 to 192, 7x1", 192, 17, 192, (7, 1)),
    _layer("Inception 288x35 to 384, 3x3 s2", 288, 35, 384, 3, 2, 0),
    _layer("Inception 48x35 to 64, 5x5", 48, 35, 64, 5),
    _layer("ShuffleNet 240x28 to 240, 1x1, 3 groups", 240, 28, 240, 1, groups=3),
    _layer("ResNeXt 256x28 to 256, 3x3, 32 groups", 256, 28, 256, 3, groups=32),
    _layer("ResNeXt 256x56 to 256, 3x3 s2, 32 groups", 256, 56, 256, 3, 2, groups=32),
    _layer("ShuffleNet 272x28 to 272, 1x1, 8 groups", 272, 28, 272, 1, groups=8),
    _layer("32x40 to 32, 3x3, 16 groups", 32, 40, 32, 3, groups=16),
    _layer("SqueezeNet 16x55 to 64, 3x3", 16, 55, 64, 3),
    _layer("SqueezeNet 128x55 to 16, 1x1", 128, 55, 16, 1),
    _layer("WaveNet 64x4096 to 64, 2, dilation 64", 64, (4096,), 64, (2,), padding=0, dilation=64),
    _layer("sound 1x16000 to 64, 80 s4", 1, (16000,), 64, (80,), 4, 0),
    _layer("video 3x16x56 to 32, 3x3x3", 3, (16, 56, 56), 32, 3),
    _layer("video 32x8x28 to 64, 3x3x3", 32, (8, 28, 28), 64, 3),
    _layer("odd 13x37 to 21, 3x3", 13, 37, 21, 3),
    _layer("odd 100x33 to 50, 3x3", 100, 33, 50, 3),
    _layer("odd 2x101 to 10, 5x5", 2, 101, 10, 5),
    _layer("odd 30x23 to 70, 1x1", 30, 23, 70, 1),
)

GRADIENTS = tuple(
    replace(layer, batch=batch, name=f"{layer.name}, batch {batch}")
    for batch in (8, 64)
    for layer in (
        _layer("64x56 to 64, 3x3", 64, 56, 64, 3),
        _layer("64x56 to 256, 1x1", 64, 56, 256, 1),
        _layer("128x28 to 128, 3x3", 128, 28, 128, 3),
        _layer("128x56 to 128, 3x3 s2", 128, 56, 128, 3, 2),
        _layer("256x14 to 256, 3x3", 256, 14, 256, 3),
        _layer("512x7 to 512, 3x3", 512, 7, 512, 3),
        _layer("MobileNet 96x14 to 576, 1x1", 96, 14, 576, 1),
        _layer("depthwise 144x56, 3x3", 144, 56, 144, 3, groups=144),
        _layer("depthwise 144x56, 3x3 s2", 144, 56, 144, 3, 2, groups=144),
        _layer("depthwise 576x14, 3x3", 576, 14, 576, 3, groups=576),
        _layer("lecture 1x28 to 25, 3x3", 1, 28, 25, 3, padding=0),
        _layer("lecture 25x13 to 50, 3x3", 25, 13, 50, 3, padding=0),
    )
)

POOLINGS = tuple(
    pooling
    for kind in ("max", "avg")
    for pooling in (
        Pooling(f"{kind} 64x112, 3x3 s2", kind, 1, 64, 112, 3, 2, 1),
        Pooling(f"{kind} 64x112, 2x2 s2", kind, 1, 64, 112, 2, 2),
        Pooling(f"{kind} 192x28, 3x3 s1", kind, 1, 192, 28, 3, 1, 1),
        Pooling(f"{kind} 1024x7, 7x7 global", kind, 1, 1024, 7, 7, 7),
        Pooling(f"{kind} 64x111, 3x3 s2 ceil_mode", kind, 1, 64, 111, 3, 2, 0, True),
        Pooling(f"{kind} batch 64, 25x26, 2x2 s2", kind, 64, 25, 26, 2, 2),
    )
) + (
    Pooling("max 64x112, 3x3 s2, with indices", "max", 1, 64, 112, 3, 2, 1, return_indices=True),
    Pooling("max 64x112, 2x2 s2, with indices", "max", 1, 64, 112, 2, 2, return_indices=True),
)

CONVOLUTIONS = {"layers": LAYERS, "networks": NETWORKS}
SUITES = ("layers", "networks", "plain", "pooling", "gradients", "training", "call")


def with_batch(layers: tuple[Layer, ...], batch: int) -> tuple[Layer, ...]:
    """The layers of batch 1 with another batch; those that have one of their own keep it."""
    return tuple(replace(layer, batch=batch) if layer.batch == 1 else layer for layer in layers)
