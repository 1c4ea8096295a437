"""The caller's torch modes, kept out of what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor


@contextmanager
def plain_modes() -> Iterator[None]:
    """Gradients as usual, float32, no autocast, the CPU by default; then the caller's modes again.

    They are the caller's again also where the code within has set others.

    In inference mode ``enable_grad`` alone changes nothing: what rests on gradients would find
    none, and an attack would not move.

    Example:
        >>> with torch.inference_mode(), plain_modes():
        ...     (torch.ones(2, requires_grad=True) * 2).requires_grad
        True
    """
    dtype = torch.get_default_dtype()
    # As a mode it takes time in every call of torch's, so only where it changes something. A tensor
    # is asked, as torch 2.4 tells of no device that a caller's `with` has set.
    place = torch.empty(0).device
    elsewhere = place != torch.device("cpu")
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.device("cpu") if elsewhere else nullcontext(),
            ExitStack() as casting,
        ):
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    casting.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.empty(0).device != place:
            torch.set_default_device(place if elsewhere else None)


def outside(tensor: Tensor) -> Tensor:
    """A tensor that autograd may keep: one made in inference mode is copied."""
    return tensor.clone() if tensor.is_inference() else tensor
