"""The first depth: whether what was submitted agrees with itself. Nothing is measured."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from functools import partial
from itertools import groupby
from operator import itemgetter

from torch import Tensor

from genrobust._version import __version__
from genrobust.arguments import whole_seed
from genrobust.batch import Goal
from genrobust.data.base import DATASETS, is_reference
from genrobust.evidence.bundle import Evidence
from genrobust.evidence.checks import (
    NamedCheck,
    RejectionError,
    UntoldError,
    rejecting,
    written_by_another,
)
from genrobust.evidence.earlier import is_earlier
from genrobust.evidence.entries import is_finite
from genrobust.evidence.entry import ExternalModel
from genrobust.judges.load import name_of
from genrobust.outcomes import flags
from genrobust.outcomes.damage import damage_of
from genrobust.outcomes.outcome import GOALS, Counts, Outcome
from genrobust.outcomes.scores import clean_accuracy, rated
from genrobust.records.record import DataInfo, Flag, JudgeInfo, Record
from genrobust.rules.base import RULES
from genrobust.runner import collect
from genrobust.runner.radii import HALVINGS
from genrobust.suites.suite import SUITES, Suite, load_suite, registered_as
from genrobust.verify.claims import FROM_OUTCOMES, positions, require_equal
from genrobust.verify.subject import Subject

#: A suite of one's own may ask for as much work as this.
MAX_RESAMPLES = 20_000
#: On another machine: how far from its limit the share behind a flag may lie, and yet be beyond it
#: there alone.
NEAR_FLAG = 0.03
#: What a version looks like, so that a command can name it.
VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}((a|b|rc|\.post|\.dev)[0-9]{1,4})?")
#: How long the words for a machine may be, and a run in seconds: ten years.
MAX_WORDS, MAX_SECONDS = 200, 315_360_000
#: More than a run knows the versions of.
MAX_PACKAGES = 100
#: Nothing was measured before there was anything to measure with.
FIRST_DAY = date(2025, 1, 1)
#: Sources a shard and radius whose outcome, scored again beside others, may come out otherwise.
ROUNDED = 1


def checks(subject: Subject) -> list[list[NamedCheck]]:
    """What is checked, in groups: where one has failed, the next makes no sense."""
    evidence = subject.evidence
    return [
        [
            ("suite", partial(check_suite, subject)),
            ("data and judges", partial(check_origins, evidence.record)),
            ("sources", partial(check_sources, evidence)),
            ("model", partial(check_model, subject)),
            ("columns", partial(check_columns, evidence)),
            ("what is said", partial(check_said, subject)),
        ],
        [
            ("shards", partial(check_shards, evidence)),
            ("outcomes", partial(check_outcomes, evidence)),
            ("scores", partial(check_scores, evidence)),
            ("counts", partial(check_counts, evidence)),
            ("flags", partial(check_flags, evidence)),
        ],
    ]


def registered(suite: Suite) -> Suite | None:
    """The frozen suite of that name and, where it is registered too, of that version."""
    name = registered_as(suite)
    return None if name is None else load_suite(name)


def check_suite(subject: Subject) -> str:
    record = subject.evidence.record
    suite, frozen = record.suite, registered(record.suite)
    if record.suite_sha256 != suite.sha256:
        raise RejectionError("record.json names a suite_sha256 that is not its suite's")
    if record.official != (not record.deviations):
        raise RejectionError("record.json says that it is official, and names deviations")
    whole = frozen is not None and frozen.sha256 == suite.sha256
    if record.official and frozen is None:
        raise UntoldError(
            f"the suite {suite.name[:40]!a} (no such suite is registered) is not one of "
            f"{', '.join(SUITES.names())}; install the plugin that offers it"
        )
    if record.official and frozen is not None and not whole:
        other = written_by_another(record.provenance.genrobust)
        if other and frozen.version != suite.version:
            raise UntoldError(f"{suite.name} is of version {frozen.version} here; {other}")
        raise RejectionError(
            f"record.json says that it is official, and its suite is not the frozen {suite.name} "
            f"v{suite.version} (sha256 {suite.sha256[:12]}; sha256 {frozen.sha256[:12]})"
        )
    if subject.is_attack:
        return "sources, radii and judges are those of the entry that is attacked"
    if not whole and suite.resamples > MAX_RESAMPLES:
        raise RejectionError(f"its suite asks for {suite.resamples} resamples")
    name = f"{suite.name} v{suite.version}, sha256 {suite.sha256[:12]}"
    return f"the frozen suite {name}" if whole else f"not official: a changed suite ({name})"


def check_origins(record: Record) -> str:
    """The record's data and judges are those that its suite names."""
    suite = record.suite
    data = DataInfo(name=suite.dataset, split=suite.split, sha256=suite.data_sha256)
    refs = [(suite.attacker_judge, "attacker"), *((ref, "scorer") for ref in suite.scoring_judges)]
    judges = tuple(
        JudgeInfo(name=name_of(suite.dataset, ref.architecture), sha256=ref.sha256, role=role)
        for ref, role in refs
        if ref is not None
    )
    if record.data != data:
        raise RejectionError("the data that record.json names are not those of its suite")
    if record.judges != judges:
        raise RejectionError("the judges that record.json names are not those of its suite")
    return f"{suite.dataset} {suite.data_sha256[:12]} and {len(judges)} judges, by hash"


