"""A board: the worst case of each model over all accepted attacks, and who leads whom.

A source's own *robust area* is its share of the radii up to the largest at which it still stands
(by the trapezoids of :func:`genrobust.metrics.success.robust_area`; 0 if it is not eligible), so
that a model's robust area is the mean of its sources'. Boards rank by it.

Two models are told apart if the interval of the difference of their areas leaves out 0. The
bootstrap is paired: a resample draws sources, the same for every model on the board as for their
own records. Going down from the top, each model that cannot be told apart from the first of its
group shares the group's rank; the next one leads a group of its own.

A model holds one place, however often it is submitted: where entries have one fingerprint, or do
nearly the same to the same images, as where weights were permuted, scaled or moved a little, the
one with the lowest area counts, so that nothing is gained by trying.

What was measured on other terms than the suite's, as under another norm or at other radii, stands
on a board of its own (:mod:`genrobust.board.terms`), so that a column holds what its head says.

Ranks are of models with a bottleneck, that a replay has shown: one whose code carries more than
:func:`genrobust.verify.capacity.rate_limit` gives back what it is given, attacked or not, and is a
reference line.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import numpy as np

from genrobust.board.terms import Terms, departure
from genrobust.errors import GenrobustError, a_few
from genrobust.evidence.entries import LoadedEntry, State
from genrobust.evidence.entry import Outcomes
from genrobust.models.families import DEFENCES
from genrobust.outcomes.scores import rated
from genrobust.records.outcomes import Worst, source_areas
from genrobust.records.record import Estimate, Record
from genrobust.records.statistics import Array, interval, resampled_means
from genrobust.suites.suite import SUITES, Suite, load_suite, registered_as
from genrobust.verify.capacity import rate_limit

#: Intervals of differences are given to four decimals, and judged so.
ROUNDING = 5e-5

#: Models are one if their errors differ by no more than this part of them, and at most this share
#: of the sources falls at another radius. Weights moved by three parts of a thousand change the
#: error by less; of the leaderboard's models, trained each anew, no two are apart by less than a
#: fifth of the sources.
ALIKE, APART = 1e-2, 0.1
#: Where errors differ by more, but by no more than this, as where reconstructions are dimmed by a
#: few percent: models are one if they differ on at most this share of the sources, and on at most
#: this part of those on which two would by chance that have nothing but their curves in common.
DIMMED, HARDLY, BY_CHANCE = 0.1, 0.05, 1 / 8
#: Where chance alone has them differ on fewer, as where all sources fall at once, it says nothing.
TELLING = 0.25

#: Letters and digits that are taken for one another.
_TWINS = str.maketrans("01i|β", "olllb")

#: Of which no letter looks the same, but for those: ASCII, and what the field calls its models.
_KNOWN_LETTERS = frozenset(map(chr, range(128))) | {"β"}

#: Why a row has no rank: its outcomes are not there, its model has a lower row, its code, no replay
#: of it, its flags, its run, its verification.
Standing = Literal[
    "ranked",
    "without outcomes",
    "repeated",
    "no bottleneck",
    "not replayed",
    "unreliable",
    "not official",
    "failed",
]
#: The order on a board. Rows without outcomes stand where their area puts them.
_TIERS: dict[Standing, int] = {
    "ranked": 0,
    "without outcomes": 0,
    "repeated": 1,
    "no bottleneck": 2,
    "not replayed": 3,
    "unreliable": 4,
    "not official": 5,
    "failed": 6,
}


@dataclass(frozen=True)
class Contender:
    """A model before it is ranked: a submitted entry, or a run of one's own.

    Args:
        id: unique on its board; also the path of its page.
        name: what it is called.
        record: its own run.
        outcomes: of its own run; None only for a run of one's own that kept none.
        entry: what was submitted; None for a run of one's own.
    """

    id: str
    name: str
    record: Record
    outcomes: Outcomes | None
    entry: LoadedEntry | None

    @property
    def state(self) -> State:
        return "unverified" if self.entry is None else self.entry.state

    @property
    def rate(self) -> float | None:
        """What the code carries, in nats: as a replay measured it, or before that was, the KL."""
        verified = None if self.entry is None else self.entry.current_verification
        if verified is not None and verified.rate is not None:
            return verified.rate
        kl = self.record.scores.kl
        return None if kl is None else kl.value

    @property
    def family(self) -> str | None:
        return None if self.entry is None else self.entry.entry.submission.family

    @property
    def defence(self) -> str | None:
        """Which one the model has: round it, as its spec says, or by its family's training."""
        model = self.record.model
        families = ((self.family or "").lower().replace(" ", "-"), model.reference)
        known = (DEFENCES[family] for family in families if family in DEFENCES)
        around = model.spec.get("defence")
        return str(around)[:80] if around else next(known, None)


