"""The second depth: the stored perturbations put to the model again, and everything scored anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genrobust.attacks.base import ATTACKS, make_attack
from genrobust.distance import euclidean
from genrobust.evidence.bundle import Evidence
from genrobust.evidence.checks import NamedCheck, RejectionError, UntoldError, written_by_another
from genrobust.evidence.entry import ZooModel
from genrobust.models.families import FAMILIES
from genrobust.models.model import GenerativeModel
from genrobust.models.zoo import load_model, zoo_card
from genrobust.outcomes.outcome import DAMAGE, GOALS, Broken, Damaged, Outcome, Signs
from genrobust.outcomes.scores import scores
from genrobust.outcomes.table import Stored
from genrobust.records.outcomes import Worst
from genrobust.records.record import Record, Scores
from genrobust.runner.checkpoint import Checkpoint
from genrobust.runner.damage import without_attack
from genrobust.runner.execute import Progress, results_of
from genrobust.runner.likeness import guided
from genrobust.runner.measure import measure_baseline, measure_outcome
from genrobust.runner.options import Options
from genrobust.runner.perturbation import fits, images_of
from genrobust.runner.plan import ShardSpec
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.provenance import device_kind, provenance
from genrobust.runner.shard import Loaded, make_batch
from genrobust.runner.signs import GLANCES, guidance_of
from genrobust.suites.suite import Suite
from genrobust.threat import ThreatModel
from genrobust.verify.claims import (
    DIFFERING,
    other_machine,
    positions,
    require_equal,
    require_near,
)
from genrobust.verify.consistency import (
    flags_of,
    problem_of_order,
    require_flags,
    require_near_flags,
)

#: What a replay is done with: a CPU, on which results repeat.
DEVICE = "cpu"
#: Relative difference of signs on the machine that made them, and on another one.
SIGN_EXACT, SIGN_NEAR = 1e-4, 0.05
#: On another machine, the share of sources whose signs may differ by more.
SIGNS_DIFFERING = 0.05


@dataclass(frozen=True, eq=False)
class Replay:
    """What came out.

    Args:
        evidence: what was replayed.
        prepared: with what.
        outcome: that of the run, recomputed where perturbations and model give it.
        elsewhere: how this machine differs from the one of the record; None if it does not.
    """

    evidence: Evidence
    prepared: Prepared
    outcome: Outcome
    elsewhere: str | None

    @property
    def scores(self) -> Scores:
        return scores(self.outcome, self.evidence.record.suite)


def prepared_for(
    evidence: Evidence,
    model: GenerativeModel,
    workers: int | None,
    data_root: str | Path | None,
) -> Prepared:
    """What replays need: data, judges and model, checked against the suite. No attack is looked up.

    Raises:
        GenrobustError: the data set or a judge is not there, or the model does not fit.
    """
    suite = evidence.record.suite.model_copy(update={"attacks": ()})
    options = Options(seed=evidence.record.seed, workers=workers, data_root=data_root)
    return prepare(model, suite, options)


def replay(evidence: Evidence, prepared: Prepared, on_progress: Progress) -> Replay:
    """Score the perturbations of evidence again, shard by shard, as the run did.

    Raises:
        GenrobustError: the model gave NaN or infinite pixels.
    """
    shards = list(enumerate(evidence.shards))

    def work(item: tuple[int, ShardSpec], checkpoint: Checkpoint) -> Outcome | None:
        if checkpoint.cancelled():
            return None
        number, spec = item
        looks = len(spec.sample_ids) * GLANCES
        checkpoint.pulse.begin("the run's images again, and its signs", looks, 0)
        loaded = prepared.loaded.watched(checkpoint.pulse)
        return _replayed(evidence.shard(number), loaded, spec)

    again = results_of(shards, work, prepared.workers, on_progress)
    return Replay(
        evidence=evidence,
        prepared=prepared,
        outcome=Outcome.joined([one.tensors() for one in again]),
        elsewhere=other_machine(
            evidence.record.provenance, provenance("", device_kind(DEVICE), [])
        ),
    )


def checks(found: Replay) -> list[NamedCheck]:
    """What is compared once a replay is done."""
    return [
        ("perturbations", partial(check_perturbations, found)),
        ("outcomes replayed", partial(check_outcomes, found)),
        ("scores replayed", partial(check_scores, found)),
        ("signs replayed", partial(check_signs, found)),
        ("attacks tried", partial(check_attacks, found)),
    ]


def check_model(evidence: Evidence, prepared: Prepared) -> str:
    """The model at hand is the one that the record describes."""
    claimed, found = evidence.record.model, prepared.model
    other = written_by_another(evidence.record.provenance.genrobust)
    if claimed.fingerprint != found.fingerprint:
        if other and isinstance(evidence.model, ZooModel):
            raise UntoldError(
                f"the zoo's '{evidence.model.name}' has other weights here than the record's; "
                + other
            )
        raise RejectionError(
            f"the model has fingerprint {found.fingerprint[:12]}, and the record's has "
            f"{claimed.fingerprint[:12]}: it is another model, or has other weights"
        )
    same = ("spec", "input_shape", "latents", "code_size", "parameters", "draws", "deploy")
    for name in same:
        theirs, ours = getattr(claimed, name), getattr(found, name)
        if theirs != ours:
            raise RejectionError(
                f"record.json says that the model's {name} is {theirs}; it is {ours}"
            )
    if claimed.card is not None and claimed.card != _shipped_card(evidence.record):
        if other:
            raise UntoldError(
                f"the record's card of the model is not that of the zoo here; {other}"
            )
        raise RejectionError("record.json has a card that is not that of a model of the zoo")
    return f"fingerprint {found.fingerprint[:12]}, {found.parameters:,} parameters, {found.latents}"


def _shipped_card(record: Record) -> dict[str, Any] | None:
    """The zoo's card of the model, if it is the zoo's and not only called so."""
    name, dataset = record.model.reference, record.suite.dataset
    card = zoo_card(name, dataset) if name in FAMILIES else None
    if card is None or _zoo_fingerprint(name, dataset) != record.model.fingerprint:
        return None
    return card.model_dump(mode="json")


@cache
def _zoo_fingerprint(name: str, dataset: str) -> str:
    return load_model(name, dataset).fingerprint()


def check_perturbations(found: Replay) -> str:
    """Every adversarial input is inside the threat model, at the smallest radius it fits in."""
    suite, clean = found.evidence.record.suite, found.outcome.clean
    assert clean is not None
    threats = [ThreatModel(suite.norm, eps) for eps in suite.eps]
    goals = found.evidence.outcome.goals
    for goal, given in goals.items():
        out = misfits(given, clean.source, threats)
        if out.any():
            raise RejectionError(
                f"adversarial inputs for '{goal}' leave the ball or the box, at {positions(out)}"
            )
        less = _smaller(given, clean.source, threats)
        # Rounding to whole steps may draw one in. Attacks by themselves claim nothing by it.
        if suite.ensemble and int(less.sum()) > allowed_of(suite):
            raise RejectionError(
                f"adversarial inputs for '{goal}' fit in a smaller radius than is said of them, at "
                + positions(less)
            )
    count = sum(int((given.radius < len(suite.eps)).sum()) for given in goals.values())
    return (
        f"{count} adversarial inputs of the suite's sources, each inside {suite.norm} ball and box"
    )


def allowed_of(suite: Suite) -> int:
    """How many sources may be otherwise by rounding."""
    return max(1, round(DIFFERING * len(suite.sample_ids)))


def check_outcomes(found: Replay) -> str:
    """The model does with each source and each adversarial input what is said."""
    claimed, suite = found.evidence.tensors, found.evidence.record.suite
    ours, near = found.outcome.tensors(), _nearly(claimed)
    still = [name for name in _still(Outcome) if name in claimed and name not in near]
    names = (*still, *(f"{prefix}radius" for prefix in GOALS.values()))
    differ = {name: claimed[name] != ours[name] for name in names}
    exact = [name for name in ("label", "target_label") if differ[name].any()]
    allowed = 0 if found.elsewhere is None else allowed_of(suite)
    for name in [*exact, *(n for n in names if int(differ[n].sum()) > allowed)]:
        raise RejectionError(
            f"'{name}' is not what the model gives at {int(differ[name].sum())} of "
            f"{len(suite.sample_ids)} sources, {positions(differ[name])}"
        )
    return f"all of {len(suite.sample_ids)} sources come out as claimed" + (
        "" if found.elsewhere is None else f", but for at most {allowed} ({found.elsewhere})"
    )


def check_gains(found: Replay, own: Worst) -> str:
    """What an attack breaks that the run of the entry it is on did not, it breaks on any machine.

    Boards take the worst case over all attacks, in which a source too many of each would add up.
    """
    gained, missing = 0, torch.zeros_like(own.eligible)
    for goal, broken in found.outcome.goals.items():
        claimed = found.evidence.outcome.goals[goal].radius
        gains = claimed < (own.untargeted if goal == "untargeted" else own.targeted)
        gained += int(gains.sum())
        missing |= gains & (broken.radius > claimed)
    if int(missing.sum()) > DIFFERING * gained:
        raise RejectionError(
            f"sources that the attack is said to break before the entry's own run did stand, at "
            f"{positions(missing)}"
        )
    return f"{gained} outcomes are worse than those of the entry's own run, and come out so"


def check_scores(found: Replay) -> str:
    """Every score is what comes out, and no damage is less than what is at hand does."""
    _require_possible_damage(found)
    claimed, ours = found.evidence.record.scores, found.scores
    if found.elsewhere is None:
        count = require_equal(claimed, ours)
        return f"{count} scores with their intervals are equal to 1e-6"
    count = require_near(claimed, ours)
    return f"{count} scores are inside their intervals, on another machine ({found.elsewhere})"


def check_signs(found: Replay) -> str:
    """The signs that need no attack are what comes out, and raise the record's flags."""
    claimed, ours = found.evidence.tensors, found.outcome.tensors()
    names = _nearly(claimed)
    for name in names:
        differ = differing(claimed[name], ours[name], found.elsewhere is None)
        allowed = 0 if found.elsewhere is None else SIGNS_DIFFERING * len(differ)
        if int(differ.sum()) > allowed:
            raise RejectionError(
                f"'{name}' is not what the model gives at {int(differ.sum())} of {len(differ)} "
                f"sources, {positions(differ)}: edited, or of a run with another seed"
            )
    record = found.evidence.record
    raised = flags_of(record.suite, found.outcome)
    if found.elsewhere is None:
        require_flags(record, raised)
    else:
        require_near_flags(record, raised)
    return f"{', '.join(names) or 'no sign'} recomputed; they raise the record's flags"


