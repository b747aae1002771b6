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
from .pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)

__all__ = [
    "ConvPlan",
    "Explanation",
    "__version__",
    "algorithms",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
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
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]