@dataclass(frozen=True)
class Lowering:
    """What a submitted attack does to a model's robust area, and whether it counts."""

    attack: LoadedEntry
    alone: float
    lowers_by: float
    accepted: bool


@dataclass(frozen=True)
class BoardRow:
    """A model on its board.

    Args:
        contender: who it is, with its own run.
        best: its record with the worst case over its own run and all accepted attacks.
        standing: whether it is ranked, and why not.
        rank: that of its group; None where it is not ranked.
        tied: how many share the rank, itself included; 0 where it is not ranked.
        lowerings: the submitted attacks, the strongest first.
    """

    contender: Contender
    best: Record
    standing: Standing
    rank: int | None
    tied: int
    lowerings: tuple[Lowering, ...]

    @property
    def area(self) -> float:
        """Robust area, in [0, 1]; 0 where the grid has none."""
        area = self.best.scores.robust_area
        return 0.0 if area is None else area.value

    @property
    def is_reliable(self) -> bool:
        """Whether nothing says that its scores may be too high, or are not its own."""
        return self.standing != "failed" and not self.best.flags

    @property
    def best_attack(self) -> Lowering | None:
        """The submitted attack that lowers it most; None where the suite's own found all."""
        return next((one for one in self.lowerings if one.accepted and one.lowers_by > 0), None)


@dataclass(frozen=True, eq=False)
class Paired:
    """The robust areas of the models with outcomes of the suite, source by source and resampled.

    Args:
        suite: the protocol, whose resamples they are.
        ids: of the models, in the order of the board.
        areas: of each source, (models, sources).
        means: of each resample, (models, resamples).
    """

    suite: Suite
    ids: tuple[str, ...]
    areas: Array
    means: Array

    @classmethod
    def of(cls, suite: Suite, rows: Sequence[BoardRow]) -> Paired:
        """Of those of the rows that can be paired."""
        known = [row.contender for row in rows if _is_paired(row)]
        each = [source_areas(_merged(one), one.record.suite).numpy() for one in known]
        areas = np.stack(each) if each else np.empty((0, len(suite.sample_ids)))
        means = resampled_means(areas, suite) if each else np.empty((0, suite.resamples))
        return cls(suite, tuple(one.id for one in known), areas, means)

    def difference(self, first: str, second: str) -> Estimate:
        """The robust area of the first minus that of the second; both are among ``ids``."""
        a, b = self.ids.index(first), self.ids.index(second)
        low, high = interval(self.means[a] - self.means[b], self.suite)
        value = self.areas[a].mean() - self.areas[b].mean()
        return Estimate(value=float(value), low=float(low), high=float(high), n=len(self.areas[a]))


@dataclass(frozen=True)
class Board:
    """All that was measured on one version of a suite, on the same terms.

    Args:
        suite: the protocol, in whose terms all rows were measured.
        whole: the suite of that name and version as it stands: the same one, but on a board of
            runs that changed its terms.
        rows: in the order of the board.
        paired: what differences of robust areas are taken from.
    """

    suite: Suite
    whole: Suite
    rows: tuple[BoardRow, ...]
    paired: Paired = field(compare=False)  # follows from the rows

    @property
    def name(self) -> str:
        """Also that of its folder on the site."""
        changed = f"-{Terms.of(self.suite).mark}" if self.departure else ""
        return f"{self.home}{changed}"

    @property
    def home(self) -> str:
        """The name of the board of the suite as it stands."""
        return f"{self.suite.name}-v{self.suite.version}"

    @property
    def departure(self) -> str:
        """In which terms it is not the suite's own, in short words; or nothing."""
        return departure(self.suite, self.whole)

    @property
    def edition(self) -> str:
        """What stands behind the suite's name: its version, and how the board departs from it."""
        return ", ".join(filter(None, (f"v{self.suite.version}", self.departure)))

    @property
    def takes_entries(self) -> bool:
        """Whether models can be submitted to it: to that of a registered suite as it stands."""
        return registered_as(self.suite) is not None and not self.departure

    def other_attacks(self, row: BoardRow) -> str:
        """Those of a row's own run where they are not the suite's, in a few words; or nothing."""
        attacks = row.contender.record.suite.attacks
        if registered_as(self.whole) is not None and attacks == self.whole.attacks:
            return ""
        return a_few(list(dict.fromkeys(entry.attack for entry in attacks)))

    @property
    def suite_name(self) -> str:
        """What ``--suite`` takes to measure a model for this board."""
        return registered_as(self.suite) or self.suite.name

    @property
    def newer(self) -> str | None:
        """The board of the version that the suite's name stands for now, where that is a later one.

        Models are measured on that one; this board stays as it is.
        """
        name = self.suite.name
        version = load_suite(name).version if name in SUITES else 0
        return f"{name}-v{version}" if version > self.suite.version else None

    @property
    def rate_limit(self) -> float:
        """The most nats of an image that a ranked model's code may carry."""
        return rate_limit(self.suite, self.rows[0].contender.record.model.input_shape)

    @property
    def ranked(self) -> tuple[BoardRow, ...]:
        return tuple(row for row in self.rows if row.rank is not None)

    @property
    def leaders(self) -> tuple[BoardRow, ...]:
        return tuple(row for row in self.rows if row.rank == 1)