def _replayed(claimed: Outcome, loaded: Loaded, spec: ShardSpec) -> Outcome:
    scorer, batch = loaded.scorer, make_batch(spec, loaded)
    baseline = measure_baseline(scorer, batch)
    outcome = measure_outcome(spec, scorer, batch, baseline, claimed)
    if claimed.damaged is not None:
        still = without_attack(spec, scorer, batch, baseline)
        outcome = replace(outcome, damaged=replace(claimed.damaged, **still))
    with scorer.keyed("search", spec.sample_ids):
        guidance = guidance_of(scorer.model, guided(batch.untargeted(), baseline))
    return replace(outcome, signs=replace(outcome.signs, guidance=guidance))


def _require_possible_damage(found: Replay) -> None:
    """The worst picture is no nearer to its source than noise's, one that broke it, or the worst
    in a smaller ball: what attacks do is claimed, and these are recomputed."""
    damaged, outcome = found.outcome.damaged, found.outcome
    if damaged is None or damaged.attacked is None or damaged.noise is None:
        return
    assert outcome.clean is not None
    assert outcome.untargeted.effect is not None
    broken = euclidean(outcome.untargeted.effect.reconstruction, outcome.clean.source).float()
    least = damaged.noise.clone()
    for e in range(len(least)):
        fell = outcome.untargeted.radius <= e
        least[e] = torch.where(fell, torch.maximum(least[e], broken), least[e])
        if e:
            least[e] = torch.maximum(least[e], damaged.attacked[e - 1])
    near = SIGN_EXACT if found.elsewhere is None else SIGN_NEAR
    less = ~(damaged.attacked >= least * (1 - near))
    allowed = 0 if found.elsewhere is None else SIGNS_DIFFERING * less.shape[1]
    if int(less.sum(1).max()) > allowed:
        where = less.any(0)
        raise RejectionError(
            f"'{DAMAGE}attacked' claims less damage than noise, the stored images or a smaller "
            f"ball do, at {int(where.sum())} of {len(where)} sources, {positions(where)}"
        )


