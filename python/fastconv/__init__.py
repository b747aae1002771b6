"""fastconv: convolution, pooling and the layers of a convolutional network for NumPy arrays.

Every function has the name, the argument order and the numerics of its namesake in ``torch.nn.functional``.
"""

from . import grad
from ._version import __version__
from .conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .explanation import Explanation, explain
from .introspection import (
    algorithms,
    get_num_threads,
    is_cuda_available,
    set_num_threads,
    show_config,
    threads,
)
from .plan import ConvPlan, plan_conv1d, plan_conv2d, plan_conv3d

__all__ = [
    "ConvPlan",
    "Explanation",
    "__version__",
    "algorithms",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "explain",
    "get_num_threads",
    "grad",
    "is_cuda_available",
    "plan_conv1d",
    "plan_conv2d",
    "plan_conv3d",
    "set_num_threads",
    "show_config",
    "threads",
]
