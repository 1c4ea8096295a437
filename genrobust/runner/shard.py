"""Run one shard: search, then score what was found from its stored form alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Batch
from genrobust.data.base import Images
from genrobust.judges.judge import Judge
from genrobust.runner import damage
from genrobust.runner.checkpoint import Checkpoint, nowhere
from genrobust.runner.plan import ShardSpec
from genrobust.runner.score import measure_baseline, measure_outcomes
from genrobust.runner.scoring import Scorer
from genrobust.runner.search import search


@dataclass(frozen=True, eq=False)
class Setting:
    """What all shards of a run share: live objects that the specs name by hash."""

    scorer: Scorer
    images: Images
    attacker: Judge | None
    references: tuple[Tensor, Tensor] | None


@dataclass(frozen=True, eq=False)
class Measured:
    """A shard's result: the tensors of :func:`~genrobust.runner.score.measure_outcomes`, the
    counts and signs of :class:`~genrobust.runner.search.Found`, and the seconds it took."""

    tensors: dict[str, Tensor]
    seconds: float


def run_shard(
    spec: ShardSpec,
    setting: Setting,
    cancelled: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
) -> Measured | None:
    """Attack a shard's samples and score what was found, from the checkpoint on if there is one.

    Returns:
        The result, or None if ``cancelled`` said so between two attacks.

    Raises:
        GenrobustError: the model gave NaN, or an attack left the threat model or refused.
    """
    checkpoint = checkpoint or nowhere()
    batch = make_batch(spec, setting)
    baseline = measure_baseline(setting.scorer, batch)
    with setting.scorer.keyed("search", spec.sample_ids):
        found = search(spec, setting.scorer, batch, baseline, cancelled, checkpoint)
    if found is None:
        return None
    goals = {"ignore": found.ignore, "target": found.target}
    outcomes = measure_outcomes(spec, setting.scorer, batch, baseline, goals)
    outcomes |= damage.without_attack(spec, setting.scorer, batch, baseline)
    if spec.ensemble:
        outcomes |= damage.by_attack(spec, setting.scorer, batch, baseline, outcomes)
    setting.scorer.check_unchanged(batch.x, batch.sample_ids, baseline.reconstruction)
    tensors = {**outcomes, **found.signs, **found.counts}
    on_cpu = {name: tensor.cpu() for name, tensor in tensors.items()}
    return Measured(on_cpu, checkpoint.seconds)


def make_batch(spec: ShardSpec, setting: Setting) -> Batch:
    """The shard's samples on the model's device."""
    images, device = setting.images, setting.scorer.model.device
    sources, targets = torch.tensor(spec.sample_ids), torch.tensor(spec.target_ids)
    labels = images.labels if setting.scorer.rule.labelled else None
    return Batch(
        images.take(sources).to(device),
        spec.sample_ids,
        spec.seed,
        None if labels is None else labels[sources].to(device),
        images.take(targets).to(device),
        None if labels is None else labels[targets].to(device),
        setting.attacker,
        setting.references,
    )