def contender(loaded: LoadedEntry) -> Contender:
    """A submitted entry as one of its board."""
    entry = loaded.entry
    return Contender(entry.slug, entry.submission.name, loaded.record, loaded.outcomes, loaded)


def make_boards(contenders: Iterable[Contender]) -> tuple[Board, ...]:
    """The boards of each suite and version that was measured: by name, the newest version first.

    Raises:
        GenrobustError: submitted entries disagree on what a suite is.
    """
    ordered = sorted(contenders, key=_named)
    groups = (list(group) for _, group in groupby(ordered, key=_named))
    return tuple(board for group in groups for board in _boards(group))


def _boards(contenders: Sequence[Contender]) -> Iterator[Board]:
    """That of the suite as it stands, then one for each way in which runs changed its terms."""
    whole = _whole(contenders)
    alike: dict[Terms, list[Contender]] = {Terms.of(whole): []}
    for one in contenders:
        alike.setdefault(Terms.of(one.record.suite), []).append(one)
    return (make_board(group, whole) for group in alike.values() if group)


def make_board(contenders: Sequence[Contender], whole: Suite | None = None) -> Board:
    """Merge, resample, rank.

    Args:
        contenders: at least one; all on suites of one name and version, on the same terms.
        whole: that suite as it stands; default as the contenders tell.

    Raises:
        GenrobustError: submitted entries disagree on what that suite is.
    """
    whole = _whole(contenders) if whole is None else whole
    suite = _nearest(contenders)
    suite = whole if Terms.of(whole) == Terms.of(suite) else suite
    contenders = _told_apart(contenders)
    rows = _told_repeated([_unranked(one, suite) for one in contenders])
    rows.sort(key=lambda row: (_TIERS[row.standing], -row.area, row.contender.id))
    paired = Paired.of(suite, rows)
    return Board(suite, whole, _ranked(rows, paired), paired)


def _told_apart(contenders: Sequence[Contender]) -> list[Contender]:
    """A name is its submitter's word: where it may be taken for another's, it goes with its folder.

    That is where it reads like one, and where it has letters of which others look the same.
    """

    def seen(name: str) -> str:
        folded = unicodedata.normalize("NFKC", name).casefold()
        return "".join(c for c in folded.translate(_TWINS) if c.isalnum())

    names = Counter(seen(one.name) for one in contenders)
    return [
        replace(one, name=f"{one.name} ({one.id})")
        if names[seen(one.name)] > 1 or not _KNOWN_LETTERS.issuperset(one.name)
        else one
        for one in contenders
    ]


def rescored(record: Record, worst: Worst) -> Record:
    """The record with the scores that another worst case of its sources gives."""
    classes = len(record.scores.per_eps[0].as_target_pairs.n)
    scores = rated(record.scores, worst, record.suite, classes)
    return record.model_copy(update={"scores": scores})


def _unranked(contender: Contender, suite: Suite) -> BoardRow:
    record, best = contender.record, contender.record
    if contender.outcomes is not None:
        own, merged = contender.outcomes.worst, _merged(contender)
        lowered = (merged.untargeted != own.untargeted) | (merged.targeted != own.targeted)
        best = rescored(record, merged) if lowered.any() else record
    return BoardRow(
        contender=contender,
        best=best,
        standing=_standing(contender, suite),
        rank=None,
        tied=0,
        lowerings=_lowerings(contender),
    )


def _standing(contender: Contender, suite: Suite) -> Standing:
    if contender.state == "failed":
        return "failed"
    if not contender.record.official or contender.record.suite != suite:
        return "not official"
    if contender.record.flags:
        return "unreliable"
    if contender.entry is not None and contender.state not in ("replay", "re-attack"):
        return "not replayed"
    rate = contender.rate
    if rate is not None and rate > rate_limit(suite, contender.record.model.input_shape):
        return "no bottleneck"
    return "ranked" if contender.outcomes is not None else "without outcomes"


