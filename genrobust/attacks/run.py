"""attack(): one attack on a few images, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from genrobust.arguments import classes, several, whole, whole_seed
from genrobust.attacks.base import AttackResult, make_attack
from genrobust.batch import Batch
from genrobust.errors import GenrobustError, in_a_line
from genrobust.judges.judge import Judge
from genrobust.models.inputs import pixels, require_model
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import left_as_it_was
from genrobust.modes import outside, plain_modes
from genrobust.seeding import seeded
from genrobust.threat import ThreatModel


@plain_modes()
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
        x: sources, (B, C, H, W) in [0, 1]; like all images and labels here a tensor or an array.
            Images are taken in float32 (in float64 if they and the weights are), and all goes to
            the model's device.
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
        GenrobustError: unknown names; images of a wrong shape or out of range; labels that are not
            classes of the judge, one an image; anything of another kind; what the attack cannot do.

    Example:
        >>> import genrobust
        >>> model = genrobust.load_model("vae")
        >>> x = genrobust.load_images("digits").take(range(4))
        >>> found = genrobust.attack("latent", model, x, target=x.flip(0), eps=0.1, steps=10)
        >>> bool(((found.x_adv - x).abs() <= 0.1 + 1e-6).all())
        True
    """
    recipe = make_attack(name, settings)
    model = require_model(model)
    x = pixels("x", x, model)
    if target is not None:
        target = pixels("target", target, model)
        _require_one_each("target", target, x)
    judge = _judge(judge, x)
    known = None if judge is None else judge.logits(x[:1]).shape[1]
    batch = Batch(
        x,
        _ids(sample_ids, x),
        whole_seed(seed),
        _labels("labels", labels, x, known),
        target,
        _labels("target_labels", target_labels, x, known),
        judge,
        _references(references, model),
    )
    with left_as_it_was(model), seeded(x.device, "attack", batch.seed, batch.sample_ids):
        return recipe(model, batch, ThreatModel(norm, eps))


@torch.no_grad()
def _judge(given: object, x: Tensor) -> Judge | None:
    if given is None:
        return None
    if not isinstance(given, Judge):
        raise GenrobustError(
            f"judge is a {type(given).__name__}; pass a judge, such as "
            "judge=genrobust.load_judge('digits', 'lenet')"
        )
    judge = given.to(x.device)
    try:
        judge.logits(x[:1])
    except RuntimeError as problem:
        raise GenrobustError(
            f"the judge '{judge.name}' cannot look at images of shape {tuple(x.shape[1:])} "
            f"({in_a_line(problem)}); pass one that was trained on such images"
        ) from problem
    return judge


def _labels(name: str, given: object, x: Tensor, known: int | None) -> Tensor | None:
    """Classes, one an image; ``known`` is how many the judge tells apart."""
    if given is None:
        return None
    found = outside(_classes(name, given, known)).to(x.device)
    _require_one_each(name, found, x)
    return found


def _classes(name: str, given: object, known: int | None) -> Tensor:
    found = classes(name, given)
    if found.ndim != 1:
        raise GenrobustError(f"{name} has shape {tuple(found.shape)}; give (B,), one an image")
    low, high = (int(found.min()), int(found.max())) if len(found) else (0, 0)
    if low < 0 or (known is not None and high >= known):
        allowed = "from 0 up" if known is None else f"from 0 to {known - 1}, as the judge has them"
        raise GenrobustError(f"{name} go from {low} to {high}; classes are {allowed}")
    return found


def _references(given: object, model: GenerativeModel) -> tuple[Tensor, Tensor] | None:
    if given is None:
        return None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise GenrobustError(
            f"references is a {type(given).__name__}; pass two: references=(images, labels)"
        )
    images = pixels("references[0]", given[0], model)
    labels = outside(_classes("references[1]", given[1], None)).to(model.device)
    _require_one_each("references[1]", labels, images)
    return images, labels


def _ids(given: object, x: Tensor) -> tuple[int, ...]:
    if given is None:
        return tuple(range(len(x)))
    found = several("sample_ids", given, whole, 0)
    _require_one_each("sample_ids", found, x)
    if len(set(found)) < len(found):
        raise GenrobustError(
            "sample_ids has an id twice, and they key the random draws; give each image its own"
        )
    return found


def _require_one_each(name: str, given: Sized, x: Tensor) -> None:
    if len(given) != len(x):
        raise GenrobustError(f"{name} has {len(given)} entries for {len(x)} images; give one each")
