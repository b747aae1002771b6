"""The functions of ``_core`` for arrays on a GPU; ``fastconv._arguments.engine`` chooses between the two."""

from __future__ import annotations

from typing import Any

from .._arguments import on_device
from ._call import Call, refuse_elsewhere
from ._loader import engine

Window = tuple[Any, ...]


def conv(
    op: str, x: Any, weight: Any, bias: Any, residual: Any, window: Window, output_padding: Any, out: Any,
    pooled: bool = False,
) -> Any:  # fmt: skip
    """See ``_core.conv``; `pooled` returns the maxima of 2 x 2 results with stride 2 alone."""
    module, call = engine(), Call("x", x)
    views = call.view("x", x), call.view("weight", weight), call.optional("bias", bias)
    added = call.optional("residual", residual)
    return call.finish(
        module.conv(call, op, *views, added, window, output_padding, call.optional("out", out), pooled), out
    )


def remember_conv(
    op: str, name: Any, x: Any, weight: Any, bias: Any, spelled: Window, window: Window, pooled: bool = False
) -> None:
    """See ``_core.remember_conv``; `name` is the first argument of ``conv_again``."""
    engine().remember_conv(op, name, x, weight, bias, spelled, window, pooled, Call)


def conv_input_gradient(
    op: str, input_size: tuple[int, ...], weight: Any, grad_output: Any, window: Window, out: Any
) -> Any:
    """See ``_core.conv_input_gradient``."""
    module, call = engine(), Call("grad_output", grad_output)
    w, y = call.view("weight", weight), call.view("grad_output", grad_output)
    return call.finish(module.conv_input_gradient(call, op, input_size, w, y, window, call.optional("out", out)), out)


def conv_weight_gradient(
    op: str, input: Any, weight_size: tuple[int, ...], grad_output: Any, window: Window, out: Any
) -> Any:
    """See ``_core.conv_weight_gradient``."""
    module, call = engine(), Call("input", input)
    x, y = call.view("input", input), call.view("grad_output", grad_output)
    return call.finish(module.conv_weight_gradient(call, op, x, weight_size, y, window, call.optional("out", out)), out)


def pool(op: str, x: Any, window: Window, return_indices: bool, out: Any) -> Any:
    """See ``_core.pool``."""
    module, call = engine(), Call("x", x)
    return call.finish(module.pool(call, op, call.view("x", x), window, return_indices, call.optional("out", out)), out)


def remember_pool(op: str, x: Any, spelled: Window, window: Window) -> None:
    """See ``_core.remember_pool``."""
    engine().remember_pool(op, x, spelled, window, Call)


def average_pool_gradient(op: str, input_size: tuple[int, ...], grad_output: Any, window: Window, out: Any) -> Any:
    """See ``_core.average_pool_gradient``."""
    module, call = engine(), Call("grad_output", grad_output)
    y = call.view("grad_output", grad_output)
    return call.finish(module.average_pool_gradient(call, op, input_size, y, window, call.optional("out", out)), out)


def max_pool_gradient(
    op: str, spatial: int, input_size: tuple[int, ...], grad_output: Any, indices: Any, layout: str, out: Any
) -> Any:
    """See ``_core.max_pool_gradient``."""
    module, call = engine(), Call("grad_output", grad_output)
    y, index = call.view("grad_output", grad_output), call.view("indices", indices)
    found = module.max_pool_gradient(call, op, spatial, input_size, y, index, layout, call.optional("out", out))
    return call.finish(found, out)


def max_unpool(op: str, x: Any, indices: Any, window: Window, out: Any) -> Any:
    """See ``_core.max_unpool``."""
    module, call = engine(), Call("x", x)
    views = call.view("x", x), call.view("indices", indices)
    return call.finish(module.max_unpool(call, op, *views, window, call.optional("out", out)), out)


def max_unpool_gradient(op: str, grad_output: Any, indices: Any, window: Window, out: Any) -> Any:
    """See ``_core.max_unpool_gradient``."""
    module, call = engine(), Call("grad_output", grad_output)
    views = call.view("grad_output", grad_output), call.view("indices", indices)
    return call.finish(module.max_unpool_gradient(call, op, *views, window, call.optional("out", out)), out)


def relu(x: Any, inplace: bool) -> Any:
    """See :func:`fastconv.relu`."""
    module, call = engine(), Call("x", x)
    result = call.finish(module.relu(call, call.view("x", x), inplace))
    return x if inplace else result


def softmax(x: Any, dim: int, logarithm: bool) -> Any:
    """See :func:`fastconv.softmax` and :func:`fastconv.log_softmax`; `dim` counts from the front."""
    module, call = engine(), Call("x", x)
    return call.finish(module.softmax(call, call.view("x", x), dim, logarithm))


def pad(x: Any, pads: list[tuple[int, int]], mode: str, value: float) -> Any:
    """See :func:`fastconv.pad`; `pads` has a pair for every axis."""
    module, call = engine(), Call("x", x)
    return call.finish(module.pad(call, call.view("x", x), pads, mode, value))


def explain_conv(
    op: str, x: Any, weight: Any, bias: Any, dtype: str, direction: str, window: Window, prepared: bool
) -> Any:
    """See ``_core.explain_conv``; arrays are on the GPU of the first one, or shapes."""
    given = {"x": x, "weight": weight, "bias": bias}
    call = Call(*next((name, value) for name, value in given.items() if on_device(value)))
    like = "dtype" if dtype else call.name
    shapes: list[tuple[int, ...] | None] = []
    for name, value in given.items():
        if value is None or isinstance(value, tuple):
            shapes.append(value)
            continue
        _, _, shape, found, _, _ = call.view(name, value)
        dtype = dtype or found
        if found != dtype:
            raise TypeError(f"{name} has dtype {found}: expected {dtype} like {like}")
        shapes.append(shape)
    return engine().explain_conv(call, op, *shapes, dtype, direction, window)


class PreparedConv:
    """See ``_core.PreparedConv``."""

    def __init__(self, op: str, x_shape: tuple[int, ...], weight: Any, bias: Any, window: Window) -> None:
        module, call = engine(), Call("weight", weight)
        views = call.view("weight", weight), call.optional("bias", bias)
        self._prepared = module.PreparedConv(call, op, x_shape, *views, window)
        self.algorithm: str = self._prepared.algorithm
        self.problem: str = self._prepared.problem
        self.x_shape: tuple[int, ...] = self._prepared.x_shape
        self.y_shape: tuple[int, ...] = self._prepared.y_shape
        self.packed_bytes: int = self._prepared.packed_bytes
        self.workspace_bytes: int = self._prepared.workspace_bytes

    def __call__(self, x: Any, residual: Any = None, out: Any = None) -> Any:
        refuse_elsewhere("x", x, "the plan's weight")
        call = Call("x", x)
        views = call.view("x", x), call.optional("residual", residual), call.optional("out", out)
        result = call.finish(self._prepared.call(call, *views), out)
        if residual is None and out is None:
            self._prepared.remember(call, x)
        return result

    def again(self) -> Any:
        """See ``_core.PreparedConv``."""
        return self._prepared.again()
