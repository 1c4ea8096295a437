"""Short runs that tell not how robust a model is, but whether attacks on it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genrobust.attacks.classifier import Classifier
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Problem
from genrobust.seeding import seed_of
from genrobust.threat import Norm, ThreatModel

#: Gradients of a short attack.
STEPS = 20


def diagnose(
    model: GenerativeModel, batch: Batch, eligible: Tensor, norm: Norm, eps: Sequence[float]
) -> dict[str, Tensor]:
    """The evidence for the flags, for an untargeted batch with labels and a judge.

    Returns:
        ``gradient_norm`` (B,): of the judge's margin on the surrogate reconstruction, at the
        sources; ``surrogate_label`` and ``deployed_label`` (B,): the attacker's judge's;
        ``probe.success`` and ``probe.again`` (E, B) bool: whether a short attack, run at each
        radius afresh and from two different starts, fools the attacker's judge.
    """
    assert batch.judge is not None
    _, gradient = Problem.of(JudgeMargin(), Context(model, batch)).gradient(batch.x)
    with torch.no_grad():
        surrogate = batch.judge.labels(model.surrogate(batch.x, "softmax"))
        deployed = batch.judge.labels(model.reconstruct(batch.x))
    again = replace(batch, seed=seed_of("again", batch.seed))
    return {
        "gradient_norm": torch.linalg.vector_norm(gradient.flatten(1), dim=1),
        "surrogate_label": surrogate,
        "deployed_label": deployed,
        "probe.success": _short_attacks(model, batch, eligible, norm, eps),
        "probe.again": _short_attacks(model, again, eligible, norm, eps),
    }


def _short_attacks(
    model: GenerativeModel, batch: Batch, eligible: Tensor, norm: Norm, eps: Sequence[float]
) -> Tensor:
    success = torch.zeros(len(eps), len(batch), dtype=torch.bool, device=batch.x.device)
    positions = eligible.nonzero()[:, 0]
    if len(positions):
        attack = Classifier(steps=STEPS, confidence=0.0)
        for e, radius in enumerate(eps):
            found = attack(model, batch[positions], ThreatModel(norm, radius)).success
            assert found is not None
            success[e, positions] = found
    return success
