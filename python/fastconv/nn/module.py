"""What every layer is: a forward pass that remembers, a backward pass that uses it, named parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .. import _arguments as arg
from .parameter import Parameter


class LoadResult(NamedTuple):
    """Keys that ``load_state_dict(..., strict=False)`` did not find, and those it found and did not know."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers, and of networks of your own.

    A subclass writes ``forward(x)``, which keeps in ``self`` what its backward pass will need, and
    ``backward(grad_output, *, input_grad=True)``, which adds to the ``grad`` of its parameters and returns the gradient
    with respect to x, or None where ``input_grad`` is False. Parameters and layers are attributes; their names, joined
    by dots, are the keys of ``state_dict``, as in torch. ``backward`` belongs to the latest ``forward``.
    """

    #: Names of the attributes that are saved but not trained.
    buffers: ClassVar[tuple[str, ...]] = ()

    training: bool = True

    def forward(self, x: Any) -> np.ndarray:
        """Compute the output."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad_output: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        """Add to the gradients of the parameters and return the gradient with respect to the input.

        Parameters
        ----------
        grad_output : ndarray
            Gradient of the loss with respect to what the latest ``forward`` returned, of its shape.
        input_grad : bool, default True
            False, for a first layer, saves computing a gradient that nobody reads.

        Returns
        -------
        ndarray or None
            Of the shape of the input; None with ``input_grad=False``.

        Raises
        ------
        RuntimeError
            There was no ``forward``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def __call__(self, x: Any) -> np.ndarray:
        return self.forward(x)

    def children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the layers that are attributes of this one, with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Iterate over this module and all below it, with the names that their parameters begin with."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Iterate over all parameters, with their names; one that is shared comes once, under its first name."""
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield _key(prefix, name), value

    def parameters(self) -> list[Parameter]:
        """Return all parameters."""
        return [parameter for _, parameter in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        """Switch dropout and batch normalisation to training, or with False to use; return the module."""
        for _, module in self.named_modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """Same as ``train(False)``."""
        return self.train(False)

    def to(self, device: str) -> Module:
        """Move the parameters and buffers to a GPU, to be used there, or back; return the module.

        On a GPU the layers that convolve, pool, flatten, multiply and take a ReLU compute on arrays that are there
        (:func:`fastconv.cuda.asarray`). What is only for NumPy arrays, such as ``backward``, optimisers, batch
        normalisation and losses, says so.

        Parameters
        ----------
        device : str
            "cpu", "cuda" or "cuda:1".

        Raises
        ------
        ValueError
            `device` is something else.
        RuntimeError
            There is no such device, no driver, or no CUDA kernels in this build; the message says which.
        """
        kind, _, number = arg.text("device", device).partition(":")
        if kind not in ("cpu", "cuda") or (number and (kind == "cpu" or not number.isdecimal())):
            raise ValueError(f"device={device!r}: expected 'cpu', 'cuda' or 'cuda:' and a number")
        for _, module in self.named_modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Parameter):
                    value.data, value.grad = _moved(value.data, kind, int(number or 0)), None
                elif name in module.buffers and value is not None:
                    setattr(module, name, _moved(value, kind, int(number or 0)))
                elif arg.on_device(value):
                    delattr(module, name)  # what a forward pass has left
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of all parameters and buffers under their torch names.

        ``numpy.savez(file, **model.state_dict())`` and ``safetensors.numpy.save_file(model.state_dict(), file)`` keep
        them; ``load_state_dict(numpy.load(file))`` reads them back.
        """
        return {key: _moved(array, "cpu").copy() for key, array in self._state()}

    def load_state_dict(self, arrays: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy values into the parameters and buffers.

        Parameters
        ----------
        arrays : mapping from str to array
            What :meth:`state_dict` gave, an opened .npz file, or the ``state_dict`` of a torch model on the CPU.
        strict : bool, default True
            Refuse where keys are missing or unexpected; with False these are left alone and returned.

        Returns
        -------
        LoadResult
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        ValueError
            Keys are missing or unexpected, or an array has another shape than its parameter; all of them are named,
            and nothing has been changed.
        TypeError
            `arrays` is no mapping, or an array does not hold real numbers.
        RuntimeError
            The module is on a GPU.
        """
        if any(arg.on_device(array) for _, array in self._state()):
            raise RuntimeError('the parameters are on a GPU: load into model.to("cpu"), then move it')
        if not hasattr(arrays, "keys") or not hasattr(arrays, "__getitem__"):
            raise TypeError(f"arrays is {type(arrays).__name__}: expected a mapping from names to arrays")
        state = dict(self._state())
        missing = [key for key in state if key not in arrays]
        unexpected = [key for key in arrays.keys() if key not in state]  # noqa: SIM118 (an NpzFile too)
        problems = []
        if strict and missing:
            problems.append(f"missing: {', '.join(missing)}")
        if strict and unexpected:
            problems.append(f"unexpected: {', '.join(map(str, unexpected))}")
        values = {key: _numbers(key, arrays[key]) for key in state if key not in missing}
        wrong = [f"{key} has shape {value.shape}, expected {state[key].shape}"
                 for key, value in values.items() if value.shape != state[key].shape]  # fmt: skip
        if wrong:
            problems.append(f"other shapes: {'; '.join(wrong)}")
        if problems:
            raise ValueError(f"arrays do not fit this {type(self).__name__}: " + "; ".join(problems))
        for key, value in values.items():
            np.copyto(state[key], value, casting="unsafe")
        return LoadResult(missing, unexpected)

    def _state(self) -> Iterator[tuple[str, np.ndarray]]:
        for prefix, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    yield _key(prefix, name), value.data
                elif name in module.buffers and value is not None:
                    yield _key(prefix, name), value

    def _saved(self, name: str) -> Any:
        """Return what ``forward`` kept under this name."""
        try:
            kept = vars(self)[name]
        except KeyError:
            raise RuntimeError(f"{type(self).__name__}.backward was called before forward") from None
        if arg.on_device(kept):
            raise NotImplementedError(f"{type(self).__name__}.backward computes on the processor: train before "
                                      'model.to("cuda")')  # fmt: skip
        return kept

    def extra_repr(self) -> str:
        """Return the arguments to show in ``repr``."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        if not children:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n  ".join([f"{type(self).__name__}(", *children]) + "\n)"


def _moved(array: Any, kind: str, number: int = 0) -> Any:
    """Return the array on the device, or as NumPy's; integers, which only batch normalisation counts, stay."""
    if kind == "cpu":
        return array if isinstance(array, np.ndarray) else array.numpy()
    if isinstance(array, np.ndarray) and array.dtype.kind != "f":
        return array
    from ..cuda import asarray

    return asarray(array if isinstance(array, np.ndarray) else array.numpy(), number)


def _key(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _numbers(key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{key} has dtype {array.dtype}: expected real numbers")
    return array
