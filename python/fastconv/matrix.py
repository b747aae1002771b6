"""A convolution layer written as the matrix of a fully connected one: most weights missing, the rest tied."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _arguments as arg
from .conv import conv2d
from .functional import float_array


def conv2d_matrix(
    weight: Any,
    input_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    sparse: bool = False,
) -> Any:
    """Matrix that does to a flattened image what :func:`fastconv.conv2d` does to the image.

    Row ``(o * H_out + i) * W_out + j`` is output pixel (i, j) of filter o, column ``(c * H + y) * W + x`` is pixel
    (y, x) of channel c. Every row of a filter carries the same weights at other places; all else is zero.

    Parameters
    ----------
    weight : ndarray, shape (out_channels, C / groups, kernel_height, kernel_width)
        float32 or float64.
    input_size : (int, int) or (int, int, int)
        H and W of the image, or C, H and W.
    stride, padding, dilation, groups
        As in :func:`fastconv.conv2d`.
    sparse : bool, default False
        Return a ``scipy.sparse.csr_array``; needs SciPy (``pip install scipy``).

    Returns
    -------
    ndarray or scipy.sparse.csr_array, shape (out_channels * H_out * W_out, C * H * W)
        Of the dtype of `weight`; ``matrix @ x.ravel()`` is ``conv2d(x, weight, ...).ravel()``. The sparse form
        stores every weight that meets a pixel, also one that is zero.

    Raises
    ------
    ValueError, TypeError
        As :func:`fastconv.conv2d`.
    ImportError
        `sparse` without SciPy.

    Examples
    --------
    >>> import numpy as np, fastconv
    >>> fastconv.conv2d_matrix(np.array([[[[1.0, 2.0]]]]), (1, 1, 4))
    array([[1., 2., 0., 0.],
           [0., 1., 2., 0.],
           [0., 0., 1., 2.]])
    """
    filters = float_array("weight", weight)
    size = arg.shape("input_size", input_size)
    if filters.ndim != 4 or 0 in filters.shape:
        raise ValueError(f"weight has shape {filters.shape}: expected (out_channels, C / groups, height, width)")
    if len(size) == 2:
        size = (filters.shape[1] * arg.integer("groups", groups), *size)
    if len(size) != 3:
        raise ValueError(f"input_size={size}: expected (height, width) or (channels, height, width)")
    if min(size) < 1:
        raise ValueError(f"input_size={size}: expected numbers of at least 1")
    out_c, group_in_c = filters.shape[:2]
    count = arg.integer("groups", groups)
    if count < 1 or out_c % count:
        raise ValueError(f"groups={count}: expected a divisor of the {out_c} filters of weight, at least 1")
    # A filter that is 1 at one tap and 0 elsewhere, run over an image of pixel numbers, says which pixel that tap
    # sees at each place. Numbers start at 1, because 0 is the padding; float64 holds them exactly.
    taps = group_in_c * filters.shape[2] * filters.shape[3]
    finders = np.tile(np.eye(taps).reshape(taps, *filters.shape[1:]), (count, 1, 1, 1))
    pixels = np.arange(1.0, math.prod(size) + 1).reshape(size)
    seen = conv2d(pixels, finders, None, stride, padding, dilation, groups, algorithm="exact")
    places = seen.shape[1] * seen.shape[2]
    found = seen.reshape(count, 1, taps, places).astype(np.int64) - 1
    columns = np.broadcast_to(found, (count, out_c // count, taps, places)).reshape(out_c, taps, places)
    rows = np.arange(out_c * places).reshape(out_c, 1, places)
    met = columns >= 0
    values = np.broadcast_to(filters.reshape(out_c, taps, 1), columns.shape)[met]
    where = (np.broadcast_to(rows, columns.shape)[met], columns[met])
    shape = (out_c * places, math.prod(size))
    if sparse:
        return _sparse(values, where, shape)
    matrix = np.zeros(shape, filters.dtype)
    matrix[where] = values
    return matrix


def _sparse(values: np.ndarray, where: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> Any:
    try:
        from scipy.sparse import csr_array
    except ImportError:
        raise ImportError("conv2d_matrix(sparse=True) needs SciPy: pip install scipy") from None
    return csr_array((values, where), shape=shape)
