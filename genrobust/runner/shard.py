"""Run one shard: search, then score what was found from its stored form alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from genrobust.batch import Batch
from genrobust.data.base import Images
from genrobust.judges.judge import Judge
from genrobust.models.model import GenerativeModel
from genrobust.runner.checkpoint import Checkpoint, nowhere
from genrobust.runner.damage import measure_damage
from genrobust.runner.expected import passes_of_damage
from genrobust.runner.measure import measure_baseline, measure_outcome
from genrobust.runner.plan import ShardSpec
from genrobust.runner.pulse import Pulse
from genrobust.runner.radii import search
from genrobust.runner.scorer import Scorer


@dataclass(frozen=True, eq=False)
class Loaded:
    """What all shards of a run share: live objects that the specs name by hash."""

    scorer: Scorer
    images: Images
    attacker: Judge | None
    references: tuple[Tensor, Tensor] | None

    def watched(self, pulse: Pulse, model: GenerativeModel | None = None) -> Loaded:
        """The same, with a pulse that goes by the model, or by another way to compute it."""
        watched = pulse.watched(model or self.scorer.model)
        return replace(self, scorer=replace(self.scorer, model=watched))


@dataclass(frozen=True, eq=False)
class Measured:
    """A shard's result as it is stored, and the seconds it took."""

    tensors: dict[str, Tensor]
    seconds: float


@singledispatch
def run_shard(
    spec: ShardSpec, loaded: Loaded, checkpoint: Checkpoint | None = None
) -> Measured | None:
    """Attack a shard's samples and score what was found, from the checkpoint on if there is one.

    Returns:
        The result, or None if it was cancelled, between two attacks.

    Raises:
        GenrobustError: the model gave NaN, or an attack left the threat model or refused.
    """
    checkpoint = checkpoint or nowhere()
    batch = make_batch(spec, loaded)
    baseline = measure_baseline(loaded.scorer, batch)
    pulse = checkpoint.pulse
    pulse.last = at_the_end = len(batch) * passes_of_damage(spec)
    with loaded.scorer.keyed("search", spec.sample_ids):
        found = search(spec, loaded.scorer, batch, baseline, checkpoint)
    if found is None:
        return None
    outcome = measure_outcome(spec, loaded.scorer, batch, baseline, found)
    pulse.last = 0
    pulse.begin("what the pictures became", at_the_end, 0)
    damaged = measure_damage(spec, loaded.scorer, batch, baseline, outcome.untargeted)
    outcome = replace(outcome, damaged=damaged)
    loaded.scorer.check_unchanged(batch.x, batch.sample_ids, baseline.reconstruction)
    return Measured(outcome.tensors(), checkpoint.seconds)


def make_batch(spec: ShardSpec, loaded: Loaded) -> Batch:
    """The shard's samples on the model's device."""
    images, device = loaded.images, loaded.scorer.model.device
    sources, targets = torch.tensor(spec.sample_ids), torch.tensor(spec.target_ids)
    labels = images.labels if loaded.scorer.rule.labelled else None
    return Batch(
        images.take(sources).to(device),
        spec.sample_ids,
        spec.seed,
        None if labels is None else labels[sources].to(device),
        images.take(targets).to(device),
        None if labels is None else labels[targets].to(device),
        loaded.attacker,
        loaded.references,
        codes={},
    )
