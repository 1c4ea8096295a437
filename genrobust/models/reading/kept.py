"""What a module holds, put back after code that may write to it has run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrobust.plugins import is_ours

#: The most numbers of which weights are copied: hardly a forward writes to them, and of a large
#: model there may be no room for a second.
MOST = 2**24


class Numbers:
    """The numbers that tensors hold now. Code may write into them, also past autograd by ``.data``.

    Args:
        named: the tensors by name; of other kinds than plain ones nothing is kept.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        self._numbers = [(n, t, t.data, t.data.clone()) for n, t in named if _is_plain(t)]

    def written(self) -> list[str]:
        """The names of those that hold other numbers of the same shape."""
        return [name for name, tensor, _, numbers in self._numbers if _is_moved(tensor, numbers)]

    def put_back(self) -> list[str]:
        """Put all back; the names of what held other numbers of the same shape."""
        written = self.written()
        # What was made in this mode is written to in it alone.
        with torch.inference_mode():
            for _, tensor, data, numbers in self._numbers:
                if tensor.data_ptr() != data.data_ptr():
                    tensor.data = data
                if _is_moved(data, numbers):
                    data.copy_(numbers)
        return written


class Held:
    """A module's weights and buffers as they are now: which tensors these are, and their numbers.

    Args:
        module: what holds them.
        weights: whether the numbers of weights are kept too, up to ``MOST`` of them, and not of
            buffers alone.
    """

    def __init__(self, module: nn.Module, weights: bool = True) -> None:
        self._parts = [
            (path, part, dict(part._parameters), dict(part._buffers))
            for path, part in _parts(module)
        ]
        self._weights = [(weight, weight.data) for weight in module.parameters()]
        weights = weights and sum(weight.numel() for weight, _ in self._weights) <= MOST
        named = [*module.named_buffers(), *(module.named_parameters() if weights else ())]
        self._numbers = Numbers(named)

    def put_back(self) -> list[str]:
        """Put all back.

        Returns:
            The names of what now held other numbers of the same shape: of no cache that has grown.
        """
        written = self._written()
        for _, part, parameters, buffers in self._parts:
            part._parameters.update(parameters)
            part._buffers.update(buffers)
        for weight, data in self._weights:
            weight.data = data
        self._numbers.put_back()
        return written

    def _written(self) -> list[str]:
        found = self._numbers.written()
        for path, part, parameters, buffers in self._parts:
            for own, before in ((part._parameters, parameters), (part._buffers, buffers)):
                for name, tensor in before.items():
                    if own.get(name) is not tensor and _is_moved(own.get(name), tensor):
                        found.append(f"{path}.{name}".removeprefix("."))
        return list(dict.fromkeys(found))


class Attributes:
    """What else a module's parts hold: their mode, values such as counts, random generators.

    Each attribute is put back to what it stood for, and a generator to its state; not what has
    changed within a list, a dictionary or another object. Only where nobody uses the module
    meanwhile: a count would be taken back under it, and draws would come twice.
    """

    def __init__(self, module: nn.Module) -> None:
        self._held = [(part, dict(vars(part))) for _, part in _parts(module)]
        values = (value for _, held in self._held for value in held.values())
        self._states = [state for value in values if (state := _state_of(value)) is not None]

    def put_back(self) -> None:
        """Put all back; new attributes stay, and so do parts and tensors in a value's place."""
        for part, held in self._held:
            taken = {*part._parameters, *part._buffers, *part._modules}
            vars(part).update({name: one for name, one in held.items() if name not in taken})
        for put_back_state in self._states:
            put_back_state()


class Manner:
    """How a module works beside its numbers: its parts, which of them train, and their hooks.

    Hooks of ours come and go meanwhile, as passes in other threads record the layers' outputs.
    """

    def __init__(self, module: nn.Module) -> None:
        named = _parts(module)
        self._modes = [(path, part, part.training) for path, part in named]
        self._tables = [
            (path, name, table, _not_ours(name, table))
            for path, part in named
            for name, table in vars(part).items()
            if isinstance(table, dict) and (name == "_modules" or "hooks" in name)
        ]

    def put_back(self) -> list[str]:
        """Put all back.

        Returns:
            What was otherwise, in words, each with the name of its part.
        """
        changed = []
        for path, part, training in self._modes:
            if part.training != training:
                changed.append(f"mode of '{path}'" if path else "mode")
                part.training = training
        for path, name, table, before in self._tables:
            now = _not_ours(name, table)
            if [*now.items()] != [*before.items()]:
                what = "parts" if name == "_modules" else "hooks"
                changed.append(f"{what} of '{path}'" if path else what)
                for key in now:
                    table.pop(key, None)
                table.update(before)
        return list(dict.fromkeys(changed))


@contextmanager
def kept(module: nn.Module) -> Iterator[list[str]]:
    """Put a module's weights and buffers back at the end; the list then names what was written to.

    >>> layer = nn.BatchNorm1d(2)
    >>> with kept(layer) as written:
    ...     _ = layer(torch.ones(3, 2))
    >>> written, layer.running_mean
    (['running_mean', 'running_var', 'num_batches_tracked'], tensor([0., 0.]))
    """
    held, written = Held(module), list[str]()
    try:
        yield written
    finally:
        written += held.put_back()


def _parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """A module's parts by name; TorchScript keeps its own, which have no mode once frozen."""
    named = module.named_modules()
    return [(path, part) for path, part in named if not isinstance(part, torch.jit.ScriptModule)]


def _state_of(value: object) -> Callable[[], object] | None:
    """What puts a random generator back to where it is now; None of anything else."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state(legacy=False))
    if isinstance(value, np.random.Generator):
        value = value.bit_generator
    if isinstance(value, np.random.BitGenerator):
        return partial(setattr, value, "state", value.state)
    return None


def _not_ours(name: str, table: dict[Any, Any]) -> dict[Any, Any]:
    """What a module's table holds, without the hooks that are ours."""
    held = dict(table)  # at once, as other threads add to it and take away
    return {key: one for key, one in held.items() if name == "_modules" or not is_ours(one)}


def _is_plain(tensor: Tensor) -> bool:
    """Whether it holds numbers in a row, of which a copy can be made and compared."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.layout == torch.strided
        and not (tensor.is_meta or tensor.is_quantized or tensor.is_nested)
    )


def _is_moved(tensor: Tensor | None, before: Tensor | None) -> bool:
    """Whether one of the same shape has other numbers; NaN is a number here."""
    if tensor is None or before is None or not (_is_plain(tensor) and _is_plain(before)):
        return False
    if tensor.shape != before.shape or tensor.dtype != before.dtype:
        return False
    if tensor.device != before.device or torch.equal(tensor, before):
        return False
    return not torch.equal(tensor.nan_to_num(), before.nan_to_num())
