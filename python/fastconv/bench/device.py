"""Timing on a GPU, against PyTorch's convolutions (cuDNN) and poolings as its users call them.

Everybody gets the same tensors. An answer is first compared with float64, computed by PyTorch on the same GPU. Then
calls are captured in a CUDA graph, one for each of as many inputs as are needed to pass the L2 cache, and the replays
are timed by events; the least time of a replay over its calls counts.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import fastconv

from .records import OURS, commit
from .suites import LAYERS, POOLINGS, Layer, Pooling, with_batch

TORCH = "torch"
# Of the largest value. fp32 as on the processor. A factor of 11 significant bits is off by 2^-11 at most, and 1000 of
# them average out; a result in float16 is rounded by 2^-11 of itself once more.
TOLERANCES = {"fp32": 3e-5, "tf32": 2e-3, "fp16": 2e-3}
LAYOUTS = {"NCHW": "NCHW", "NHWC": "channels_last"}
#: The layers of ResNet-50, VGG-16, MobileNetV2 and ResNeXt.
DEVICE_LAYERS = LAYERS[:22]
MOST_INPUTS = 128
WARM_CALLS = 3

Clock = Callable[[Sequence[Callable[[], Any]], float], float]


@dataclass
class DeviceRow:
    """One thing timed: seconds and errors by contender, and the least time that the ceilings allow."""

    name: str
    batch: int
    precision: str
    layout: str
    epilogue: str
    flops: float
    bytes: float
    tolerance: float
    algorithm: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    bound: float = 0.0

    @property
    def ratio(self) -> float:
        """PyTorch's time over ours."""
        return self.seconds[TORCH] / self.seconds[OURS]

    @property
    def wrong(self) -> bool:
        """Whether our answer is further from float64's than the precision allows."""
        return not self.errors[OURS] <= self.tolerance


@dataclass
class DeviceRun:
    """The rows, where they were measured, and what there was no time for."""

    rows: list[DeviceRow]
    place: dict[str, Any]
    left_out: int = 0

    def to_json(self) -> str:
        """Return the run as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class Case:
    """What one row asks."""

    what: Layer | Pooling
    precision: str
    layout: str
    epilogue: str

    @property
    def name(self) -> str:
        """Name of the layer or pooling."""
        return self.what.name


def cases(batches: Iterable[int], pattern: str = "") -> list[Case]:
    """Return what to time, in the order of importance: as users call it first, then bare convolutions."""
    found = []
    for epilogue, batch, precision, layout in product(("bias, ReLU", "bare"), batches, TOLERANCES, LAYOUTS):
        found += [Case(layer, precision, layout, epilogue) for layer in with_batch(DEVICE_LAYERS, batch)]
        if epilogue != "bare" and precision != "tf32":
            poolings = [p for p in POOLINGS if p.batch == 1]
            found += [Case(replace(p, batch=batch), precision, layout, "") for p in poolings]
    return [case for case in found if pattern.lower() in case.name.lower()]


def _numbers(torch: Any, shape: tuple[int, ...], seed: int, device: Any, dtype: Any, scale: float = 1.0) -> Any:
    generator = torch.Generator(device=device).manual_seed(seed)
    return (torch.randn(shape, generator=generator, device=device, dtype=torch.float32) * scale).to(dtype)


class Contenders:
    """Both sides of a case: calls on an input, and the answer in float64."""

    def __init__(self, case: Case, device: Any) -> None:
        import torch

        self.case, self.device = case, device
        self.torch: Any = torch
        self.dtype = torch.float16 if case.precision == "fp16" else torch.float32
        self.algorithm, self.flops = "", 0.0
        self.ours: Callable[[Any], Any]
        self.theirs: Callable[[Any], Any]
        self.exact: Callable[[Any], Any]
        if isinstance(case.what, Layer):
            self._convolution(case.what)
        else:
            self._pooling(case.what)

    def input(self, seed: int) -> Any:
        """Return an input, NCHW; its memory is in the order of the case's layout."""
        x = _numbers(self.torch, self.case.what.x_shape, seed, self.device, self.dtype)
        last = self.torch.channels_last if self.case.layout == "NHWC" else self.torch.contiguous_format
        return x.contiguous(memory_format=last)

    def own(self, x: Any) -> Any:
        """Return the same memory in our spelling, where NHWC is a shape."""
        return x.permute(0, 2, 3, 1) if self.case.layout == "NHWC" else x

    def back(self, y: Any) -> Any:
        """Return our result as NCHW."""
        return y.permute(0, 3, 1, 2) if self.case.layout == "NHWC" else y

    def _convolution(self, layer: Layer) -> None:
        torch, case = self.torch, self.case
        functional = torch.nn.functional
        scale = 1 / math.sqrt(math.prod(layer.w_shape[1:]))
        w = _numbers(torch, layer.w_shape, 1, self.device, self.dtype, scale)
        fused = case.epilogue != "bare"
        b = _numbers(torch, layer.w_shape[:1], 2, self.device, self.dtype) if fused else None
        shape = tuple(self.own(self.input(3)).shape)
        plan = fastconv.plan_conv2d(
            shape, w, b, **layer.window, layout=case.layout, activation="relu" if fused else None,
            precision=case.precision if case.precision == "tf32" else "fp32",
        )  # fmt: skip
        self.algorithm, self.ours = plan.algorithm, plan
        last = torch.channels_last if case.layout == "NHWC" else torch.contiguous_format
        tw = w.contiguous(memory_format=last)

        def theirs(x: Any) -> Any:
            y = functional.conv2d(x, tw, b, **layer.window)
            return torch.relu_(y) if fused else y

        def exact(x: Any) -> Any:
            y = functional.conv2d(x.double(), w.double(), None if b is None else b.double(), **layer.window)
            return torch.relu(y) if fused else y

        self.theirs, self.exact = theirs, exact
        size = plan.output_shape[1:3] if case.layout == "NHWC" else plan.output_shape[2:]
        self.flops = layer.flops(tuple(size))

    def _pooling(self, pooling: Pooling) -> None:
        functional, layout = self.torch.nn.functional, self.case.layout
        window = (pooling.kernel, pooling.stride, pooling.padding)
        indices = pooling.return_indices
        if pooling.kind == "max":
            rest = (1, pooling.ceil_mode, indices)
            self.ours = lambda x: fastconv.max_pool2d(x, *window, *rest, layout=layout)
            self.theirs = lambda x: functional.max_pool2d(x, *window, *rest)
            self.exact = lambda x: functional.max_pool2d(x.double(), *window, 1, pooling.ceil_mode)
        else:
            self.ours = lambda x: fastconv.avg_pool2d(x, *window, pooling.ceil_mode, layout=layout)
            self.theirs = lambda x: functional.avg_pool2d(x, *window, pooling.ceil_mode)
            self.exact = lambda x: functional.avg_pool2d(x.double(), *window, pooling.ceil_mode)


