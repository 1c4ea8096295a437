"""From stored perturbations to outcomes: all that is scored, and all that a replay recomputes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Batch
from genrobust.metrics.latent import latent_displacement, symmetric_kl, token_flip_rate
from genrobust.metrics.similarity import SMALL_WINDOW, multi_scale
from genrobust.outcomes.outcome import Broken, Clean, Effect, Found, Outcome
from genrobust.posterior import Posterior
from genrobust.rules.base import Sources
from genrobust.runner.perturbation import images_of
from genrobust.runner.plan import ShardSpec
from genrobust.runner.scorer import Scorer
from genrobust.threat import ThreatModel


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline(Sources):
    """Sources and what they show without an attack.

    Args:
        input_verdict: of the images themselves, (B,) int64.
        clean_verdict: of their reconstructions, likewise.
    """

    input_verdict: Tensor
    clean_verdict: Tensor

    @property
    def eligible(self) -> Tensor:
        """Whose class is seen both in the input and in its reconstruction."""
        return (self.input_verdict == self.labels) & (self.clean_verdict == self.labels)

    def reached(self, verdict: Tensor, wanted: Tensor | None) -> Tensor:
        """Whether verdicts reach a goal: the wanted class, or any that is not the source's."""
        if wanted is not None:
            return verdict == wanted
        return (verdict != self.labels) & (verdict >= 0)


def measure_baseline(scorer: Scorer, batch: Batch) -> Baseline:
    """The clean reconstructions of a batch and what they show."""
    rule = scorer.rule
    images = scorer.reconstruct(batch.x, batch.sample_ids)
    targets = targets_of(scorer, batch) if rule.targets else None
    labels, target_labels = rule.labels_of(batch)
    other = scorer.constant
    constant = None if other is None else other.beside(batch.x, batch.sample_ids)
    shown = (labels, target_labels, images[0], targets, constant)
    sources = Sources(batch.sample_ids, batch.x, *shown)
    scorer.try_rule(batch.x, images[0], sources)
    return Baseline(
        **vars(sources),
        input_verdict=scorer.input_verdict(batch.x, sources),
        clean_verdict=scorer.verdict(images, sources, clean=True),
    )


def targets_of(scorer: Scorer, batch: Batch) -> Tensor:
    """The targets' clean reconstructions, by other draws than the sources' own."""
    assert batch.target_x is not None, "suites name a target for each source"
    return scorer.reconstruct(batch.target_x, [-1 - i for i in batch.sample_ids])[0]


@torch.no_grad()
def measure_outcome(
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline, found: Found
) -> Outcome:
    """Score perturbations on the deployed path, from nothing but themselves.

    Perturbations that do not reach their goal count as none; signs and counts stay what they are.
    """
    posterior = scorer.posterior(batch.x, batch.sample_ids)
    threats = [ThreatModel(spec.norm, eps) for eps in spec.eps]

    def measured(given: Broken, wanted: Tensor | None) -> Broken:
        x_adv = images_of(given, batch.x, threats)
        images = scorer.reconstruct(x_adv, batch.sample_ids)
        verdict = scorer.verdict(images, baseline)
        hit = baseline.reached(verdict, wanted) & baseline.eligible
        hit &= scorer.keeps_label(x_adv, baseline) & (given.radius < len(spec.eps))
        moved = scorer.posterior(x_adv, batch.sample_ids)
        effect = Effect(
            verdict=verdict,
            x_adv=x_adv,
            reconstruction=images[0],
            source_similarity=similarity(batch.x, x_adv),
            reconstruction_similarity=similarity(baseline.reconstruction, images[0]),
            displacement=latent_displacement(posterior, moved),
            symmetric_kl=_symmetric_kl(posterior, moved),
            token_flips=token_flip_rate(posterior, moved),
        )
        return Broken(torch.where(hit, given.radius, len(spec.eps)), given.perturbation, effect)

    return Outcome(
        label=baseline.labels,
        target_label=baseline.target_labels,
        input_verdict=baseline.input_verdict,
        clean_verdict=baseline.clean_verdict,
        eligible=baseline.eligible,
        clean=Clean(
            source=batch.x,
            reconstruction=baseline.reconstruction,
            kl=posterior.kl_to_prior().sum(1),
            mean=posterior.means(),
        ),
        untargeted=measured(found.untargeted, None),
        targeted=measured(found.targeted, baseline.target_labels),
        signs=found.signs,
        counts=found.counts,
    )


def _symmetric_kl(posterior: Posterior, other: Posterior) -> Tensor:
    """NaN where a part has no density, as a plain autoencoder's point."""
    if not posterior.has_density:
        return posterior.vector().new_full((len(posterior),), torch.nan)
    return symmetric_kl(posterior, other)


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM for small images; NaN where they are too small even for it."""
    if min(x.shape[-2:]) < SMALL_WINDOW:
        return x.new_full((len(x),), torch.nan)
    return multi_scale(x, y)