def _told_repeated(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """The rows, where of submitted entries of one model the one with the lowest area is ranked."""
    kept: list[BoardRow] = []
    repeated: set[str] = set()
    for row in sorted(rows, key=lambda row: (row.area, row.contender.id)):
        if row.standing != "ranked" or row.contender.entry is None:
            continue  # a run of one's own may repeat what was submitted
        if any(_is_one_model(row.contender, other.contender) for other in kept):
            repeated.add(row.contender.id)
        else:
            kept.append(row)
    return [
        replace(row, standing="repeated") if row.contender.id in repeated else row for row in rows
    ]


def _is_one_model(one: Contender, other: Contender) -> bool:
    """Whether two are one model: by fingerprint, or by all that they do to the same images."""
    if one.record.model.fingerprint == other.record.model.fingerprint:
        return True
    # Not by the KL, which a bias in the variances or a scale of the code changes, and nothing else.
    errors = [entry.record.scores.reconstruction_error.value for entry in (one, other)]
    if not math.isclose(*errors, rel_tol=DIMMED):
        return False
    assert one.outcomes is not None
    assert other.outcomes is not None
    a, b = one.outcomes.worst, other.outcomes.worst
    differ = float(((a.untargeted != b.untargeted) | (a.eligible != b.eligible)).double().mean())
    if math.isclose(*errors, rel_tol=ALIKE):
        return differ <= APART
    shares = [w.untargeted.bincount(minlength=len(one.record.suite.eps) + 1) for w in (a, b)]
    by_chance = 1 - float((shares[0].double() * shares[1]).sum()) / len(a.untargeted) ** 2
    return by_chance >= TELLING and differ <= min(HARDLY, BY_CHANCE * by_chance)


def _is_accepted(attack: LoadedEntry) -> bool:
    """Nothing less than a replay shows that an attack's images do what it says."""
    return attack.state in ("replay", "re-attack")


def _merged(contender: Contender) -> Worst:
    assert contender.outcomes is not None
    attacks = () if contender.entry is None else contender.entry.attacks
    accepted = [attack.outcomes.worst for attack in attacks if _is_accepted(attack)]
    return contender.outcomes.worst.merged(accepted)


def _lowerings(contender: Contender) -> tuple[Lowering, ...]:
    """What each submitted attack does on its own and on top of the model's own run."""
    if contender.entry is None or contender.outcomes is None:
        return ()
    own, suite = contender.outcomes.worst, contender.record.suite

    def area(worst: Worst) -> float:
        return float(source_areas(worst, suite).mean())

    found = [
        Lowering(
            attack=attack,
            alone=area(replace(attack.outcomes.worst, eligible=own.eligible)),
            lowers_by=area(own) - area(own.merged([attack.outcomes.worst])),
            accepted=_is_accepted(attack),
        )
        for attack in contender.entry.attacks
    ]
    return tuple(
        sorted(found, key=lambda one: (not one.accepted, -one.lowers_by, one.attack.entry.slug))
    )


def _is_paired(row: BoardRow) -> bool:
    return row.contender.outcomes is not None and row.standing != "not official"


def _ranked(rows: Sequence[BoardRow], paired: Paired) -> tuple[BoardRow, ...]:
    """Ranks to those that take part, the best first; the others stay where they are."""
    groups: list[list[str]] = []
    for row in rows:
        if row.standing != "ranked":
            continue
        name = row.contender.id
        if groups and paired.difference(groups[-1][0], name).low <= ROUNDING:
            groups[-1].append(name)
        else:
            groups.append([name])
    ranks: dict[str, tuple[int, int]] = {}
    first = 1
    for group in groups:
        ranks |= {name: (first, len(group)) for name in group}
        first += len(group)
    return tuple(
        replace(row, rank=ranks[row.contender.id][0], tied=ranks[row.contender.id][1])
        if row.contender.id in ranks
        else row
        for row in rows
    )


def _whole(contenders: Sequence[Contender]) -> Suite:
    """The suite of one name and version as it stands: that of the submitted entries, of an official
    run, or registered; one's own is what the least changed run was measured on."""
    submitted = [one for one in contenders if one.entry is not None]
    for other in submitted[1:]:
        if other.record.suite_sha256 != submitted[0].record.suite_sha256:
            raise GenrobustError(
                f"the entries '{submitted[0].id}' and '{other.id}' differ in what "
                f"{other.record.suite.name} v{other.record.suite.version} is; one of them was "
                "measured on a changed suite and must be measured again"
            )
    for one in submitted or [one for one in contenders if one.record.official]:
        return one.record.suite
    nearest = _nearest(contenders)
    known = registered_as(nearest)
    return nearest if known is None else load_suite(known)


def _nearest(contenders: Sequence[Contender]) -> Suite:
    """The suite that was measured with the fewest changes."""
    return min(contenders, key=lambda one: len(one.record.deviations)).record.suite


def _named(one: Contender) -> tuple[str, int]:
    return one.record.suite.name, -one.record.suite.version
