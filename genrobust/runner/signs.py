"""Short runs that tell not how robust a model is, but whether attacks on it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.attacks.base import Attack, AttackResult, attacker_success, make_attack
from genrobust.attacks.classifier import Classifier
from genrobust.attacks.differences import agreement, one_draw
from genrobust.batch import Batch, Context
from genrobust.models.model import GenerativeModel
from genrobust.objectives.classifier import JudgeMargin, deployed_margin, judge_margin
from genrobust.optimizers import Problem, apgd
from genrobust.outcomes.outcome import Guidance, Longer, Short, Signs
from genrobust.runner.directional import directional, with_long
from genrobust.runner.followed import PARTS, followed
from genrobust.seeding import noise_like, seed_of, seeded
from genrobust.suites.suite import AttackEntry
from genrobust.threat import ThreatModel

#: How far an attacked image and its source are moved, per pixel, to see whether either stands
#: still: far enough that a code from a list moves too.
SHAKE = 0.03

#: Gradients beside a source whose mean is its smoothed one.
BESIDE = 8

#: Draws of a random model in which its smoothed gradient is looked at.
LOOKS = 3

#: About how often each source goes through the model besides, where gradients are looked at.
GLANCES = 137 + PARTS

#: Settings that are a budget.
BUDGETS = ("steps", "queries")

#: The attack on the judge, as it is where a suite has none of its own.
USUAL = AttackEntry(attack="classifier", goal="untargeted")

#: Gradients of a short attack.
STEPS = 20

#: How far an image is moved, per pixel, to see whether its gradient stays what it is.
NUDGE = 1e-3

#: Gradients of the attack in the whole box.
UNBOUNDED_STEPS = 10

#: By how many logits a reconstruction must be of another class, that chance does not undo it.
SURE = 1.0

#: Images that go through the model together where gradients are looked at once more.
TOGETHER = 4

#: How far an image is moved along its gradient, per pixel, to see whether the margin follows.
STRIDE = 1e-2


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The evidence of short attacks, and what they found on the way.

    Args:
        guidance, short: the signs that are looked for before the attacks.
        positions: of the eligible sources.
        x_adv: for each radius their images from the first start.
        forwards, backwards: of both starts, (E,).
    """

    guidance: Guidance
    short: Short
    positions: Tensor
    x_adv: list[Tensor]
    forwards: Tensor
    backwards: Tensor


def diagnose(
    model: GenerativeModel, batch: Batch, eligible: Tensor, norm: str, eps: Sequence[float]
) -> Diagnosis:
    """The evidence for the flags, for an untargeted batch with labels and a judge."""
    guidance = guidance_of(model, batch)
    positions = eligible.nonzero()[:, 0]
    attack = Classifier(steps=STEPS, confidence=0.0)
    counts = torch.zeros(2, len(eps), dtype=torch.int64)
    success = torch.zeros(2, len(eps), len(batch), dtype=torch.bool, device=batch.x.device)
    stopped = torch.zeros_like(success[0])
    x_adv = []
    for e, radius in enumerate(eps):
        for start, seed in enumerate((batch.seed, seed_of("again", batch.seed))):
            part = replace(batch, seed=seed)[positions]
            if not len(positions):
                x_adv.append(part.x)
                break
            found = attack(model, part, ThreatModel(norm, radius))
            fools = _fools(model, batch[positions], found)  # on the same draws at each start
            success[start, e, positions] = fools
            counts[:, e] += torch.stack([found.forwards.sum(), found.backwards.sum()]).cpu()
            if start == 0:
                x_adv.append(found.x_adv)
                stopped[e, positions] = _fools_surrogate(model, part, found.x_adv) & ~fools
    unbounded = torch.zeros_like(eligible)
    if len(positions):
        unbounded[positions] = _fools_unbounded(model, batch[positions])
    short = Short(success[0], success[1], stopped, unbounded)
    return Diagnosis(guidance, short, positions, x_adv, *counts)


def signs_of(
    model: GenerativeModel, batch: Batch, diagnosis: Diagnosis, longer: Longer | None = None
) -> Signs:
    """All signs: with those of before what is looked for after the attacks, where they led."""
    return Signs(
        guidance=diagnosis.guidance,
        longer=longer,
        short=diagnosis.short,
        along_attacked=attacked_agreement(model, batch, diagnosis),
        response_attacked=attacked_response(model, batch, diagnosis),
        followed=_where_led(batch, diagnosis, partial(followed, model)),
    )


def _where_led(
    batch: Batch, diagnosis: Diagnosis, look: Callable[[Batch, Tensor], Tensor]
) -> Tensor:
    """What is seen of sources and of their images by the short attack in the largest ball, (B,); 1
    at sources that it was not run on."""
    found = batch.x.new_ones(len(batch))
    if len(diagnosis.positions):
        found[diagnosis.positions] = look(batch[diagnosis.positions], diagnosis.x_adv[-1])
    return found


