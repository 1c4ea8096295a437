"""What the defences have in common: a random model made of another, and noise by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genrobust.arguments import real, whole
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import one_id_each, require_positive
from genrobust.models.model import GenerativeModel
from genrobust.models.networks import ConvVAE
from genrobust.models.reading.modules import qualified_name
from genrobust.seeding import generator


def defended(model: GenerativeModel, what: str, draws: int, **changed: Any) -> GenerativeModel:
    """The model with a defence that draws random numbers.

    Args:
        model: the one below.
        what: the defence and its settings, for the name and the fingerprint.
        draws: how many make a score.
        changed: its new ``encoder``, ``decoder`` or ``deploy``.

    Raises:
        GenrobustError: it draws random numbers already, or draws is below 2.
    """
    if model.draws > 1:
        raise GenrobustError(
            f"'{model.name}' draws random numbers already; put one such defence round a model"
        )
    if whole("draws", draws, 16) < 2:
        raise GenrobustError(f"draws is {draws}; a random defence needs 2 or more, such as 16")
    spec = {**model.spec, "defence": what}
    return replace(model, name=f"{model.name}, {what}", draws=draws, spec=spec, **changed)


def bare_network(model: GenerativeModel) -> ConvVAE | None:
    """The network whose weights alone make a model's reconstructions; None of any other model.

    None is where it is read by functions of one's own, or is of a class that changes it, as a
    bound on the network is none on those.
    """
    network = model.module
    if type(network) is not ConvVAE or model.draws > 1 or model.deploy is not None:
        return None
    own = {"encode": ConvVAE.encode, "decode": ConvVAE.decode}
    if any(model.spec.get(half) != qualified_name(function) for half, function in own.items()):
        return None
    return network if model.spec.get("value_range") == [0, 1] else None


def noise(x: Tensor, std: float) -> Tensor:
    """The images with Gaussian noise of the process's generators, not clipped."""
    return x + std * torch.randn_like(x)


def keyed_noise(image: Tensor, std: float, count: int, size: int, *key: object) -> Iterator[Tensor]:
    """Noisy copies (n, C, H, W) of one image (C, H, W), ``count`` in batches of ``size``."""
    draws = generator(*key)
    for first in range(0, count, size):
        shape = (min(size, count - first), *image.shape)
        yield image + std * torch.randn(shape, generator=draws).to(image)


def check_certificate(
    x: Tensor, std: float, sample_ids: Sequence[int], alpha: float, **counts: int
) -> None:
    """What both certificates of smoothing ask of their arguments.

    Raises:
        GenrobustError: one is out of its range.
    """
    require_positive(std=std)
    if not 0 < real("alpha", alpha) < 1:
        raise GenrobustError(f"alpha is {alpha}; give a chance between 0 and 1, such as 0.001")
    for name, count in counts.items():
        if whole(name, count, 100) < 1:
            raise GenrobustError(f"{name} is {count}; give 1 or more")
    one_id_each(sample_ids, len(x))