def check_sources(evidence: Evidence) -> str:
    """Each of the suite's sources is there once; labels are classes; scores are numbers."""
    suite = evidence.record.suite
    if len(set(suite.sample_ids)) != len(suite.sample_ids):
        raise RejectionError("the suite names a source twice")
    if suite.dataset not in DATASETS and not is_reference(suite.dataset):
        raise UntoldError(
            f"no data set {suite.dataset[:40]!a} is registered; install the plugin that offers it, "
            f"beside {', '.join(DATASETS.names())}"
        )
    classes = RULES.get(suite.rule).classes(suite.dataset)
    for name in ("label", "target_label", "input_verdict", "clean_verdict"):
        found = evidence.tensors[name]
        least = 0 if name.endswith("label") else -1
        if not ((found >= least) & (found < classes)).all():
            raise RejectionError(f"'{name}' names classes that {suite.dataset} does not have")
    if not is_finite(evidence.record.model_dump()):
        raise RejectionError("record.json has a number that is NaN or infinite")
    return f"all {len(suite.sample_ids)} sources of the suite, each once and in its order"


def check_model(subject: Subject) -> str:
    """The entry's model is that of the evidence, and the fingerprint is one."""
    evidence, entry = subject.evidence, subject.entry
    if evidence.model is None and evidence.model_files:
        raise RejectionError("the evidence holds a model that its manifest does not name")
    fingerprint = evidence.record.model.fingerprint
    if entry is None:
        kind = "by fingerprint alone" if evidence.model is None else f"from {evidence.model.kind}"
        return f"fingerprint {fingerprint[:12]}, {kind}"
    said = entry.entry.model
    if subject.on is not None:
        if said != subject.on.entry.model:
            raise RejectionError("entry.json names another model than the entry it attacks")
    elif (None if isinstance(said, ExternalModel) else said) != evidence.model:
        raise RejectionError("entry.json names another model than the evidence")
    return f"fingerprint {fingerprint[:12]} in entry and record, kind '{said.kind}' in both"


def check_columns(evidence: Evidence) -> str:
    """All that a flag or a score may rest on is there."""
    earlier = is_earlier(evidence.record_bytes)
    if evidence.record.radii == "from the largest" and not earlier:
        raise RejectionError(
            "the run searched its radii from the largest down, as an earlier genrobust did; "
            f"measure again with genrobust {__version__}"
        )
    return f"all {len(evidence.tensors)} that signs, counts and scores rest on" + (
        "; radii from the largest down, of an entry from before, which is known by its hash"
        if earlier
        else ""
    )


def check_said(subject: Subject) -> str:
    """What pages show and nothing can prove has the form of what it says it is."""
    record, today = subject.evidence.record, datetime.now(timezone.utc)
    where, times = record.provenance, record.times
    words = [
        ("python", where.python),
        ("platform", where.platform),
        ("processor", where.processor),
        ("device", where.device),
        ("created", times.created),
        *((f"packages: {name[:40]}", f"{name} {v}") for name, v in where.packages.items()),
    ]
    for name, said in words:
        if len(said) > MAX_WORDS or not said.isprintable():
            raise RejectionError(f"the record's {name!a} is not a plain word or two: {said[:60]!a}")
    if len(where.packages) > MAX_PACKAGES:
        raise RejectionError(f"the record names {len(where.packages)} packages")
    if not VERSION.fullmatch(where.genrobust):
        raise RejectionError(f"{where.genrobust[:40]!a} is no version of genrobust")
    if not 0 <= times.attack_seconds < MAX_SECONDS:
        raise RejectionError(f"the record says that attacks took {times.attack_seconds:g} seconds")
    dates = {"the record": times.created}
    if subject.entry is not None:
        dates |= {"the entry": subject.entry.entry.submitted}
    for who, said in dates.items():
        if not FIRST_DAY <= _day(who, said) <= (today + timedelta(days=1)).date():
            raise RejectionError(
                f"{who} says that it was made on {said[:40]!a}, which cannot be: here it is "
                f"{today.date()}"
            )
    return f"measured on {times.created[:10]} by genrobust {where.genrobust}, by its own word"


