"""Random numbers held still while other people's code draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: The most draws in one call of forward: rejection sampling never ends where noise stands still.
ENDLESS = 1000

_released = ContextVar("released", default=False)


@contextmanager
def released() -> Iterator[None]:
    """Noise is drawn, also where it is held: what is a sample shows by being another each time."""
    token = _released.set(True)
    try:
        yield
    finally:
        _released.reset(token)


class HeldNoise(TorchDispatchMode):
    """Hold what is drawn at its middle, and normal numbers so many deviations above it.

    Uniform numbers at their middle are a Laplace variable's mean and a Gumbel variable's tie, by
    which the likeliest class wins. A level of None draws.

    Args:
        level: of normal numbers.
        count: of draws of so many numbers alone; others then stay at their middle.
    """

    def __init__(self, level: float | None, count: int | None = None) -> None:
        super().__init__()
        self.level, self.count, self.drawn = level, count, list[int]()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: else torch loads its compiler for it, which takes seconds; nothing is compiled."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _HELD or _released.get():
            return found
        self.drawn.append(found.numel() if name in _NORMAL else 0)
        if self.level is None:
            return found
        if len(self.drawn) > ENDLESS:
            raise RuntimeError("forward draws until something fits")
        level = self.level if self.count in (None, found.numel()) else 0.0
        still = _HELD[name](level, found, args, kwargs or {})
        return found.copy_(still) if name.endswith("_") else still


def _normal(level: float, found: Tensor, args: Any, kwargs: Any) -> Tensor:
    """normal(mean, std) of two numbers or tensors; the first argument may be the tensor itself."""
    inplace = args[1:] if args and args[0] is found else args
    mean = kwargs.get("mean", inplace[0] if inplace else 0.0)
    std = kwargs.get("std", inplace[1] if len(inplace) > 1 else 1.0)
    return torch.zeros_like(found) + mean + level * std


def _uniform(level: float, found: Tensor, args: Any, kwargs: Any) -> Tensor:
    low = kwargs.get("from", args[1] if len(args) > 1 else 0.0)
    high = kwargs.get("to", args[2] if len(args) > 2 else 1.0)
    return torch.full_like(found, (low + high) / 2)


_HELD: dict[str, Callable[[Any, Tensor, Any, Any], Tensor]] = {
    "normal_": _normal,
    "normal": _normal,
    "randn": lambda level, found, args, kwargs: torch.full_like(found, level),
    "randn_like": lambda level, found, args, kwargs: torch.full_like(found, level),
    "uniform_": _uniform,
    "rand": lambda level, found, args, kwargs: torch.full_like(found, 0.5),
    "rand_like": lambda level, found, args, kwargs: torch.full_like(found, 0.5),
    "exponential_": lambda level, found, args, kwargs: torch.ones_like(found),
    "multinomial": lambda level, found, args, kwargs: (
        args[0].argmax(-1, keepdim=True).expand_as(found)
    ),
    "bernoulli": lambda level, found, args, kwargs: (args[0] > 0.5).to(found),
    "_standard_gamma": lambda level, found, args, kwargs: args[0],
    "_sample_dirichlet": lambda level, found, args, kwargs: args[0] / args[0].sum(-1, True),
}
_NORMAL = ("normal_", "normal", "randn", "randn_like")
