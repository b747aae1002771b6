"""Why a convolution takes the algorithm it takes, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _arguments as arg
from . import _core
from .conv import window


@dataclass(frozen=True)
class Candidate:
    """One row of the algorithm table, asked about one problem.

    Attributes
    ----------
    name : str
        What ``algorithm=`` takes.
    chosen : bool
        Whether this is the one that the call runs.
    reason : str
        Why it refuses the problem; "" where it can do it.
    cycles : float
        Its own estimate of its cost, in processor cycles; 0.0 where it refuses. A number to compare rows by.
    workspace_bytes : int
        Scratch memory of a call, in bytes.
    """

    name: str
    chosen: bool
    reason: str
    cycles: float
    workspace_bytes: int


@dataclass(frozen=True)
class Explanation:
    """How a convolution would run; ``str()`` of it is a table.

    Attributes
    ----------
    problem : str
        The problem as the planner sees it: direction, dtype, layout, shapes and each axis.
    output_shape : tuple of int
        Shape of the result.
    flops : float
        Floating-point operations of the definition: two per multiply-add, whatever the algorithm saves.
    bytes : float
        Size of input, filters and output together: what has to cross the memory bus at least.
    isa : str
        Instruction set that the kernels would use; of a GPU its architecture, such as "sm_90".
    threads : int
        Threads that the call would use at most; of a GPU its multiprocessors.
    candidates : tuple of Candidate
        Every algorithm, in table order.
    """

    problem: str
    output_shape: tuple[int, ...]
    flops: float
    bytes: float
    isa: str
    threads: int
    candidates: tuple[Candidate, ...]

    @property
    def algorithm(self) -> str:
        """Name of the algorithm that the call runs."""
        return next(row.name for row in self.candidates if row.chosen)

    @property
    def gflop(self) -> float:
        """`flops` in units of 10**9."""
        return self.flops / 1e9

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: floating-point operations per byte of input, filters and output."""
        return self.flops / self.bytes

    def __str__(self) -> str:
        worker = "multiprocessor" if self.isa.startswith("sm_") else "thread"
        lines = [
            self.problem,
            f"output {self.output_shape}, {self.gflop:.3g} GFLOP, {self.intensity:.3g} FLOP per byte, "
            f"{self.isa}, {self.threads} {worker}{'s' if self.threads > 1 else ''}",
            f"  {'algorithm':<12} {'est. Mcycles':>12} {'scratch KiB':>12}",
        ]
        for row in self.candidates:
            mark = ">" if row.chosen else " "
            if row.reason:
                lines.append(f"{mark} {row.name:<12} refuses: {row.reason}")
            else:
                lines.append(f"{mark} {row.name:<12} {row.cycles / 1e6:>12.4g} {row.workspace_bytes / 1024:>12.4g}")
        return "\n".join(lines)


def _array_or_shape(name: str, value: Any) -> Any:
    return value if isinstance(value, np.ndarray) or arg.on_device(value) else arg.shape(name, value)


def explain(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    *,
    layout: str = "NCHW",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "fp32",
    dtype: Any = None,
    direction: str = "forward",
    prepared: bool = False,
) -> Explanation:
    """Tell which algorithm a convolution would use, what each one would cost, and why it refuses if it does.

    Nothing is computed and no element is read. Costs are estimates of the planner, not measurements.

    Parameters
    ----------
    x, weight, bias : ndarray or sequence of int
        The arrays of the call, or only their shapes. A `weight` of three axes means :func:`conv1d`, of four
        :func:`conv2d`, of five :func:`conv3d`. Where one of them is on a GPU, the answer is that GPU's.
    stride, padding, dilation, groups, layout, activation, algorithm, precision
        As in :func:`conv2d`.
    dtype : dtype, optional
        float32, float64, float16 or bfloat16; that of the arrays by default, or float32 where there is none.
    direction : {"forward", "input_gradient", "weight_gradient"}, default "forward"
        The convolution, or one of its gradients for the same shapes (`bias` and `activation` are None then). A
        transposed convolution runs as the input gradient of the convolution whose output shape is its input.
    prepared : bool, default False
        Ask for a plan (:func:`plan_conv2d`), whose filters are packed beforehand: a call pays for that each time.
        No choice of a GPU depends on it.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        As the call itself would.

    Examples
    --------
    >>> import fastconv
    >>> plan = fastconv.explain((1, 64, 56, 56), (128, 64, 3, 3), padding=1)
    >>> plan.output_shape, plan.gflop
    ((1, 128, 56, 56), 0.462422016)
    """
    w = _array_or_shape("weight", weight)
    axes = len(w) if isinstance(w, tuple) else len(w.shape)
    spatial = axes - 2 if 3 <= axes <= 5 else 2
    image, offset = _array_or_shape("x", x), None if bias is None else _array_or_shape("bias", bias)
    on_device = [array for array in (image, w, offset) if arg.on_device(array)]
    module: Any = arg.engine(on_device[0]) if on_device else _core
    found = module.explain_conv(
        f"conv{spatial}d",
        image,
        w,
        offset,
        "" if dtype is None else np.dtype(dtype).name,
        arg.text("direction", direction),
        window(spatial, stride, padding, dilation, groups, layout, activation, algorithm, precision),
        arg.flag("prepared", prepared),
    )
    return Explanation(
        problem=found["problem"],
        output_shape=found["result_shape"],
        flops=found["flops"],
        bytes=found["bytes"],
        isa=found["isa"],
        threads=found["threads"],
        candidates=tuple(Candidate(*row) for row in found["rows"]),
    )