def _day(who: str, said: str) -> date:
    try:
        return datetime.fromisoformat(said.removesuffix("Z")).date()
    except ValueError as problem:
        raise RejectionError(f"{who} has a date that is none: {said[:40]!a}") from problem


def check_shards(evidence: Evidence) -> str:
    """The record names the shards that its suite, model and seed are cut into."""
    with rejecting():
        whole_seed(evidence.record.seed)
    keys = tuple(spec.key for spec in evidence.shards)
    if evidence.record.provenance.shards != keys:
        raise RejectionError(
            "the shards that record.json names are not those of its suite, model and seed"
        )
    return f"{len(keys)} shards of seed {evidence.record.seed}, by hash"


def check_outcomes(evidence: Evidence) -> str:
    """What is said of single sources agrees."""
    outcome, radii = evidence.outcome, len(evidence.record.suite.eps)
    right = outcome.input_verdict == outcome.label
    right &= outcome.clean_verdict == outcome.label
    wrong = outcome.eligible != right
    if wrong.any():
        raise RejectionError(f"'eligible' is not what the verdicts say at {positions(wrong)}")
    for goal, broken in outcome.goals.items():
        fell = broken.radius < radii
        if (fell & ~right).any():
            raise RejectionError(
                f"sources that are not eligible fell, at {positions(fell & ~right)}"
            )
        stray = ~fell & broken.perturbation.flatten(1).any(1)
        if stray.any():
            raise RejectionError(
                f"sources that stood have a perturbation for '{goal}', at {positions(stray)}"
            )
    hidden = outcome.untargeted.radius > outcome.targeted.radius
    if hidden.any():
        raise RejectionError(
            "sources that show their target's class are said to show their own, at "
            + positions(hidden)
        )
    count = int((outcome.untargeted.radius < radii).sum())
    return f"{int(right.sum())} sources are eligible, of which {count} fell"


def check_scores(evidence: Evidence) -> str:
    """What follows from outcomes alone is claimed as it follows."""
    claimed, suite, outcome = evidence.record.scores, evidence.record.suite, evidence.outcome
    found = rated(claimed, outcome.worst, suite, RULES.get(suite.rule).classes(suite.dataset))
    told = {
        "clean_accuracy": clean_accuracy(outcome, suite),
        "damage": damage_of(outcome.damaged, suite),
    }
    found = found.model_copy(update=told)
    count = require_equal(claimed, found, FROM_OUTCOMES)
    return f"{count} scores with their intervals follow from the outcomes"


def check_flags(evidence: Evidence) -> str:
    """The record has the flags that its signs and counts raise, and no others."""
    record = evidence.record
    require_flags(record, flags_of(record.suite, evidence.outcome))
    return _named(record.flags)


def flags_of(suite: Suite, found: Outcome) -> tuple[Flag, ...]:
    told = (found.damaged, found.untargeted.radius, found.label)
    return flags.raised(suite, found.eligible, found.signs, found.counts, *told)


def require_flags(record: Record, found: Sequence[Flag]) -> None:
    """Refuse other flags than were found; their words only count within a version."""

    def compared(flag: Flag) -> tuple[object, ...]:
        words = flag.evidence if record.provenance.genrobust == __version__ else None
        return (flag.name, flag.value, flag.limit, words)

    theirs, ours = set(map(compared, record.flags)), set(map(compared, found))
    if theirs != ours or len(record.flags) != len(found):
        raise RejectionError(
            f"record.json has {_named(record.flags)}; the signs raise {_named(found)}"
        )