def check_attacks(found: Replay) -> str:
    """No attack was left out that the model can be attacked by."""
    evidence = found.evidence
    suite, clean = evidence.record.suite, found.outcome.clean
    assert clean is not None
    if not suite.ensemble:
        return "each by itself, as the suite has them"
    posterior = found.prepared.loaded.scorer.model.encode(clean.source[:1])
    applying = [
        row
        for row, entry in enumerate(suite.attacks)
        if entry.attack in ATTACKS  # one of a plugin that is not here cannot be asked
        and make_attack(entry.attack, entry.settings).applies_to(posterior)
    ]
    for number in range(len(evidence.shards)):
        problem = problem_of_order(suite, evidence.shard(number).counts, applying)
        if problem is not None:
            raise RejectionError(f"shard {number}: {problem}")
    return (
        f"{len(applying)} of {len(suite.attacks)} apply to the model; each got what the one before "
        "it left"
    )


def _still(kind: type[Stored]) -> list[str]:
    """What model and data show by themselves."""
    return [name for name, column in kind.table().items() if column.proof == "still"]


def _nearly(claimed: Mapping[str, Tensor]) -> list[str]:
    """What of that is measured, and so comes out up to rounding."""
    damage = [DAMAGE + name for name in _still(Damaged)]
    return [name for name in (*_still(Signs), *damage) if name in claimed]


def misfits(given: Broken, x: Tensor, threats: list[ThreatModel]) -> Tensor:
    """Whose perturbation leaves ball or box, (B,) bool; where there is none it is 0."""
    found = given.perturbation.flatten(1).any(1) & (given.radius == len(threats))
    for e, threat in enumerate(threats):
        at = given.radius == e
        found[at] = ~fits(given.perturbation[at], x[at], threat)
    return found


def _smaller(given: Broken, x: Tensor, threats: list[ThreatModel]) -> Tensor:
    """Whose perturbation fits in the next smaller radius, (B,) bool."""
    distance = threats[0].distance(images_of(given, x, threats), x)
    less = torch.tensor([-1.0, *(threat.eps for threat in threats)]).to(distance)
    return (distance <= less[given.radius]) & (given.radius < len(threats))


def differing(claimed: Tensor, found: Tensor, exact: bool) -> Tensor:
    """Where a claim is not what was found, as closely as on the machine that made it or not."""
    if not claimed.is_floating_point():
        return claimed != found
    tolerance = SIGN_EXACT if exact else SIGN_NEAR
    return ~torch.isclose(claimed, found, rtol=tolerance, atol=tolerance * 1e-3, equal_nan=True)
