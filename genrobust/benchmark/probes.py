"""Short runs that tell not how robust a model is, but whether attacks on it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.attacks.base import Attack, make_attack
from genrobust.attacks.classifier import Classifier
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Problem
from genrobust.seeding import per_sample, seed_of
from genrobust.suites.suite import AttackEntry
from genrobust.threat import Norm, ThreatModel

#: Gradients of a short attack.
STEPS = 20

#: How far an image is moved, per pixel, to see whether its gradient stays what it is.
NUDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The evidence of short attacks, and what they found on the way.

    Args:
        signs: ``gradient_norm`` (B,): of the judge's margin on the surrogate reconstruction, at
            the sources; ``gradient_cosine`` (B,): with the gradient a thousandth of the pixel
            range away; ``surrogate_label`` and ``deployed_label`` (B,): the attacker's judge's;
            ``probe.success`` and ``probe.again`` (E, B) bool: whether a short attack, run at each
            radius afresh and from two different starts, fools the attacker's judge.
        positions: of the eligible sources.
        x_adv: for each radius their images from the first start.
        forwards, backwards: of both starts, (E,).
    """

    signs: dict[str, Tensor]
    positions: Tensor
    x_adv: list[Tensor]
    forwards: Tensor
    backwards: Tensor


def diagnose(
    model: GenerativeModel, batch: Batch, eligible: Tensor, norm: Norm, eps: Sequence[float]
) -> Diagnosis:
    """The evidence for the flags, for an untargeted batch with labels and a judge."""
    still = still_signs(model, batch)
    positions = eligible.nonzero()[:, 0]
    attack = Classifier(steps=STEPS, confidence=0.0)
    counts = torch.zeros(2, len(eps), dtype=torch.int64)
    success = torch.zeros(2, len(eps), len(batch), dtype=torch.bool, device=batch.x.device)
    x_adv = []
    for e, radius in enumerate(eps):
        for start, seed in enumerate((batch.seed, seed_of("again", batch.seed))):
            part = replace(batch, seed=seed)[positions]
            if not len(positions):
                x_adv.append(part.x)
                break
            found = attack(model, part, ThreatModel(norm, radius))
            assert found.success is not None
            success[start, e, positions] = found.success
            counts[:, e] += torch.stack([found.forwards.sum(), found.backwards.sum()]).cpu()
            if start == 0:
                x_adv.append(found.x_adv)
    signs = {**still, "probe.success": success[0], "probe.again": success[1]}
    return Diagnosis(signs, positions, x_adv, counts[0], counts[1])


def still_signs(model: GenerativeModel, batch: Batch) -> dict[str, Tensor]:
    """The evidence that needs no attack: ``gradient_norm`` to ``deployed_label`` of `Diagnosis`."""
    assert batch.judge is not None
    here, near = _gradients(model, batch)
    with torch.no_grad():
        surrogate = batch.judge.labels(model.surrogate(batch.x, "softmax"))
        deployed = batch.judge.labels(model.reconstruct(batch.x))
    return {
        "gradient_norm": torch.linalg.vector_norm(here, dim=1),
        "gradient_cosine": F.cosine_similarity(here, near),
        "surrogate_label": surrogate,
        "deployed_label": deployed,
    }


def longer_attack(attacks: Sequence[AttackEntry]) -> Attack:
    """The suite's attack on the judge with twice its steps."""
    untargeted = [e for e in attacks if e.attack == "classifier" and e.goal == "untargeted"]
    settings = untargeted[0].settings if untargeted else {}
    usual = make_attack("classifier", settings).settings()
    return make_attack("classifier", {**settings, "steps": 2 * usual["steps"]})


def _gradients(model: GenerativeModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of the judge's margin at the sources and right beside them, (B, pixels) each."""

    def draw(generator: torch.Generator) -> Tensor:
        return NUDGE * torch.rand(batch.x.shape[1:], generator=generator)

    nudge = per_sample(draw, batch.sample_ids, "nudge", batch.seed).to(batch.x)
    beside = torch.where(batch.x > 0.5, batch.x - nudge, batch.x + nudge)
    problem = Problem.of(JudgeMargin(), Context(model, batch))
    return problem.gradient(batch.x)[1].flatten(1), problem.gradient(beside)[1].flatten(1)