def require_near_flags(record: Record, found: Sequence[Flag]) -> None:
    """Likewise on another machine, where what is measured may lie on the other side of a limit."""
    theirs, ours = ({flag.name: flag for flag in flags} for flags in (record.flags, found))
    for name in theirs.keys() ^ ours.keys():
        flag = theirs.get(name) or ours[name]
        if abs(flag.value - flag.limit) > NEAR_FLAG:
            raise RejectionError(
                f"record.json has {_named(record.flags)}; the recomputed signs raise "
                f"{_named(found)}, '{name}' at {flag.value:.3g} where {flag.limit:.3g} is the limit"
            )


def check_counts(evidence: Evidence) -> str:
    """What shards counted adds up to the record, and to what became of the sources."""
    record, suite = evidence.record, evidence.record.suite
    total = evidence.outcome.counts
    if collect.attack_costs(suite, total) != record.attacks:
        raise RejectionError("what the shards counted does not add up to the record's attacks")
    totals = int(total.forwards.sum()), int(total.backwards.sum())
    if totals != (record.forwards, record.backwards):
        raise RejectionError("the record's forwards and backwards are not the sum of the shards'")
    for number in range(len(evidence.shards)):
        problem = _problem_of_counts(record, evidence.shard(number))
        if problem:
            raise RejectionError(f"in shard {number} {problem}")
    return f"of {len(record.attacks)} attacks in {len(evidence.shards)} shards, in sum the record's"


def _problem_of_counts(record: Record, shard: Outcome) -> str | None:
    """How a shard's counts contradict themselves or the outcomes of its sources."""
    suite, counts = record.suite, shard.counts
    tried, succeeded = counts.tried, counts.succeeded
    # What is tried again in smaller balls is counted again.
    again = 1 if record.radii == "from the largest" else 1 + HALVINGS
    if any((count < 0).any() for count in counts.tensors().values()):
        return "a count is negative"
    if (succeeded > tried).any() or (tried > again * int(shard.eligible.sum())).any():
        return "attacks were tried on more sources than there are, or succeeded on more than tried"
    if ((tried == 0) & (counts.forwards + counts.backwards > 0)).any():
        return "attacks that were not tried cost something"
    if not suite.ensemble:
        return None
    problem = _problem_of_signs(record, shard) or problem_of_order(suite, counts)
    if problem is None and _adds_up(suite):
        downwards = record.radii == "from the largest"
        check = _problem_from_the_largest if downwards else _problem_at_each_radius
        problem = check(suite, shard)
    return problem


def _problem_of_signs(record: Record, shard: Outcome) -> str | None:
    """The two last rows against the signs that they were made for."""
    short, longer = shard.counts.tried[-2:]
    if (short != int(shard.eligible.sum())).any():
        return "short attacks were not tried on every eligible source"
    if shard.signs.longer is None:
        return None
    again, fell = shard.signs.longer.tried, shard.signs.longer.success
    stands = shard.eligible & (shard.untargeted.radius > 0)
    succeeded = shard.counts.succeeded[-1]
    if any(entry.descends for entry in record.suite.attacks):
        return _problem_of_descent(shard, again, fell, stands)
    if (again != (stands | fell)).any() or (fell & ~again).any():
        return "the longer attack was not tried on the sources that stand"
    if record.radii == "from the largest":  # each source once, at the largest that it withstands
        counted = (int(longer.sum()), int(succeeded.sum()))
        same = counted == (int(again.sum()), int(fell.sum()))
    else:
        unbroken = [_unbroken(shard, "untargeted", e) for e in range(len(longer))]
        same = (longer - succeeded).tolist() == unbroken
        same &= int(succeeded.sum()) == int(fell.sum())
    return None if same else "the counts of the longer attack are not those of its signs"


def _problem_of_descent(shard: Outcome, again: Tensor, fell: Tensor, stands: Tensor) -> str | None:
    """The longer attack goes down with the dear ones, and meets each source where it stands last.

    Those that lose their class, or fall to it, it meets again at a smaller radius; and what an
    attack on a target breaks after that had stood.
    """
    if ((stands | fell) & ~again).any() or (again & ~shard.eligible).any():
        return "the longer attack was not tried on the sources that stand"
    tried, succeeded = (int(c[-1].sum()) for c in (shard.counts.tried, shard.counts.succeeded))
    held = tried - succeeded
    same = int(fell.sum()) <= succeeded and int(stands.sum()) <= held and int(again.sum()) <= tried
    return None if same else "the counts of the longer attack are not those of its signs"


