"""What the pictures became: the largest damage that a short search does, and noise beside it.

Whatever the rule is, it asks no judge and no labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.attacks.base import Attack, make_attack
from genrobust.batch import Batch
from genrobust.distance import euclidean
from genrobust.outcomes.outcome import Broken, Damaged
from genrobust.runner.measure import Baseline, similarity, targets_of
from genrobust.runner.plan import ShardSpec
from genrobust.runner.scorer import Scorer
from genrobust.threat import ThreatModel

#: Gradients a radius and goal. On the zoo a search five times as long damages 1 to 3% more.
STEPS = 10
#: About how often each source goes through the model besides at each radius, to be measured.
MEASURED = 12
#: Another draw than the start of attacks.
NOISE = 1
#: So far out is noise drawn, before it is projected to the border of the ball.
FAR = 1e4


def measure_damage(
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline, found: Broken
) -> Damaged:
    """All of it; ``found`` is what the suite's attacks did with any class as their goal."""
    still = without_attack(spec, scorer, batch, baseline)
    if not spec.ensemble:
        return Damaged(**still)
    return Damaged(**still, **by_attack(spec, scorer, batch, baseline, found))


@torch.no_grad()
def without_attack(
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline
) -> dict[str, Tensor]:
    """The part that needs no attack, tensors (B,) or, of noise, (E, B).

    Noise is measured for ensembles, as attacks are.
    """
    still = without_noise(batch, baseline)
    if not spec.ensemble:
        return still
    noisy = []
    for eps in spec.eps:
        noise = noise_of(batch, ThreatModel(spec.norm, eps))
        noisy.append(_measured("noise", scorer, batch, baseline, noise))
    return still | _single({name: torch.stack([row[name] for row in noisy]) for name in noisy[0]})


def without_noise(batch: Batch, baseline: Baseline) -> dict[str, Tensor]:
    """What clean reconstructions and one picture for all say of it, tensors (B,)."""
    assert baseline.constant is not None
    return _single(
        {
            "clean": euclidean(baseline.reconstruction, batch.x),
            "clean_similarity": similarity(batch.x, baseline.reconstruction),
            "constant": euclidean(baseline.constant, batch.x),
        }
    )


def noise_of(batch: Batch, threat: ThreatModel) -> Tensor:
    """A random point on the ball's border for each source: noise of the size of an attack.

    It is keyed by seed and sample. What would leave the box goes the other way, so that dark and
    light pixels are changed as much as others.
    """
    grey = torch.full_like(batch.x, 0.5)
    drawn = threat.random_start(grey, batch.sample_ids, batch.seed, NOISE) - grey
    change = threat.project(grey + FAR * drawn, grey) - grey
    moved = batch.x + change
    inward = torch.where((moved < 0) | (moved > 1), -change, change)
    return threat.project(batch.x + inward, batch.x)


def by_attack(
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline, found: Broken
) -> dict[str, Tensor]:
    """Tensors (E, B) of the worst picture for each source inside each ball.

    It is the worst of a short search of its own at this radius or a smaller one, of noise, and of
    what the suite's attacks ``found`` there. To the target searches one that aims at it.
    """
    away = make_attack("objective:damage", {"steps": STEPS})
    towards = make_attack("output", {"steps": STEPS})
    worst, nearest, rows = batch.x, batch.x, []
    assert found.effect is not None
    target = None if batch.target_x is None else targets_of(scorer, batch)
    for e, eps in enumerate(spec.eps):
        threat = ThreatModel(spec.norm, eps)
        broke = (found.radius <= e).view(-1, 1, 1, 1)
        there = torch.where(broke, found.effect.x_adv, worst)
        tried = _searched(away, scorer, batch.untargeted(), threat)
        noise = noise_of(batch, threat)
        worst = _farthest(scorer, batch, batch.x, [worst, there, tried, noise])
        row = _measured("attacked", scorer, batch, baseline, worst)
        row["to_target"] = torch.full_like(row["attacked"], torch.nan)
        if target is not None:
            led = _searched(towards, scorer, batch, threat)
            nearest = _farthest(scorer, batch, target, [nearest, led], sign=-1)
            way = euclidean(baseline.reconstruction, target)
            left = euclidean(scorer.reconstruct(nearest, batch.sample_ids)[0], target)
            row["to_target"] = torch.where(way > 1e-6, left / way, torch.nan)
        rows.append(row)
    return _single({name: torch.stack([row[name] for row in rows]) for name in rows[0]})


def _searched(attack: Attack, scorer: Scorer, batch: Batch, threat: ThreatModel) -> Tensor:
    with scorer.keyed("damage", batch.sample_ids):
        return attack(scorer.model, batch, threat).x_adv


@torch.no_grad()
def _farthest(
    scorer: Scorer, batch: Batch, point: Tensor, images: list[Tensor], sign: int = 1
) -> Tensor:
    """Of several images for each source that whose reconstruction is farthest from the point."""
    far = [sign * euclidean(scorer.reconstruct(x, batch.sample_ids)[0], point) for x in images]
    best = torch.stack(far).argmax(0)
    return torch.stack(images)[best, torch.arange(len(best), device=best.device)]


@torch.no_grad()
def _measured(
    kind: str, scorer: Scorer, batch: Batch, baseline: Baseline, x: Tensor
) -> dict[str, Tensor]:
    """What the reconstructions of images have become, (B,) each; of a random model the first."""
    images = scorer.reconstruct(x, batch.sample_ids)[0]
    return {
        f"{kind}": euclidean(images, batch.x),
        f"{kind}_shift": euclidean(images, baseline.reconstruction),
        f"{kind}_similarity": similarity(batch.x, images),
    }


def _single(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """In the precision of what is stored, whatever the model's is."""
    return {name: tensor.float() for name, tensor in tensors.items()}