def attacked_agreement(model: GenerativeModel, batch: Batch, diagnosis: Diagnosis) -> Tensor:
    """Whether gradients still say what the model does after the attacks, where they led, (B,).

    What is right of the sources at first may be wrong after some calls, far from the sources, or
    of few images at once. That is the least cosine of the margin and of latents with finite
    differences.
    """

    def look(sources: Batch, x_adv: Tensor) -> Tensor:
        least = []
        for few in torch.arange(len(sources)).split(TOGETHER):
            with model.keyed("late", batch.seed):
                context = Context(model, replace(sources[few], x=x_adv[few]))
                least.append(torch.stack(with_long(context, *agreement(context))).amin(0))
        return torch.cat(least)

    return _where_led(batch, diagnosis, look)


@torch.no_grad()
def attacked_response(model: GenerativeModel, batch: Batch, diagnosis: Diagnosis) -> Tensor:
    """How far noise moves the reconstructions of attacked images, in parts of their sources', (B,).

    A gate that shuts where attacks lead holds its reconstructions there, with true gradients and
    without a jump. 1 at sources that do not move themselves. A random model draws the same for all.
    """

    def look(sources: Batch, x_adv: Tensor) -> Tensor:
        ids, coin = sources.sample_ids, partial(torch.randint, 2)
        noise = SHAKE * (2 * noise_like(x_adv, ids, "shake", batch.seed, draw=coin) - 1)
        shown = one_draw(Context(model, sources), lambda x: model.reconstruct(x).flatten(1))

        def moves(x: Tensor) -> Tensor:
            return (shown((x + noise).clamp(0, 1)) - shown(x)).norm(dim=1)

        here, there = moves(sources.x), moves(x_adv)
        return torch.where(here > 0, there / here, 1)

    return _where_led(batch, diagnosis, look)


def guidance_of(model: GenerativeModel, batch: Batch) -> Guidance:
    """The evidence that needs no attack."""
    assert batch.judge is not None
    here, near = _gradients(model, batch)
    descent, relaxed, promised = _descent(model, batch, here)
    surrogate = _seen(model, batch, lambda: model.surrogate(batch.x, "softmax"))
    deployed = _seen(model, batch, lambda: model.reconstruct(batch.x))
    return Guidance(
        gradient_norm=torch.linalg.vector_norm(here.flatten(1).double(), dim=1).float(),
        gradient_cosine=F.cosine_similarity(_in_units(here), _in_units(near)),
        descent=descent,
        descent_promised=promised,
        descent_relaxed=relaxed,
        surrogate_label=surrogate,
        deployed_label=deployed,
        smoothed_gain=_smoothed_gain(model, batch, here),
        directional=directional(model, batch, here),
    )


def longer_attack(attacks: Sequence[AttackEntry]) -> Attack:
    """The suite's attack on the judge with twice its steps."""
    own = (e for e in attacks if (e.attack, e.goal) == (USUAL.attack, USUAL.goal))
    entry = doubled(next(own, USUAL))
    return make_attack(entry.attack, entry.settings)


def doubled(entry: AttackEntry) -> AttackEntry:
    """The attack with twice of each setting that is a budget."""
    usual = make_attack(entry.attack, entry.settings).settings()
    more = {name: 2 * usual[name] for name in BUDGETS if usual.get(name)}
    return entry.model_copy(update={"settings": {**entry.settings, **more}})


def _in_units(gradient: Tensor) -> Tensor:
    """Flat, each in units of its largest entry: a gradient of any scale can be followed."""
    flat = gradient.flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    return flat / torch.where(largest > 0, largest, 1)


