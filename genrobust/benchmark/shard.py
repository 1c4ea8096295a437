"""Run one shard: every attack at every radius on what is left standing, the worst case kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.attacks.base import make_attack
from genrobust.batch import Batch
from genrobust.benchmark.plan import ShardSpec
from genrobust.benchmark.probes import diagnose
from genrobust.data.base import Images
from genrobust.errors import GenrobustError
from genrobust.judges.judge import Judge, Panel
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import margin
from genrobust.threat import ThreatModel


@dataclass(frozen=True, eq=False)
class Setting:
    """What all shards of a run share: live objects that the specs name by hash."""

    model: GenerativeModel
    images: Images
    attacker: Judge
    panel: Panel
    references: tuple[Tensor, Tensor] | None


@dataclass(frozen=True, eq=False)
class Measured:
    """A shard's result.

    ``tensors`` holds, for B samples, E radii and A attacks: ``label``, ``target_label``,
    ``input_verdict``, ``clean_verdict``, ``eligible`` (B,); ``source``, ``reconstruction``
    (B, C, H, W); for each goal g of ``ignore`` and ``target``: ``g.x_adv``,
    ``g.reconstruction`` (E, B, C, H, W), ``g.verdict`` (E, B), ``g.success`` (E, B) bool; and
    ``tried``, ``succeeded`` (A, E), ``forwards``, ``backwards`` (A,); and
    what :func:`genrobust.benchmark.probes.diagnose` gives.
    """

    tensors: dict[str, Tensor]
    seconds: float


class _WorstCase:
    """For one goal, the most harmful image so far of each sample, over attacks and radii."""

    def __init__(self, setting: Setting, batch: Batch, wanted: Tensor | None) -> None:
        self.setting = setting
        self.wanted = wanted  # the target's labels; None where any other class will do
        assert batch.labels is not None
        self.labels = batch.labels
        self.x_adv = batch.x.clone()
        self.reconstruction = _reconstruct(setting.model, batch.x, batch.sample_ids)
        self.verdict = setting.panel.verdict(self.reconstruction)
        self.success = torch.zeros_like(self.labels, dtype=torch.bool)
        self.margin = self._margin(self.reconstruction, torch.arange(len(batch)))

    def offer(self, positions: Tensor, x_adv: Tensor, ids: tuple[int, ...]) -> Tensor:
        """Score images on the deployed path; keep those worse than what was there.

        Returns:
            Which of them reach the goal, a mask over ``positions``.
        """
        found = _reconstruct(self.setting.model, x_adv, ids)
        verdict = self.setting.panel.verdict(found)
        labels = self.labels[positions]
        # An image that is itself seen as another class is no adversarial example of the model.
        keeps_label = self.setting.panel.verdict(x_adv) == labels
        if self.wanted is None:
            reached = (verdict != labels) & (verdict >= 0)
        else:
            reached = verdict == self.wanted[positions]
        success = reached & keeps_label
        lower = self._margin(found, positions)
        better = (success & ~self.success[positions]) | (
            (success == self.success[positions]) & keeps_label & (lower < self.margin[positions])
        )
        chosen = positions[better]
        self.x_adv[chosen] = x_adv[better]
        self.reconstruction[chosen] = found[better]
        self.verdict[chosen] = verdict[better]
        self.success[chosen] = success[better]
        self.margin[chosen] = lower[better]
        return success

    def snapshot(self) -> dict[str, Tensor]:
        return {
            "x_adv": self.x_adv.clone(),
            "reconstruction": self.reconstruction.clone(),
            "verdict": self.verdict.clone(),
            "success": self.success.clone(),
        }

    @torch.no_grad()
    def _margin(self, reconstruction: Tensor, positions: Tensor) -> Tensor:
        """How far the attacker's judge is from the goal: lower is nearer."""
        logits = self.setting.attacker.logits(reconstruction)
        if self.wanted is None:
            return margin(logits, self.labels[positions])
        return -margin(logits, self.wanted[positions])


