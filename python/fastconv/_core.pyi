from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np

__version__: str

class _Config(TypedDict):
    version: str
    compiler: str
    isa: str
    isas_available: list[str]
    threading: str
    threads: int
    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int

class _Explained(TypedDict):
    problem: str
    result_shape: tuple[int, ...]
    flops: float
    bytes: float
    isa: str
    threads: int
    rows: list[tuple[str, bool, str, float, int]]

# `window` is what fastconv.conv.window returns.
def conv(
    op: str,
    x: Any,
    weight: Any,
    bias: Any,
    residual: Any,
    window: tuple[Any, ...],
    output_padding: Any,
    out: Any,
) -> np.ndarray: ...

# `spelled` is what fastconv.conv.window gets behind `spatial`. None: the call has not come before.
def conv_again(spatial: Any, x: Any, weight: Any, bias: Any, spelled: tuple[Any, ...], /) -> np.ndarray | None: ...
def remember_conv(
    op: str,
    spatial: int,
    x: np.ndarray,
    weight: Any,
    bias: Any,
    spelled: tuple[Any, ...],
    window: tuple[Any, ...],
) -> None: ...
def conv_input_gradient(
    op: str,
    input_size: tuple[int, ...],
    weight: Any,
    grad_output: Any,
    window: tuple[Any, ...],
    out: Any,
) -> np.ndarray: ...
def conv_weight_gradient(
    op: str,
    input: Any,
    weight_size: tuple[int, ...],
    grad_output: Any,
    window: tuple[Any, ...],
    out: Any,
) -> np.ndarray: ...
def explain_conv(
    op: str,
    x: Any,
    weight: Any,
    bias: Any,
    dtype: str,
    direction: str,
    window: tuple[Any, ...],
    prepared: bool,
) -> _Explained: ...

# `window` is what fastconv.pool.window, fastconv.pool.adaptive_window or fastconv.unpool.window returns. With
# return_indices the result is a pair.
def pool(op: str, x: Any, window: tuple[Any, ...], return_indices: bool, out: Any) -> Any: ...
def pool_again(op: str, x: Any, spelled: tuple[Any, ...], /) -> np.ndarray | None: ...
def remember_pool(op: str, x: Any, spelled: tuple[Any, ...], window: tuple[Any, ...]) -> None: ...
def average_pool_gradient(
    op: str, input_size: tuple[int, ...], grad_output: Any, window: tuple[Any, ...], out: Any
) -> np.ndarray: ...
def max_pool_gradient(
    op: str, spatial: int, input_size: tuple[int, ...], grad_output: Any, indices: Any, layout: str, out: Any
) -> np.ndarray: ...
def max_unpool(op: str, x: Any, indices: Any, window: tuple[Any, ...], out: Any) -> np.ndarray: ...
def max_unpool_gradient(op: str, grad_output: Any, indices: Any, window: tuple[Any, ...], out: Any) -> np.ndarray: ...
def adam(
    data: np.ndarray,
    grad: Any,
    mean: np.ndarray,
    square: np.ndarray,
    beta1: float,
    beta2: float,
    decay: float,
    eps: float,
    rate: float,
) -> None: ...
def config() -> _Config: ...
def algorithms() -> list[str]: ...
def algorithm_errors() -> dict[str, float]: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def multiply_add_rounds(rounds: int) -> int: ...
def hold_isa(isa_name: str) -> None: ...
def hold_serial_cycles(cycles: float) -> None: ...

class PreparedConv:
    def __init__(self, op: str, x_shape: tuple[int, ...], weight: Any, bias: Any, window: tuple[Any, ...]) -> None: ...
    def __call__(self, x: Any, residual: Any = None, out: Any = None) -> np.ndarray: ...
    def again(self) -> Callable[[Any, Any], np.ndarray | None]: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def x_shape(self) -> tuple[int, ...]: ...
    @property
    def y_shape(self) -> tuple[int, ...]: ...
    @property
    def packed_bytes(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...
