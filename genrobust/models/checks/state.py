"""What a model keeps from one call to the next: it must not show in its results."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.errors import GenrobustError, GenrobustWarning, ran_out_of_memory
from genrobust.models.checks.fidelity import reads_alone
from genrobust.models.model import GenerativeModel

#: By how much a result may differ where it should not: what kernels differ by.
TOLERANCE = 1e-5


def use(
    model: GenerativeModel, x: Tensor, pause: Callable[[], None] = lambda: None
) -> list[Tensor]:
    """Everything that a run asks of a model: codes, reconstructions, the gradient.

    Args:
        model: what is used.
        x: images.
        pause: called between one call of the model and the next.
    """
    with torch.no_grad():
        posterior = model.encode(x)
        pause()
        image = model.decode(posterior.mode())
        pause()
        found = [*posterior.tensors(), image, model.reconstruct(x)]
        pause()
    if not model.differentiable:
        return found
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        surrogate = model.surrogate(x, "softmax")
        pause()
        if surrogate.requires_grad:
            (gradient,) = torch.autograd.grad(surrogate.square().sum(), x, allow_unused=True)
            found += [] if gradient is None else [gradient]
    return found


@torch.no_grad()
def check_history(model: GenerativeModel, x: Tensor) -> None:
    """Check that a model, which is not random, gives the same whatever went through it before.

    It is said where decode takes more than its code: what encode kept of the images.

    Args:
        model: the model to try.
        x: at least two images (B, C, H, W) in [0, 1].

    Raises:
        GenrobustError: it does not, or it changes what it was given or has given before; or decode
            takes what encode kept of images that go through it in pieces.
    """
    posterior = model.encode(x)
    codes = posterior.tensors()
    given = [tensor.clone() for tensor in codes]
    image = model.decode(posterior.mode())
    if not all(map(torch.equal, codes, given)):
        raise GenrobustError(
            "decode changes the codes that it is given; work on a copy there, such as code.clone(),"
            " and not with operations in place (those whose names end in _)"
        )
    reconstruction = model.reconstruct(x)
    found = [*codes, image, reconstruction]
    before = [tensor.clone() for tensor in found]
    model.reconstruct(x[-1:])
    if not all(map(torch.equal, found, before)):
        raise GenrobustError(
            "what the model gave for a batch changes when it is given the next one, as it keeps "
            "one tensor for both; let encode and decode return new ones, such as mean.clone()"
        )
    moved = float((model.reconstruct(x) - before[-1]).abs().max())
    if moved > TOLERANCE:
        raise GenrobustError(
            f"the reconstruction of an image changes with what went through the model before it "
            f"(by up to {moved:.2g}); let encode and decode keep nothing from one call to the next "
            "that a later result depends on: no counters, moving averages, caches of inputs or "
            "random generators of their own"
        )
    other = x.roll(1, -1)  # as many, as decode may keep their number alone
    if _takes_more(model, posterior.mode(), image, other):
        _say_more(model, x)


def _takes_more(model: GenerativeModel, code: Tensor, image: Tensor, other: Tensor) -> bool:
    """Whether decode gives a code's image no more once encode has seen another."""
    model.encode(other)
    try:
        return float((model.decode(code) - image).abs().max()) > TOLERANCE
    except GenrobustError as problem:
        if ran_out_of_memory(problem):
            raise
        return True


def _say_more(model: GenerativeModel, x: Tensor) -> None:
    words = "decode takes more than its code: what encode kept of the images before it"
    mend = "let encode return all that decode takes"
    if reads_alone(model, x):
        mend = "pass encode=torch.nn.Identity() to read it by its forward alone"
    if model.max_batch is not None and model.max_batch < len(x):
        raise GenrobustError(
            f"{words}, which of {len(x)} images in pieces of {model.max_batch}, as max_batch= or "
            f"--batch-size says, are the last piece; leave that out, or {mend}"
        )
    warnings.warn(
        f"{model.name}: {words}, of which attacks on the code know nothing; {mend}",
        GenrobustWarning,
        stacklevel=2,
    )