def run_shard(
    spec: ShardSpec, setting: Setting, cancelled: Callable[[], bool] = lambda: False
) -> Measured | None:
    """Attack a shard's samples and score what was found.

    Returns:
        The result, or None if ``cancelled`` said so between two attacks.

    Raises:
        GenrobustError: the model gave NaN, or an attack left the threat model or refused.
    """
    began = time.perf_counter()
    batch = _batch(spec, setting)
    assert batch.labels is not None
    ignore = _WorstCase(setting, batch, None)
    target = _WorstCase(setting, batch, batch.target_labels)
    input_verdict = setting.panel.verdict(batch.x)
    clean, clean_verdict = ignore.reconstruction.clone(), ignore.verdict.clone()
    eligible = (input_verdict == batch.labels) & (clean_verdict == batch.labels)
    posterior = setting.model.encode(batch.x)
    counts = torch.zeros(4, len(spec.attacks), len(spec.eps), dtype=torch.int64)
    tried, succeeded, forwards, backwards = counts
    snapshots: dict[str, list[Tensor]] = {}
    for e, eps in enumerate(spec.eps):
        threat = ThreatModel(spec.norm, eps)
        for a, entry in enumerate(spec.attacks):
            if cancelled():
                return None
            attack = make_attack(entry.attack, entry.settings)
            if not attack.applies_to(posterior):
                continue
            aim = target if entry.goal == "targeted" else ignore
            standing = (eligible & ~aim.success).nonzero()[:, 0]
            if not len(standing):
                continue
            part = batch[standing] if aim is target else batch.untargeted()[standing]
            found = attack(setting.model, part, threat)
            reached = aim.offer(standing, found.x_adv, part.sample_ids)
            if aim is target:  # a targeted attack that misses may still change the class
                ignore.offer(standing, found.x_adv, part.sample_ids)
            tried[a, e] = len(standing)
            succeeded[a, e] = reached.sum()
            forwards[a, e] = found.forwards.sum()
            backwards[a, e] = found.backwards.sum()
        for goal, aim in (("ignore", ignore), ("target", target)):
            for name, tensor in aim.snapshot().items():
                snapshots.setdefault(f"{goal}.{name}", []).append(tensor)
    tensors = {
        "label": batch.labels,
        "target_label": batch.target_labels,
        "input_verdict": input_verdict,
        "clean_verdict": clean_verdict,
        "source": batch.x,
        "reconstruction": clean,
        "eligible": eligible,
        **diagnose(setting.model, batch.untargeted(), eligible, spec.norm, spec.eps),
        **{name: torch.stack(parts) for name, parts in snapshots.items()},
        "tried": tried,
        "succeeded": succeeded,
        "forwards": forwards.sum(1),
        "backwards": backwards.sum(1),
    }
    on_cpu = {name: t.cpu() for name, t in tensors.items() if t is not None}
    return Measured(on_cpu, time.perf_counter() - began)


def _batch(spec: ShardSpec, setting: Setting) -> Batch:
    images, device = setting.images, setting.model.device
    sources, targets = torch.tensor(spec.sample_ids), torch.tensor(spec.target_ids)
    return Batch(
        images.take(sources).to(device),
        spec.sample_ids,
        spec.seed,
        images.labels[sources].to(device),
        images.take(targets).to(device),
        images.labels[targets].to(device),
        setting.attacker,
        setting.references,
    )


@torch.no_grad()
def _reconstruct(model: GenerativeModel, x: Tensor, ids: tuple[int, ...]) -> Tensor:
    image = model.reconstruct(x)
    bad = ~image.flatten(1).isfinite().all(1)
    if bad.any():
        which = [i for i, b in zip(ids, bad.tolist(), strict=True) if b]
        raise GenrobustError(
            f"the model gave NaN or infinite pixels for {len(which)} of {len(ids)} images (sample "
            f"ids {', '.join(map(str, which[:5]))}{', ...' if len(which) > 5 else ''}); a model "
            "that does so cannot be scored: check its weights, and divisions and logarithms in it"
        )
    return image