def problem_of_order(suite: Suite, counts: Counts, applying: Collection[int] = ()) -> str | None:
    """Each attack gets what the one before it left, at each radius.

    Args:
        suite: whose attacks these are.
        counts: of a shard.
        applying: rows of attacks that the model can be attacked by, if that is known; of others it
            is those that were tried on anything.
    """
    for rows in _rows_in_order(suite, counts, applying):
        tried, fell = counts.tried[rows], counts.succeeded[rows]
        otherwise = (tried[1:] != (tried - fell)[:-1]).any(0)
        if otherwise.any():
            eps = suite.eps[int(otherwise.nonzero()[0])]
            return f"attacks at eps {eps:g} were not tried on what those before them left"
    return None


def _rows_in_order(suite: Suite, counts: Counts, applying: Collection[int]) -> Iterator[list[int]]:
    """Attacks that ran one after the other, towards one goal.

    Not those between which targeted attacks ran, as these reach the untargeted goal too.
    """
    for descends in (False, True):
        sweep = [
            (a, entry.goal)
            for a, entry in enumerate(suite.attacks)
            if entry.descends == descends and (a in applying or counts.tried[a].any())
        ]
        for _, after in groupby(sweep, key=itemgetter(1)):
            yield [a for a, _ in after]


def _problem_at_each_radius(suite: Suite, shard: Outcome) -> str | None:
    """What is tried is what stands, and what attacks broke is what fell."""
    aims, counts = {entry.goal for entry in suite.attacks}, shard.counts
    for e, eps in enumerate(suite.eps):
        for goal, rows, tried, fell in _attacks_at(suite, counts, e):
            before = _unbroken(shard, goal, e - 1)
            fallen = before - _unbroken(shard, goal, e)
            # Others than its own attacks reach the untargeted goal too.
            elsewhere = 0
            if goal == "untargeted":
                others = [a for a in range(len(suite.attacks)) if a not in rows]
                elsewhere = int(counts.succeeded[-2:, e].sum() + counts.tried[others, e].sum())
            short = int(counts.succeeded[-2, e]) if goal == "untargeted" else 0
            if goal in aims and (tried[0] if tried else 0) + ROUNDED < before - short:
                return f"attacks at eps {eps:g} were not tried on all that stood before them"
            if not sum(fell) - ROUNDED <= fallen <= sum(fell) + elsewhere + ROUNDED:
                return f"{fallen} sources fell at eps {eps:g}, and the attacks broke {sum(fell)}"
    return None


def _problem_from_the_largest(suite: Suite, shard: Outcome) -> str | None:
    """Likewise where the radii went down, and what stood at one was not attacked inside it."""
    for e, eps in enumerate(suite.eps):
        for goal, _, tried, fell in _attacks_at(suite, shard.counts, e):
            left = [n - k for n, k in zip(tried, fell, strict=True)]
            stand = int((shard.eligible & (shard.goals[goal].radius == e + 1)).sum())
            least = most = left[-1] if left else 0
            if goal == "untargeted":  # which targeted and longer attacks reach later
                least, most = 0, most + int(shard.counts.succeeded[-1, e + 1 : e + 2].sum())
            if not least - ROUNDED <= stand <= most + ROUNDED:
                return f"{stand} sources stand at eps {eps:g}, and the attacks left {most}"
    return None


def _adds_up(suite: Suite) -> bool:
    """Whether each radius is tried on what the one before it left.

    Not where attacks descend, or targeted ones come first, which reach the untargeted goal too.
    """
    goals = [entry.goal for entry in suite.attacks]
    descends = any(entry.descends for entry in suite.attacks)
    return goals == sorted(goals, reverse=True) and not descends


def _attacks_at(
    suite: Suite, counts: Counts, e: int
) -> Iterator[tuple[Goal, list[int], list[int], list[int]]]:
    """By goal, the rows of the attacks that ran, how many each tried, how many it broke."""
    for goal in GOALS:
        ran = [a for a, entry in enumerate(suite.attacks) if counts.tried[a].any()]
        rows = [a for a in ran if suite.attacks[a].goal == goal]
        yield goal, rows, counts.tried[rows, e].tolist(), counts.succeeded[rows, e].tolist()


def _unbroken(shard: Outcome, goal: Goal, e: int) -> int:
    """How many did not fall at a radius or a smaller one; before the first, are eligible."""
    return int((shard.eligible & (shard.goals[goal].radius > e)).sum())


def _named(raised: Sequence[Flag]) -> str:
    return "the flags " + ", ".join(f"'{flag.name}'" for flag in raised) if raised else "no flag"
