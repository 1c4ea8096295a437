"""Parts of a module through which a gradient is passed straight, as they cut it.

A quantiser that is evaluated looks its code up and gives no gradient, or rounds it and gives one
that is 0. As in training (Bengio, Leonard & Courville 2013; van den Oord et al. 2017) that of what
it gives stands in for that of what it is given. What it gives stays as it is, to the bit.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from genrobust.seeding import generator

Result = TypeVar("Result")


def straight_through(
    function: Callable[[Tensor], Result], module: nn.Module, parts: Sequence[str]
) -> Callable[[Tensor], Result]:
    """The function, which passes the gradient straight through these parts of the module.

    Args:
        function: code that uses the module.
        module: what has the parts.
        parts: their names in it.

    Example:
        >>> class Rounded(nn.Module):
        ...     def forward(self, x):
        ...         return x.detach().round()
        >>> module = nn.Sequential(nn.Linear(1, 1), Rounded())
        >>> x = torch.ones(1, 1, requires_grad=True)
        >>> module(x).requires_grad, straight_through(module, module, ["1"])(x).requires_grad
        (False, True)
    """

    def given(x: Tensor) -> Result:
        with ExitStack() as stack:
            for name in parts:
                stack.enter_context(_hooked(module.get_submodule(name), _passed))
            return function(x)

    return given


def cut_in(module: nn.Module, run: Callable[[], object]) -> list[str]:
    """The innermost parts of a module that give no gradient, or 0, of what has one, and its shape.

    Args:
        module: what has the parts.
        run: uses the module on images that want a gradient.

    Example:
        >>> class Rounded(nn.Module):
        ...     def forward(self, x):
        ...         return x.detach().round()
        >>> module = nn.Sequential(nn.Linear(1, 1), Rounded())
        >>> cut_in(module, lambda: module(torch.ones(1, 1, requires_grad=True)))
        ['1']
    """
    cutting: set[str] = set()
    flat = defaultdict[str, list[Tensor]](list)
    with ExitStack() as stack:
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):

                def look(x: Tensor, output: object, name: str = name) -> None:
                    alike = [leaf for leaf in tree_leaves(output) if _is_alike(x, leaf)]
                    if any(map(_is_cut, alike)):
                        cutting.add(name)
                    elif alike and all(_is_flat(x, leaf) for leaf in alike):
                        flat[name] += alike[0].detach()

                stack.enter_context(_hooked(part, look))
        run()
    # What gives one for all images, such as units that died, says nothing of them.
    cutting |= {n for n, each in flat.items() if any(not torch.equal(y, each[0]) for y in each)}
    return sorted(n for n in cutting if not any(other.startswith(f"{n}.") for other in cutting))


@contextmanager
def _hooked(part: nn.Module, see: Callable[[Tensor, Any], Any]) -> Iterator[None]:
    """Within it, shows what a part is given that wants a gradient, and all that it gives."""
    thread = threading.get_ident()

    def seen(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        if threading.get_ident() != thread or not torch.is_grad_enabled():
            return None
        x = next((one for one in tree_leaves((given, named)) if _wants(one)), None)
        return None if x is None else see(x, output)

    handle = part.register_forward_hook(seen, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _passed(x: Tensor, output: Any) -> Any:
    alike = [leaf for leaf in tree_leaves(output) if _is_alike(x, leaf)]
    # Of a part that rounds, all have a gradient, and it is 0.
    cut = [*filter(_is_cut, alike)] or alike
    # Adds nothing to it: 0 with a gradient.
    return tree_map(
        lambda leaf: (
            leaf + (x - x.detach()).to(leaf.dtype) if any(leaf is one for one in cut) else leaf
        ),
        output,
    )


def _is_alike(x: Tensor, leaf: object) -> TypeGuard[Tensor]:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.shape == x.shape


def _is_cut(leaf: Tensor) -> bool:
    return not leaf.requires_grad


def _is_flat(x: Tensor, leaf: Tensor) -> bool:
    """Whether its gradient is 0."""
    weights = torch.rand(leaf.shape, generator=generator("straight")).to(leaf)
    (gradient,) = torch.autograd.grad((weights * leaf).sum(), x, retain_graph=True)
    return not gradient.any()


def _wants(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.requires_grad
