"""fastconv: convolution, pooling and the layers of a convolutional network for NumPy arrays.

Every function has the name, the argument order and the numerics of its namesake in ``torch.nn.functional``.
"""

from . import grad
from ._version import __version__
from .conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d

__all__ = [
    "__version__",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "grad",
]
