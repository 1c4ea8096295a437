"""What a module holds, put back after code that may write to it has run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: The most numbers of which weights are copied: hardly a forward writes to them, and of a large
#: model there may be no room for a second.
MOST = 2**24


class Held:
    """A module's weights and buffers as they are now: which tensors these are, and their numbers.

    Code may put others in their place or write into them, also past autograd by ``.data``.

    Args:
        module: what holds them.
        weights: whether the numbers of weights are kept too, up to ``MOST`` of them, and not of
            buffers alone.
    """

    def __init__(self, module: nn.Module, weights: bool = True) -> None:
        # TorchScript keeps its own parts.
        self._parts = [
            (path, part, dict(part._parameters), dict(part._buffers))
            for path, part in module.named_modules()
            if not isinstance(part, torch.jit.ScriptModule)
        ]
        self._weights = [(weight, weight.data) for weight in module.parameters()]
        weights = weights and sum(weight.numel() for weight, _ in self._weights) <= MOST
        named = [*module.named_buffers(), *(module.named_parameters() if weights else ())]
        self._numbers = [(n, t, t.data, t.data.clone()) for n, t in named if _is_plain(t)]

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
        # What was made in this mode is written to in it alone.
        with torch.inference_mode():
            for _, tensor, data, numbers in self._numbers:
                if tensor.data_ptr() != data.data_ptr():
                    tensor.data = data
                if _is_moved(data, numbers):
                    data.copy_(numbers)
        return written

    def _written(self) -> list[str]:
        found = [name for name, tensor, _, numbers in self._numbers if _is_moved(tensor, numbers)]
        for path, part, parameters, buffers in self._parts:
            for own, before in ((part._parameters, parameters), (part._buffers, buffers)):
                for name, tensor in before.items():
                    if own.get(name) is not tensor and _is_moved(own.get(name), tensor):
                        found.append(f"{path}.{name}".removeprefix("."))
        return list(dict.fromkeys(found))


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