def _values(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _error(got: Any, want: Any) -> float:
    if got.shape != want.shape:
        return math.inf
    largest = max(float(want.abs().max()), 1e-30)
    error = float((got.double() - want).abs().max()) / largest
    return error if math.isfinite(error) else math.inf


def measure(case: Case, device: Any, clock: Clock, seconds: float, cache: int, ceilings: dict[str, float]) -> DeviceRow:
    """Check both sides of a case, then time them.

    Parameters
    ----------
    case : Case
    device : torch.device
    clock : callable
        Given calls and seconds, the least time of one of the calls, in seconds.
    seconds : float
        For each contender.
    cache : int
        Bytes of the L2 cache, which the inputs together pass.
    ceilings : dict
        Operations per second by precision, and bytes per second of a "copy".
    """
    sides = Contenders(case, device)
    torch = sides.torch
    with torch.inference_mode(), _tf32(torch, case.precision == "tf32"):
        x = sides.input(3)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False):  # once is not worth trying all its algorithms
            want = sides.exact(x)
        errors = {OURS: _error(sides.back(_values(sides.ours(sides.own(x)))), want),
                  TORCH: _error(_values(sides.theirs(x)), want)}  # fmt: skip
        moved = (x.numel() + want.numel()) * x.element_size()
        del want
        inputs = [x] + [sides.input(seed) for seed in range(4, 3 + min(MOST_INPUTS, 1 + 2 * cache // moved))]
        ours = [partial(sides.ours, sides.own(x)) for x in inputs]
        theirs = [partial(sides.theirs, x) for x in inputs]
        timed = {OURS: clock(ours, seconds), TORCH: clock(theirs, seconds)}
    bound = max(sides.flops / ceilings[case.precision], moved / ceilings["copy"])
    return DeviceRow(
        case.name, case.what.batch, case.precision, case.layout, case.epilogue, sides.flops, float(moved),
        TOLERANCES[case.precision], sides.algorithm, timed, errors, bound,
    )  # fmt: skip


class _tf32:
    """PyTorch's switches for rounded factors, on or off inside a ``with`` block."""

    def __init__(self, torch: Any, allowed: bool) -> None:
        self.switches = (torch.backends.cudnn, torch.backends.cuda.matmul)
        self.allowed = allowed

    def __enter__(self) -> None:
        self.before = [switch.allow_tf32 for switch in self.switches]
        for switch in self.switches:
            switch.allow_tf32 = self.allowed

    def __exit__(self, *reason: object) -> None:
        for switch, before in zip(self.switches, self.before, strict=True):
            switch.allow_tf32 = before


def replayed(calls: Sequence[Callable[[], Any]], seconds: float) -> float:
    """Capture the calls in one graph and return the least time of a replay over their number, in seconds."""
    import torch

    cuda: Any = torch.cuda
    side = cuda.Stream()
    side.wait_stream(cuda.current_stream())
    with cuda.stream(side):
        for _ in range(WARM_CALLS):
            calls[0]()
    cuda.current_stream().wait_stream(side)
    graph, kept = cuda.CUDAGraph(), []
    with cuda.graph(graph):
        for call in calls:
            kept.append(call())
    begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
    best, until, rounds = math.inf, time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < until:
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        rounds += 1
        best = min(best, begin.elapsed_time(end) / 1e3)
    return best / len(calls)


def measured_ceilings(clock: Clock) -> dict[str, float]:
    """Measure what the device reaches at best: products of large square matrices, and a copy larger than the cache."""
    import torch

    found = {}
    for precision, dtype, allowed in (("fp32", torch.float32, False), ("tf32", torch.float32, True),
                                      ("fp16", torch.float16, True)):  # fmt: skip
        a, b = (torch.randn(8192, 8192, device="cuda").to(dtype) for _ in range(2))
        with torch.inference_mode(), _tf32(torch, allowed):
            found[precision] = 2 * 8192**3 / clock([partial(torch.mm, a, b)], 0.2)
    # Our fp32 runs on tensor cores as three products of rounded factors: that may pass the units of float32 alone.
    found["fp32"] = max(found["fp32"], found["tf32"] / 3)
    source = torch.ones(1 << 28, device="cuda")
    target = torch.empty_like(source)
    with torch.inference_mode():
        found["copy"] = 2 * source.numel() * 4 / clock([lambda: target.copy_(source)], 0.2)
    return found


def run_device(
    batches: Iterable[int] = (1, 32),
    pattern: str = "",
    seconds: float = 0.03,
    minutes: float = math.inf,
    progress: Callable[[list[Any]], Iterable[Any]] = iter,
) -> DeviceRun:
    """Time everything, or as much as there is time for.

    Parameters
    ----------
    batches : iterable of int, default (1, 32)
        Images per call.
    pattern : str, default ""
        Only what has this in its name, in either case.
    seconds : float, default 0.03
        Time for each contender of each row, in seconds; three replays are made however long they take.
    minutes : float, optional
        Begin no row after this time.
    progress : callable, default iter
        Wraps the list of what is timed, as ``tqdm`` does.

    Returns
    -------
    DeviceRun

    Raises
    ------
    ValueError
        Nothing has the pattern in its name, or no device can be used; the message says why.
    ImportError
        There is no PyTorch with CUDA, which has the peers, the graphs and the clock.
    """
    if reason := fastconv.cuda.why_not():
        raise ValueError(f"--device cuda: {reason}")
    import torch

    if not torch.cuda.is_available():
        raise ImportError("--device cuda needs a PyTorch that can use the device, for graphs, clock and peers")
    wanted = cases(batches, pattern)
    if not wanted:
        raise ValueError(f"--filter: nothing has {pattern!r} in its name")
    end = time.monotonic() + 60 * minutes
    torch.backends.cudnn.benchmark = True
    ceilings = measured_ceilings(replayed)
    cache = int(getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)) or 64 << 20
    rows = list(_until(end, progress(wanted), cache, seconds, ceilings))
    return DeviceRun(rows, {**describe_device(), "ceilings": ceilings, "l2_bytes": cache}, len(wanted) - len(rows))


def _until(
    end: float, wanted: Iterable[Case], cache: int, seconds: float, ceilings: dict[str, float]
) -> Iterator[DeviceRow]:
    import torch

    for case in wanted:
        if time.monotonic() > end:
            return
        yield measure(case, torch.device("cuda"), replayed, seconds, cache, ceilings)


def describe_device() -> dict[str, Any]:
    """Device, driver and versions of a run; nothing that names the host or a path of it."""
    import torch

    import fastconv.cuda._loader as loader

    module, cudnn = loader.engine(), torch.backends.cudnn  # type: Any, Any
    return {
        "device": torch.cuda.get_device_name(0),
        "architecture": module.architecture(0),
        "multiprocessors": torch.cuda.get_device_properties(0).multi_processor_count,
        "driver": module.driver(),
        "compiler": module.compiler,
        "built_for": module.architectures,
        "torch": torch.__version__,
        "cudnn": cudnn.version(),
        "fastconv": fastconv.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }
