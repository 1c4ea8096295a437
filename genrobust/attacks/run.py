"""attack(): one attack on a few images, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genrobust.attacks.base import AttackResult, make_attack
from genrobust.batch import Batch
from genrobust.errors import GenrobustError
from genrobust.judges.judge import Judge
from genrobust.models.model import GenerativeModel
from genrobust.threat import ThreatModel


def attack(
    name: str,
    model: GenerativeModel,
    x: Tensor,
    *,
    target: Tensor | None = None,
    labels: Tensor | None = None,
    target_labels: Tensor | None = None,
    judge: Judge | None = None,
    references: tuple[Tensor, Tensor] | None = None,
    eps: float = 0.1,
    norm: str = "linf",
    seed: int = 0,
    sample_ids: Sequence[int] | None = None,
    **settings: Any,
) -> AttackResult:
    """Run a registered attack.

    Args:
        name: such as ``"latent"``; all of them: ``genrobust list attacks``.
        model: from :func:`genrobust.wrap` or :func:`genrobust.load_model`.
        x: sources, (B, C, H, W) in [0, 1].
        target: images whose reconstruction to imitate; without them (and without
            ``target_labels``) the attack is untargeted.
        labels: the sources' classes, (B,) int64, for attacks that use a judge.
        target_labels: the targets' classes, likewise.
        judge: the attacker's classifier.
        references: labelled training images, for attacks on a class's mean or a probe.
        eps: the radius, in pixel units where white is 1; ``inf`` leaves only the box.
        norm: its name, such as ``"linf"`` or ``"l2"``.
        seed: of every random draw, together with the sample's id.
        sample_ids: one a source; default 0, 1, ...
        settings: the attack's own, such as ``steps=100``.

    Raises:
        GenrobustError: unknown names; images of a wrong shape or out of range; what the attack
            cannot do.

    Example:
        >>> import genrobust
        >>> model = genrobust.load_model("vae")
        >>> x = genrobust.load_images("digits").take(range(4))
        >>> found = genrobust.attack("latent", model, x, target=x.flip(0), eps=0.1, steps=10)
        >>> bool(((found.x_adv - x).abs() <= 0.1 + 1e-6).all())
        True
    """
    recipe = make_attack(name, settings)
    _check_images(x, model, "x")
    if target is not None:
        _check_images(target, model, "target")
    count = len(x)
    for what, given in (("target", target), ("labels", labels), ("target_labels", target_labels)):
        if given is not None and len(given) != count:
            raise GenrobustError(
                f"{what} has {len(given)} entries for {count} images; give one each"
            )
    ids = tuple(range(count)) if sample_ids is None else tuple(int(i) for i in sample_ids)
    if len(ids) != count:
        raise GenrobustError(f"sample_ids has {len(ids)} entries for {count} images; give one each")
    batch = Batch(x, ids, seed, labels, target, target_labels, judge, references)
    return recipe(model, batch, ThreatModel(norm, eps))


def _check_images(x: Tensor, model: GenerativeModel, what: str) -> None:
    if x.ndim != 4 or tuple(x.shape[1:]) != model.input_shape:
        raise GenrobustError(
            f"{what} has shape {tuple(x.shape)}; the model takes (B, "
            f"{', '.join(map(str, model.input_shape))})"
        )
    if not len(x):
        raise GenrobustError(f"{what} holds no images; pass at least one")
    if not x.is_floating_point():
        raise GenrobustError(
            f"{what} is {x.dtype}; pass floats in [0, 1], such as {what}.float() / 255"
        )
    low, high = float(x.min()), float(x.max())
    if not (torch.isfinite(x).all() and low >= 0 and high <= 1):
        raise GenrobustError(
            f"{what} has pixels from {low:.4g} to {high:.4g}; [0, 1] is allowed: divide bytes by "
            "255, or give wrap() the model's value_range and keep images in [0, 1]"
        )
