"""What attacking a batch gave, an entry for each source.

The first radius that broke a source is its position in the grid, from the smallest; the number of
radii where none did.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from genrobust.batch import Goal
from genrobust.metrics.distances import l2, linf
from genrobust.outcomes.table import Column, Group, Stored
from genrobust.records.outcomes import Worst
from genrobust.suites.suite import Suite

#: What is kept apart by goal, and what the names of it begin with.
GOALS: dict[Goal, str] = {"untargeted": "ignore.", "targeted": "target."}

#: What the names of what pictures became begin with.
DAMAGE = "damage."

_Still = Annotated[Tensor, Column(None, "source", "still", kept=False)]
_Replayed = Annotated[Tensor, Column(None, "source", "replay", kept=False)]
_StillImage = Annotated[Tensor, Column(None, "source", "still", kept=False, pixels=True)]
_Image = Annotated[Tensor, Column(None, "source", "replay", kept=False, pixels=True)]
_Class = Annotated[Tensor, Column(torch.int64, "source", "still")]
_Sign = Annotated[Tensor, Column(torch.float32, "source", "still")]
_After = Annotated[Tensor, Column(torch.float32, "source", "rerun")]
_Count = Annotated[Tensor, Column(torch.int64, "attack and radius", "rerun")]
_Pixels = Annotated[Tensor | None, Column(torch.float32, "radius and source", "still")]
_Harm = Annotated[Tensor | None, Column(torch.float32, "radius and source", "rerun")]
_Tried = Annotated[Tensor, Column(torch.bool, "source", "rerun")]
_Fooled = Annotated[Tensor, Column(torch.bool, "radius and source", "rerun")]


@dataclass(frozen=True, eq=False)
class Clean(Stored):
    """The sources without an attack.

    Args:
        source, reconstruction: (B, C, H, W).
        kl: of the posterior to the prior, in nats, (B,).
        mean: of the parts that have one, (B, L).
    """

    source: _StillImage
    reconstruction: _StillImage
    kl: _Still
    mean: _Still


@dataclass(frozen=True, eq=False)
class Effect(Stored):
    """What perturbations do to the model.

    Args:
        verdict: what the reconstruction shows, (B,).
        x_adv, reconstruction: (B, C, H, W).
        source_similarity, reconstruction_similarity: of each with its clean one, (B,).
        displacement, symmetric_kl: of the posterior from the clean one's, (B,).
        token_flips: the share of its discrete choices that are others, (B,); NaN without any.
    """

    verdict: Annotated[Tensor, Column(torch.int64, "source", "replay", kept=False)]
    x_adv: _Image
    reconstruction: _Image
    source_similarity: _Replayed
    reconstruction_similarity: _Replayed
    displacement: _Replayed
    symmetric_kl: _Replayed
    token_flips: _Replayed


@dataclass(frozen=True, eq=False)
class Broken(Stored):
    """For one goal, the perturbation of the smallest radius that reached it.

    Args:
        radius: its position in the grid, (B,); the number of radii where none did.
        perturbation: in steps of that radius, (B, C, H, W); 0 where none did.
        effect: None where it was not measured.
    """

    radius: Annotated[Tensor, Column(torch.int64, "source", "found")]
    perturbation: Annotated[Tensor, Column(None, "source", "found", pixels=True)]
    effect: Annotated[Effect | None, Group()] = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Directional(Stored):
    """Whether autograd says what the model does, as finite differences do, (B,) each.

    Args:
        along: the cosine of what the judge's margin on the surrogate reconstruction does along
            directions with what its gradient says.
        along_latent: the least such cosine among the latents that move most.
        along_either, along_latent_either: the larger of these and of the same with differences of
            0.02 a pixel.
        along_pixels: the least such cosine, of the margin, among groups of pixels by the size of
            their gradient.
        jump: the largest change of the reconstruction within 1/512 of a way of a tenth of the pixel
            range, as a part of the change along the whole way.
        response: how far the reconstruction moves on such a way of noise, as a part of the way.
        lead: of the likeliest category over the next, in logits, the least of the parts; 0 without
            any.
        unreached: how much of what the decoder does hangs on code that no gradient reaches.
    """

    along: _Sign
    along_latent: _Sign
    along_either: _Sign
    along_latent_either: _Sign
    along_pixels: _Sign
    jump: _Sign
    response: _Sign
    lead: _Sign
    unreached: _Sign


@dataclass(frozen=True, eq=False, kw_only=True)
class Guidance(Stored):
    """Whether what leads attacks can be followed: what needs no attack, (B,) each.

    Args:
        gradient_norm: of the judge's margin on the surrogate reconstruction, at the sources.
        gradient_cosine: with the gradient a thousandth of the pixel range away.
        descent: how far the deployed margin falls, a hundredth of the pixel range down the
            gradient.
        descent_promised: how far the gradient says.
        descent_relaxed: how far the margin falls on the surrogate, of a model whose code is one of
            a list and so does not move by so little; else as ``descent``.
        surrogate_label, deployed_label: what the attacker's judge sees.
        smoothed_gain: what a step down a source's own gradient misses of the margin's fall down a
            smoothed one.
        directional: whether differences bear the gradient out.
    """

    gradient_norm: _Sign
    gradient_cosine: _Sign
    descent: _Sign
    descent_promised: _Sign
    descent_relaxed: _Sign
    surrogate_label: _Class
    deployed_label: _Class
    smoothed_gain: _Sign
    directional: Annotated[Directional, Group("directional.")]


@dataclass(frozen=True, eq=False)
class Longer(Stored):
    """Whether an attack of twice the steps was tried, and broke a source that stood, (B,) bool."""

    tried: _Tried
    success: _Tried


@dataclass(frozen=True, eq=False)
class Short(Stored):
    """What short attacks fool, each radius afresh, (E, B) bool.

    Args:
        success, again: the attacker's judge, from two different starts.
        stopped: the judge on the surrogate only, by a logit, from the first start.
        unbounded: what a short attack fools whose ball is the whole box, (B,) bool.
    """

    success: _Fooled
    again: _Fooled
    stopped: _Fooled
    unbounded: _Tried


@dataclass(frozen=True, eq=False, kw_only=True)
class Signs(Stored):
    """What flags rest on; ``longer`` in an ensemble alone.

    ``along_attacked`` is the least cosine of gradients with finite differences after the attacks,
    at attacked images and few at a time, (B,); ``response_attacked`` how far noise moves their
    reconstructions, in parts of how far it moves their sources', (B,); ``followed`` the cosine of
    what the judge's margin does on the way there with what its gradients say, (B,).
    """

    guidance: Annotated[Guidance, Group()]
    longer: Annotated[Longer | None, Group("longer.")] = None
    short: Annotated[Short, Group("probe.")]
    along_attacked: _After
    response_attacked: _After
    followed: _After


@dataclass(frozen=True, eq=False, kw_only=True)
class Damaged(Stored):
    """What the pictures became; at each radius, (E, B), in an ensemble alone.

    Args:
        clean, noise, attacked: L2 distances of reconstructions from their sources: without an
            attack (B,), of noise on the border of each ball, and of the worst that was found.
        clean_similarity, noise_similarity, attacked_similarity: their MS-SSIM with the sources; NaN
            where images are too small for it.
        noise_shift, attacked_shift: L2 distances from the clean reconstruction.
        constant: L2 distance of one picture for all, the mean of the others, from the source, (B,).
        to_target: the smallest distance that was found of reconstructions to the target's clean
            one, as a part of the clean reconstruction's; NaN without a target or a distance.
    """

    clean: _Sign
    clean_similarity: _Sign
    constant: _Sign
    noise: _Pixels = None
    noise_shift: _Pixels = None
    noise_similarity: _Pixels = None
    attacked: _Harm = None
    attacked_shift: _Harm = None
    attacked_similarity: _Harm = None
    to_target: _Harm = None


@dataclass(frozen=True, eq=False)
class Counts(Stored):
    """What was tried, reached and spent, (A + 2, E) each: a row an attack of the suite, then the
    short attacks and the longer one that flags rest on."""

    tried: _Count
    succeeded: _Count
    forwards: _Count
    backwards: _Count


@dataclass(frozen=True, eq=False, kw_only=True)
class Found(Stored):
    """What attacks on a batch found, and what it cost."""

    untargeted: Annotated[Broken, Group(GOALS["untargeted"])]
    targeted: Annotated[Broken, Group(GOALS["targeted"])]
    signs: Annotated[Signs, Group()]
    counts: Annotated[Counts, Group()]

    @property
    def goals(self) -> dict[Goal, Broken]:
        """By goal: any class but the source's, and the target's."""
        return {"untargeted": self.untargeted, "targeted": self.targeted}


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome(Found):
    """The same, scored.

    Args:
        label, target_label: of the sources and of what they are to become, (B,).
        input_verdict, clean_verdict: what the sources show, and their reconstructions, (B,).
        eligible: whether both show the source's class, (B,) bool.
        damaged: None until it is measured.
        clean: None where only what evidence keeps is known.
    """

    label: _Class
    target_label: _Class
    input_verdict: _Class
    clean_verdict: _Class
    eligible: Annotated[Tensor, Column(torch.bool, "source", "still")]
    damaged: Annotated[Damaged | None, Group(DAMAGE)] = None
    clean: Annotated[Clean | None, Group()] = None

    def without_misses(self) -> Outcome:
        """The same, with no perturbation where none reached the goal."""

        def cleared(broken: Broken) -> Broken:
            none = broken.radius == self.counts.tried.shape[1]
            kept = broken.perturbation.masked_fill(none.view(-1, 1, 1, 1), 0)
            return replace(broken, perturbation=kept)

        return replace(self, untargeted=cleared(self.untargeted), targeted=cleared(self.targeted))

    @property
    def worst(self) -> Worst:
        radii = self.untargeted.radius, self.targeted.radius
        return Worst(self.label, self.target_label, self.eligible, *radii)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sizes(Stored):
    """What is told of pictures, (B,) each.

    Args:
        error: the squared L2 distance of the clean reconstruction from the source.
        linf, l2: the size of the change that broke the source, as an image.
        shift: the L2 distance of its reconstruction from the clean one.
    """

    error: _Still
    linf: _Replayed
    l2: _Replayed
    shift: _Replayed

    @classmethod
    def of_pictures(cls, outcome: Outcome) -> Sizes:
        """The outcome must be whole."""
        clean, effect = outcome.clean, outcome.untargeted.effect
        assert clean is not None
        assert effect is not None
        return cls(
            error=(clean.reconstruction.double() - clean.source).flatten(1).square().sum(1),
            linf=linf(effect.x_adv, clean.source),
            l2=l2(effect.x_adv, clean.source),
            shift=l2(effect.reconstruction, clean.reconstruction),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class MinimumNormOutcome(Stored):
    """The nearest adversarial image of each source.

    Args:
        label, verdict: of the source, and what the reconstruction of ``x_adv`` shows, (B,).
        eligible: (B,) bool.
        distance: (B,); 0 where not eligible and infinite where nothing was found.
        source, reconstruction, x_adv, adversarial_reconstruction: (B, C, H, W).
        damaged: what the clean reconstructions say of it; nothing of attacks.
        counts: of the suite's attacks, the short ones and the searches; the last column is for the
            whole box. ``succeeded`` counts nearer images.
    """

    label: _Class
    eligible: Annotated[Tensor, Column(torch.bool, "source", "still")]
    verdict: Annotated[Tensor, Column(torch.int64, "source", "replay", kept=False)]
    distance: Annotated[Tensor, Column(None, "source", "found")]
    source: _StillImage
    reconstruction: _StillImage
    x_adv: _Image
    adversarial_reconstruction: _Image
    damaged: Annotated[Damaged | None, Group(DAMAGE)] = None
    signs: Annotated[Signs, Group()]
    counts: Annotated[Counts, Group()]


def kept_of(suite: Suite) -> dict[str, Column]:
    """What evidence of a run on the suite keeps, by name."""
    left_out = {name for name, column in Outcome.table().items() if not column.kept}
    if suite.attacker_judge is None or not suite.ensemble:
        left_out |= {name for name in Signs.table() if name.startswith("longer.")}
    if not suite.ensemble:
        left_out |= {DAMAGE + n for n, c in Damaged.table().items() if c.per != "source"}
    return {name: column for name, column in Outcome.table().items() if name not in left_out}


#: What is counted by attack and radius; over shards it is summed.
COUNTS = tuple(Counts.table())
