"""Of a module that fails on a batch: how many images it takes at once, and what to type."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from genrobust.models.checks.halves import own_halves
from genrobust.models.model import FORWARD_ALONE, GenerativeModel
from genrobust.models.reading.adapters import is_batch
from genrobust.models.reading.forward import pictures_in
from genrobust.models.reading.precision import own_images

#: What is tried: an export, or a ``view`` in the code, may name any of these.
SIZES = (*range(1, 11), 12, 16, 20, 24, 25, 30, 32, 40, 48, 50, 60, 64, 80, 96, 100, 128, 144, 256)
#: The most pixels of one trial.
MOST = 2**22


@torch.no_grad()
def size_taken(model: GenerativeModel, what: str, x: Tensor, given: Tensor) -> str | None:
    """What to type of a module that takes another number at once; None of one that takes none.

    Args:
        model: one of which a stage fails.
        what: the stage: ``"encode"``, ``"decode"`` or ``"deploy"``.
        x: images (B, C, H, W) in [0, 1].
        given: they, or their codes, on which the stage fails.
    """
    sizes = (size for size in SIZES if size * x[0].numel() <= MOST)
    least = next((size for size in sizes if _takes(model, what, given, size)), None)
    if least is None:
        return None
    if least > 1:
        line = _line(model, _filled(x, least)) or "encode= and decode= that fill each batch up"
        return model.typed.put(
            f"it takes batches of {least} alone, as an export of a fixed batch does: export or "
            "build it for any number, such as by torch.export.export(vae, (x,), dynamic_shapes="
            f"({{0: torch.export.Dim('batch')}},)), or pass {line} and max_batch={least}"
        )
    most = 1
    while most + 1 < len(given) and _takes(model, what, given, most + 1):
        most += 1
    often = "one" if most == 1 else f"no more than {most}"
    return (
        f"it takes {often} at once: give max_batch= or --batch-size, such as max_batch={most} or "
        f"--batch-size {most}"
    )


def _filled(given: Tensor, size: int) -> Tensor:
    return given[torch.arange(size) % len(given)]


def _takes(model: GenerativeModel, what: str, given: Tensor, size: int) -> bool:
    """Whether a stage gives as much as it is given, of that size."""
    model = replace(model, max_batch=size)
    stage = {"encode": model.encode, "decode": model.decode, "deploy": model.reconstruct}[what]
    with suppress(Exception):  # other people's code
        stage(_filled(given, size))
        return True
    return False


def _line(model: GenerativeModel, x: Tensor) -> str | None:
    """What fills batches up to that size, and takes what was asked for; None if it is not known."""
    x_filled, z_filled = (f"{name}[torch.arange({len(x)}) % len({name})]" for name in "xz")
    halves, own = own_halves(model), own_images(model, x, None)
    with suppress(Exception):  # other people's code
        if model.spec.get(FORWARD_ALONE):
            found = pictures_in(model.network(own), tuple(x.shape), f"module({x_filled})")
            (path,) = [path for path, _ in found]
            return f"encode=torch.nn.Identity(), decode=lambda x: {path}[: len(x)]"
        if halves is None:
            return None
        output, encode = halves[0](own), f"module.encode({x_filled})"
        if isinstance(output, Tensor):
            encode += "[: len(x)]"
        elif isinstance(output, (tuple, list)) and all(map(is_batch, output)):
            encode = f"[t[: len(x)] for t in {encode}]"
        else:
            return None
        decode = f"module.decode({z_filled})[: len(z)]"
        return f"encode=lambda x: {encode}, decode=lambda z: {decode}"
    return None
