"""Optimisers: what a step does to each parameter, given its gradient. The updates are those of ``torch.optim``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import _core
from .nn.parameter import Parameter


class Optimizer:
    """Base of the optimisers.

    Parameters
    ----------
    parameters : iterable of Parameter
        What ``model.parameters()`` gives.
    lr : float
        Learning rate; may be changed between steps.

    Attributes
    ----------
    parameters : list of Parameter
    lr : float
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("parameters is empty: expected at least one Parameter")
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"parameters has a {type(parameter).__name__}: expected fastconv.nn.Parameter")
        self.lr = _number("lr", lr)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                self._update(i, parameter.data, parameter.grad)

    def _update(self, i: int, data: np.ndarray, grad: np.ndarray) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no update")


class SGD(Optimizer):
    """Stochastic gradient descent; ``torch.optim.SGD``.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, default 1e-3
    momentum : float, default 0
        Share of the last step that is kept.
    dampening : float, default 0
        Share of the gradient that the momentum leaves out.
    weight_decay : float, default 0
        Multiple of the parameter that is added to its gradient.
    nesterov : bool, default False
        Look ahead by one momentum (Sutskever et al., On the importance of initialization and momentum in deep
        learning, 2013); needs `momentum` and no `dampening`.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        self.momentum = _number("momentum", momentum)
        self.dampening = float(dampening)
        self.weight_decay = _number("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(f"nesterov with momentum={momentum} and dampening={dampening}: expected momentum above 0 "
                             "and no dampening")  # fmt: skip
        self._momenta: list[np.ndarray | None] = [None] * len(self.parameters)
        # One array per parameter for what a step computes on its way, so that steps allocate nothing.
        self._scratch = [np.empty_like(parameter.data) for parameter in self.parameters]

    def _update(self, i: int, data: np.ndarray, grad: np.ndarray) -> None:
        scratch = self._scratch[i]
        if self.weight_decay:
            np.multiply(data, self.weight_decay, out=scratch)
            scratch += grad
            grad = scratch
        if self.momentum:
            momentum = self._momenta[i]
            if momentum is None:
                momentum = self._momenta[i] = grad.copy()
            else:
                momentum *= self.momentum
                if self.dampening:
                    grad = np.multiply(grad, 1 - self.dampening, out=scratch)
                momentum += grad
            grad = grad + self.momentum * momentum if self.nesterov else momentum
        data -= np.multiply(grad, self.lr, out=scratch)


class Adam(Optimizer):
    """Adam; ``torch.optim.Adam`` (Kingma and Ba, Adam: a method for stochastic optimization, 2015).

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float, default 1e-3
    betas : (float, float), default (0.9, 0.999)
        Share of the past in the running averages of the gradient and of its square.
    eps : float, default 1e-8
        Added to the root of the second one.
    weight_decay : float, default 0
        Multiple of the parameter that is added to its gradient.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(parameters, lr)
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ValueError(f"betas[{i}]={beta}: expected at least 0 and below 1")
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps, self.weight_decay = _number("eps", eps), _number("weight_decay", weight_decay)
        self._steps = [0] * len(self.parameters)
        self._means = [np.zeros(parameter.shape, parameter.dtype) for parameter in self.parameters]
        self._squares = [np.zeros(parameter.shape, parameter.dtype) for parameter in self.parameters]

    def _update(self, i: int, data: np.ndarray, grad: np.ndarray) -> None:
        self._steps[i] += 1
        steps, (beta1, beta2) = self._steps[i], self.betas
        # The averages are kept without their factors, 1 - beta: they and the corrections for the first steps are here.
        root = math.sqrt((1 - beta2**steps) / (1 - beta2))
        rate = self.lr * (1 - beta1) / (1 - beta1**steps) * root
        values = data if data.flags.carray else data.copy("C")
        averages = self._means[i], self._squares[i]
        grad = grad.astype(data.dtype, copy=False)
        _core.adam(values, grad, *averages, beta1, beta2, self.weight_decay, self.eps * root, rate)
        if values is not data:
            data[...] = values


def _number(name: str, value: Any) -> float:
    if not value >= 0:
        raise ValueError(f"{name}={value!r}: expected at least 0")
    return float(value)