def _gradients(model: GenerativeModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of the judge's margin at the sources and right beside them, (B, C, H, W) each."""
    nudge = NUDGE * noise_like(batch.x, batch.sample_ids, "nudge", batch.seed)
    beside = torch.where(batch.x > 0.5, batch.x - nudge, batch.x + nudge)
    return _slope(model, batch, batch.x), _slope(model, batch, beside)


@torch.no_grad()
def _descent(model: GenerativeModel, batch: Batch, gradient: Tensor) -> tuple[Tensor, ...]:
    """How far the margin falls down the gradient on the deployed path, and on the surrogate where
    the code is one of a list, and how far that says, (B,) each."""
    step = (batch.x - STRIDE * gradient.nan_to_num().sign()).clamp(0, 1) - batch.x
    before, after = _deployed_margin(model, batch, 0 * step), _deployed_margin(model, batch, step)
    fell = before - after
    relaxed = fell.clone()  # results are stored one by one
    context = Context(model, batch)
    fixed = model.deploy is None and model.draws == 1
    if fixed and context.source_posterior.is_discrete:
        margins = (JudgeMargin()(x, context) for x in (batch.x, batch.x + step))
        relaxed = next(margins) - next(margins)
    return fell, relaxed, -(gradient * step).flatten(1).sum(1)


def _smoothed_gain(model: GenerativeModel, batch: Batch, gradient: Tensor) -> Tensor:
    """What a step down its own gradient misses of the margin's fall down a smoothed one, (B,).

    A model that is rippled about as widely as its ball has true gradients, and each tells of its
    ripple: their mean over images beside the source tells where the margin falls. The part of that
    fall, of a logit at least, which a step of ``SHAKE`` along the own gradient's signs does not
    reach; below 0 where it reaches more. Of a random model it is the median of some draws, each the
    same for all images, as a mean over draws is smoothed itself; of one without gradients 0.
    """
    if not model.differentiable:
        return batch.x.new_zeros(len(batch))
    if model.draws == 1:
        return _gain(model, batch, gradient)
    one, gains = replace(model, draws=1), []
    for draw in range(LOOKS):
        with seeded(batch.x.device, "beside", batch.seed, draw):
            own = _slope(one, batch, batch.x)
        gains.append(_gain(one, batch, own, ("beside", batch.seed, draw)))
    return torch.stack(gains).median(0).values


def _gain(
    model: GenerativeModel, batch: Batch, gradient: Tensor, key: tuple[object, ...] = ()
) -> Tensor:
    """The same with one draw, where there is a key to it."""

    def alone() -> AbstractContextManager[None]:
        return seeded(batch.x.device, *key) if key else nullcontext()

    smoothed = torch.zeros_like(batch.x)
    several = batch.x[:, None].expand(-1, BESIDE, -1, -1, -1)
    noise = SHAKE * (2 * noise_like(several, batch.sample_ids, "beside", batch.seed) - 1)
    for beside in noise.unbind(1):
        with alone():
            found = _slope(model, batch, (batch.x + beside).clamp(0, 1)).nan_to_num()
        smoothed += F.normalize(found.flatten(1), dim=1).view_as(batch.x)
    margins = []
    with torch.no_grad():
        for g in (gradient.nan_to_num(), smoothed, torch.zeros_like(batch.x)):
            with alone():
                step = (batch.x - SHAKE * g.sign()).clamp(0, 1) - batch.x
                margins.append(_deployed_margin(model, batch, step))
    own, led, standing = margins
    fell, wanted = standing - own, standing - led
    return (wanted - fell.clamp_min(0)) / wanted.clamp_min(SURE)


def _slope(model: GenerativeModel, batch: Batch, x: Tensor) -> Tensor:
    """The gradient of the judge's margin, (B, C, H, W)."""
    return Problem.of(JudgeMargin(), Context(model, batch)).gradient(x)[1]


@torch.no_grad()
def _fools(model: GenerativeModel, batch: Batch, found: AttackResult) -> Tensor:
    """Whether the judge is fooled, by most draws of a random model: one alone says little.

    They are the same each time: of two starts of an attack the difference is not theirs.
    """
    assert batch.judge is not None
    assert batch.labels is not None
    assert found.success is not None
    if model.draws == 1:
        return found.success
    judge, labels = batch.judge, batch.labels
    return _by_most(model, batch, lambda: judge.labels(model.reconstruct(found.x_adv)).ne(labels))


def _fools_unbounded(model: GenerativeModel, batch: Batch) -> Tensor:
    """Whether a short attack fools the judge that may change every pixel as it likes."""
    context = Context(model, batch)
    problem = Problem.of(JudgeMargin(), context)
    with model.keyed("unbounded", batch.seed, batch.sample_ids):
        found = apgd(problem, batch.x, ThreatModel("linf", 1.0), UNBOUNDED_STEPS)
        success = attacker_success(context, found.x)
        assert success is not None
        nothing = torch.zeros(0)
        result = AttackResult(found.x, found.loss, success, nothing, nothing)
        return _fools(model, batch, result)


@torch.no_grad()
def _fools_surrogate(model: GenerativeModel, batch: Batch, x_adv: Tensor) -> Tensor:
    """Whether the judge is surely fooled on the surrogate.

    The draws of a random model are those of :func:`_fools`: by others the surrogate and the
    deployed path would differ where they are one.
    """
    context = Context(model, batch)
    return _by_most(
        model, batch, lambda: judge_margin(model.surrogate(x_adv, "softmax"), context) <= -SURE
    )


def _by_most(model: GenerativeModel, batch: Batch, look: Callable[[], Tensor]) -> Tensor:
    """What is so in most of a random model's draws, (B,) bool; they are the same each time."""
    with _same_draws(model, batch):
        return _mean_of_draws(model, look) > 0.5


@torch.no_grad()
def _seen(model: GenerativeModel, batch: Batch, look: Callable[[], Tensor]) -> Tensor:
    """The class that the judge sees, (B,); in most of a random model's draws, always the same."""
    judge = batch.judge
    assert judge is not None
    with _same_draws(model, batch):
        labels = torch.stack([judge.labels(look()) for _ in range(model.draws)])
    return labels.mode(0).values


def _deployed_margin(model: GenerativeModel, batch: Batch, step: Tensor) -> Tensor:
    """The judge's margin on the deployed path, (B,); a random model's with the same draws."""
    context = Context(model, batch)
    with _same_draws(model, batch):
        return _mean_of_draws(model, lambda: deployed_margin(batch.x + step, context))


def _same_draws(model: GenerativeModel, batch: Batch) -> AbstractContextManager[None]:
    """A random model draws the same here each time."""
    return model.keyed("descent", batch.seed)


def _mean_of_draws(model: GenerativeModel, look: Callable[[], Tensor]) -> Tensor:
    return torch.stack([look().float() for _ in range(model.draws)]).mean(0)
