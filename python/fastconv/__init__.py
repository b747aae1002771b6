"""fastconv: convolution, pooling and the layers of a convolutional network for NumPy arrays.

Every function has the name, the argument order and the numerics of its namesake in ``torch.nn.functional``.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import _waiting as _waiting
from . import grad
from ._version import __version__
from .conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from .explanation import Explanation, explain
from .functional import flatten, linear, log_softmax, relu, softmax
from .introspection import (
    algorithms,
    get_num_threads,
    is_cuda_available,
    set_num_threads,
    show_config,
    threads,
)
from .matrix import conv2d_matrix
from .padding import pad
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
)
from .unpool import max_unpool1d, max_unpool2d, max_unpool3d

# What a user of the functions alone does not need is imported when it is first asked for.
_ON_DEMAND = ("cuda", "datasets", "nn", "optim", "viz")

if _TYPE_CHECKING:
    from . import cuda, datasets, nn, optim, viz

__all__ = [
    "ConvPlan",
    "Explanation",
    "__version__",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "algorithms",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv2d_matrix",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cuda",
    "datasets",
    "explain",
    "flatten",
    "get_num_threads",
    "grad",
    "is_cuda_available",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "nn",
    "optim",
    "pad",
    "plan_conv1d",
    "plan_conv2d",
    "plan_conv3d",
    "relu",
    "set_num_threads",
    "show_config",
    "softmax",
    "threads",
    "viz",
]


def __getattr__(name: str) -> _Any:
    if name in _ON_DEMAND:
        from importlib import import_module

        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND})
