"""What the pictures became: the largest damage that a short search does, and noise beside it.

Whatever the rule is, it asks no judge and no labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.attacks.base import Attack, make_attack
from genrobust.batch import Batch
from genrobust.distance import euclidean
from genrobust.records.record import Damage, DamageAt, Picture
from genrobust.rules.line import LINE
from genrobust.runner.plan import ShardSpec
from genrobust.runner.score import Baseline, similarity
from genrobust.runner.scoring import Scorer
from genrobust.runner.statistics import estimates
from genrobust.suites.suite import Suite
from genrobust.threat import ThreatModel

#: Gradients a radius and goal. On the zoo a search five times as long damages 1 to 3% more.
STEPS = 10
#: Another draw than the start of attacks.
NOISE = 1
#: So far out is noise drawn, before it is projected to the border of the ball.
FAR = 1e4


@torch.no_grad()
def without_attack(
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline
) -> dict[str, Tensor]:
    """The part that needs no attack, tensors (B,) or, of noise, (E, B).

    Noise is measured for ensembles, as attacks are.

    Returns:
        ``clean``, ``noise``: L2 distances of reconstructions from their sources, and
        ``clean_similarity``, ``noise_similarity``: MS-SSIM with them; ``noise_shift``: L2 distance
        from the clean reconstruction; ``constant``: that of the constant picture from the source.
    """
    assert baseline.constant is not None
    still = {
        "damage.clean": euclidean(baseline.reconstruction, batch.x),
        "damage.clean_similarity": similarity(batch.x, baseline.reconstruction),
        "damage.constant": euclidean(baseline.constant, batch.x),
    }
    if not spec.ensemble:
        return still
    noisy = []
    for eps in spec.eps:
        noise = noise_of(batch, ThreatModel(spec.norm, eps))
        noisy.append(_measured("noise", scorer, batch, baseline, noise))
    return {**still, **{name: torch.stack([found[name] for found in noisy]) for name in noisy[0]}}


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
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline, found: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors (E, B) of the worst picture for each source inside each ball.

    It is the worst of a short search of its own at this radius or a smaller one, of noise, and of
    what the suite's attacks ``found`` there. To the target searches one that aims at it.

    Returns:
        ``attacked``, ``attacked_shift``, ``attacked_similarity``: as of noise; ``to_target``: the
        smallest distance of reconstructions to the target's clean one, as a part of the clean
        reconstruction's distance to it; NaN without a target or such a distance.
    """
    away = make_attack("objective:damage", {"steps": STEPS})
    towards = make_attack("output", {"steps": STEPS})
    worst, nearest, rows = batch.x, batch.x, []
    target = None if batch.target_x is None else scorer.reconstruct(batch.target_x, _of(batch))[0]
    for e, eps in enumerate(spec.eps):
        threat = ThreatModel(spec.norm, eps)
        broke = (found["ignore.radius"] <= e).view(-1, 1, 1, 1)
        there = torch.where(broke, found["ignore.x_adv"], worst)
        tried = _searched(away, scorer, batch.untargeted(), threat)
        noise = noise_of(batch, threat)
        worst = _farthest(scorer, batch, batch.x, [worst, there, tried, noise])
        row = _measured("attacked", scorer, batch, baseline, worst)
        row["damage.to_target"] = torch.full_like(row["damage.attacked"], torch.nan)
        if target is not None:
            led = _searched(towards, scorer, batch, threat)
            nearest = _farthest(scorer, batch, target, [nearest, led], sign=-1)
            way = euclidean(baseline.reconstruction, target)
            left = euclidean(scorer.reconstruct(nearest, batch.sample_ids)[0], target)
            row["damage.to_target"] = torch.where(way > 1e-6, left / way, torch.nan)
        rows.append(row)
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def damage_of(suite: Suite, joined: dict[str, Tensor]) -> Damage | None:
    """The means over all sources; None of results that were made without."""
    if "damage.attacked" not in joined:
        return None
    t = {n.removeprefix("damage."): v.double() for n, v in joined.items() if n.startswith("damage")}
    distances = [t["clean"][None], (t["clean"] < LINE * t["constant"]).double()[None]]
    means = estimates(torch.cat([*distances, t["attacked"], t["noise"]]).numpy(), suite)
    clean, reconstructed, *at = means

    def picture(kind: str, e: int) -> Picture:
        return Picture(
            distance=at[e + (len(suite.eps) if kind == "noise" else 0)],
            shift=_mean(t[f"{kind}_shift"][e]),
            similarity=_mean(t[f"{kind}_similarity"][e]),
        )

    return Damage(
        clean=Picture(distance=clean, shift=0.0, similarity=_mean(t["clean_similarity"])),
        constant=float(t["constant"].mean()),
        reconstructed=reconstructed,
        per_eps=tuple(
            DamageAt(
                eps=eps,
                attacked=picture("attacked", e),
                noise=picture("noise", e),
                to_target=_mean(t["to_target"][e]),
            )
            for e, eps in enumerate(suite.eps)
        ),
    )


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
        f"damage.{kind}": euclidean(images, batch.x),
        f"damage.{kind}_shift": euclidean(images, baseline.reconstruction),
        f"damage.{kind}_similarity": similarity(batch.x, images),
    }


def _of(batch: Batch) -> list[int]:
    """Keys of the targets' draws: others than the sources' own."""
    return [-1 - i for i in batch.sample_ids]


def _mean(values: Tensor) -> float | None:
    """Over those that are numbers; None if none is."""
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else None
