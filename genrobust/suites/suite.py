"""What a suite says: every choice of a measurement but the model and the seed."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from genrobust import files
from genrobust.attacks.base import make_attack
from genrobust.attacks.standard import MEMBERS
from genrobust.batch import Goal
from genrobust.data.base import DATASETS, Split, data_at
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.judges import load_judge, roles
from genrobust.names import is_part
from genrobust.norms import NormName, load_norm
from genrobust.registry import Registry
from genrobust.rules.base import RULES, Rule


class Frozen(BaseModel):
    """Data that does not change: immutable, and no field that is not declared.

    Infinity and NaN, which JSON does not have, are written as strings, and read back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class AttackEntry(Frozen):
    """An attack of a suite, what it aims at, and its settings.

    One that ``descends`` runs after those that do not, from the largest radius down: what stands
    against it in a ball is left alone in the balls inside it.

    Example:
        >>> AttackEntry(attack="latent", goal="targeted", settings={"steps": 20}).label
        'latent targeted (steps=20)'
    """

    attack: str
    goal: Goal
    settings: dict[str, Any] = {}
    descends: bool = Field(default=False, exclude_if=lambda value: not value)

    @property
    def label(self) -> str:
        """How tables call it."""
        changed = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.attack} {self.goal}" + (f" ({changed})" if changed else "")


class JudgeRef(Frozen):
    """A judge by architecture and by the hash of its weights.

    Example:
        >>> JudgeRef.of("digits", "vgg").sha256[:8]
        'd8bdfb17'
    """

    architecture: str  # or any reference that genrobust.judges.load_judge takes
    sha256: str

    @classmethod
    def of(cls, dataset: str, reference: str) -> JudgeRef:
        """The judge as it is now.

        Raises:
            GenrobustError: see :func:`genrobust.judges.load_judge`.
        """
        return cls(architecture=reference, sha256=load_judge(dataset, reference).sha256)


#: How a run of a suite that is not registered as it is departs from all that are.
OWN = "a suite of one's own"

#: A file that is larger is no suite: the largest ids of the most samples take less.
MAX_BYTES = 16 << 20
#: What is found of each source is kept in memory until the scores are taken.
MAX_SAMPLES = 100_000
#: Beyond these, an interval's ends move by less than they are printed with.
MAX_RESAMPLES = 100_000
#: An interval draws all its resamples at once: so many sources in all, of 8 bytes each and more.
MAX_DRAWS = 10**8
#: A chunk's images go through the model together.
MAX_CHUNK = 10_000
#: No ball need be larger than the box around it: in L2 the root of the number of pixels.
MAX_EPS = 10_000.0

#: A position in a split, which also fits into every integer type that it meets.
SampleId = Annotated[int, Field(ge=0, lt=2**31)]
Radius = Annotated[float, Field(ge=0, le=MAX_EPS, allow_inf_nan=False)]


class Suite(Frozen):
    """A protocol. Changing any field makes another protocol: give it a new version.

    ``sample_ids`` and ``target_ids`` are positions in the dataset's split; source i aims at target
    i in targeted attacks.

    ``rule`` says what success is: a name in :data:`genrobust.rules.RULES`. ``agreement``: all
    scoring judges, which attacks never see, agree on a class that is not the source's (or is the
    target's), and still see the source's in the attacked image. ``single``: one judge says so, and
    the attacked image is not looked at: the rule of the published attacks. ``single-live``:
    likewise, and the judge's dropout draws, as in published code that leaves it in train mode.
    ``distance``: the reconstruction is nearer to the target's than to the source's, for data
    without labels.

    ``ensemble`` says that the attacks are one cascade whose worst case counts, so that the attacks
    made for the flags count too; else only those that are named do, as for measuring the attacks
    themselves. Either way sources whose class was lost in a large ball are tried in smaller ones.

    Example:
        >>> suite = load_suite("digits")
        >>> suite.norm, suite.eps, len(suite.sample_ids), suite.limited(5).sha256 == suite.sha256
        ('linf', (0.02, 0.04, 0.06, 0.1), 90, False)
    """

    name: str
    version: int = Field(ge=0, lt=2**31)
    description: str
    dataset: str
    split: Split
    data_sha256: str
    sample_ids: tuple[SampleId, ...] = Field(min_length=1, max_length=MAX_SAMPLES)
    target_ids: tuple[SampleId, ...] = Field(max_length=MAX_SAMPLES)
    norm: NormName
    eps: tuple[Radius, ...] = Field(min_length=1, max_length=1000)
    attacks: tuple[AttackEntry, ...] = Field(min_length=1, max_length=1000)
    ensemble: bool
    rule: str
    attacker_judge: JudgeRef | None
    scoring_judges: tuple[JudgeRef, ...] = Field(max_length=100)
    chunk_size: int = Field(gt=0, le=MAX_CHUNK)
    confidence: float = Field(gt=0, lt=1, allow_inf_nan=False)
    resamples: int = Field(gt=0, le=MAX_RESAMPLES)
    rate_limit: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        exclude_if=lambda value: value is None,
        description="what the code of a ranked model may carry, in nats for each number of an "
        "image; None for that of the board",
    )

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not is_part(name):
            raise ValueError(
                f"'{name}' cannot name the folder of its runs: it takes letters, digits, '.', '_', "
                "'+' and '-', such as 'digits-brief'"
            )
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Suite:
        if len(self.target_ids) != len(self.sample_ids):
            raise ValueError("target_ids and sample_ids must be of one length")
        if list(self.eps) != sorted(set(self.eps)):
            raise ValueError("eps must be ascending, from 0 up")
        if self.resamples * len(self.sample_ids) > MAX_DRAWS:
            most = MAX_DRAWS // len(self.sample_ids)
            raise ValueError(
                f"resamples must be at most {most:,} for so many sample_ids, as all are in memory"
            )
        rule, attacker = RULES.get(self.rule), self.attacker_judge is not None
        problem = rule.problem_with(len(self.scoring_judges), attacker)
        if problem:
            raise ValueError(problem)
        return self

    @field_validator("rule")
    @classmethod
    def _is_known(cls, rule: str) -> str:
        try:
            RULES.get(rule)
        except GenrobustError as problem:  # pydantic says of which field it is only of these
            raise ValueError(str(problem)) from problem
        return rule

    @property
    def sha256(self) -> str:
        """The identity of the protocol."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def limited(self, limit: int) -> Suite:
        """The suite on its first ``limit`` samples."""
        if limit < 1:
            raise GenrobustError(f"limit is {limit}; it must be 1 or more")
        return self.model_copy(
            update={
                "sample_ids": self.sample_ids[:limit],
                "target_ids": self.target_ids[:limit],
            }
        )

    def with_attacks(self, names: list[str]) -> Suite:
        """The suite with these attacks in place of its own: each for every goal it has."""
        entries = [
            entry
            for name in names
            for goal in make_attack(name).goals
            for entry in entries_of(name, goal)
        ]
        update = {"attacks": tuple(entries), "ensemble": names == ["standard"]}
        return self.model_copy(update=update)

    @property
    def judges(self) -> tuple[JudgeRef, ...]:
        """All that it names, the attacker's first."""
        attacker = () if self.attacker_judge is None else (self.attacker_judge,)
        return (*attacker, *self.scoring_judges)

    @property
    def shared_judges(self) -> tuple[str, ...]:
        """The scoring judges that attacks go by as well.

        None by a rule of one judge's word, which is what published attacks went by.
        """
        if RULES.get(self.rule).judges_needed[1] == 1 or self.attacker_judge is None:
            return ()
        seen = self.attacker_judge.sha256
        return tuple(ref.architecture for ref in self.scoring_judges if ref.sha256 == seen)

    def judged_by(self, references: Sequence[str], rule: str | None = None) -> Suite:
        """The suite with these judges: the first attacks and the others score, one does both.

        Under a rule of one judge's word, such as ``single``, that judge scores, and attacks keep
        the suite's.

        Args:
            references: see :func:`genrobust.judges.load_judge`.
            rule: of success; default the suite's.

        Raises:
            GenrobustError: no such rule or judge, or not as many judges as the rule needs.
        """
        name = self.rule if rule is None else rule
        kind = RULES.get(name)
        if not kind.labelled:
            raise GenrobustError(
                f"the suite '{self.name}' scores by {name}, without judges; leave --judge out"
                if rule is None
                else f"the rule '{name}' scores without judges; write a suite for it, such as that "
                "of docs/plugins.md, and give it with --suite"
            )
        attacker, scorers = self.attacker_judge, self.scoring_judges
        if references:
            found = {reference: JudgeRef.of(self.dataset, reference) for reference in references}
            scorers = tuple(found.values())
            if kind.judges_needed[1] > 1:
                who = roles(references)
                attacker, scorers = found[who.attacker], tuple(found[r] for r in who.scorers)
        require_judges(kind, len(scorers), attacker is not None)
        return self.model_copy(
            update={"rule": name, "attacker_judge": attacker, "scoring_judges": scorers}
        )

    def with_norm(self, norm: str) -> Suite:
        """The suite under a norm: radii become those of balls that just hold the same L-inf balls.

        Under L2 an L-inf radius is multiplied by the root of the number of pixels.

        Raises:
            GenrobustError: no such norm.
        """
        pixels = math.prod(DATASETS.get(self.dataset).image_shape)
        factor = load_norm(norm).reach(pixels) / load_norm(self.norm).reach(pixels)
        return self.model_copy(update={"norm": norm, "eps": tuple(e * factor for e in self.eps)})

    def with_eps(self, eps: list[float]) -> Suite:
        """The suite on another grid."""
        return self.model_copy(update={"eps": grid(eps)})


def grid(eps: Sequence[float]) -> tuple[float, ...]:
    """Radii as a suite has them, ascending and each once.

    Raises:
        GenrobustError: one is negative, NaN or too large for any ball.
    """
    for radius in eps:
        if not 0 <= radius <= MAX_EPS:  # nor NaN
            raise GenrobustError(
                f"eps is {radius}; it must be a finite eps from 0 up to {MAX_EPS:g}, such as 0.1"
            )
    return tuple(sorted(set(eps)))


def warn_of_wide(suite: Suite) -> None:
    """Say so where a radius, of an option or a file, is in bytes: it breaks every model."""
    pixels = math.prod(DATASETS.get(suite.dataset).image_shape)
    widest, apart = max(suite.eps), load_norm(suite.norm).reach(pixels)
    if widest > apart:
        warnings.warn(
            f"eps {widest:g} is more than any two images are apart ({apart:g} under {suite.norm}): "
            "pixels are in [0, 1], so that 8 of 255 is 0.0314",
            GenrobustWarning,
            stacklevel=3,
        )


def require_judges(rule: type[Rule], scorers: int, attacker: bool) -> None:
    """Assert that there are as many judges as a rule needs.

    Raises:
        GenrobustError: there are not.
    """
    problem = rule.problem_with(scorers, attacker)
    if problem:
        raise GenrobustError(f"{problem}, and there are {scorers}; give them with --judge")


def entries_of(name: str, goal: Goal) -> tuple[AttackEntry, ...]:
    """An attack as entries of a suite: of the ensemble its members, so that each is scored."""
    if name != "standard":
        return (AttackEntry(attack=name, goal=goal),)
    return tuple(
        AttackEntry(attack=member, goal=goal, settings=settings)
        for member, settings in MEMBERS[goal]
    )


#: A suite is registered as a function without arguments that gives it. A name without a version is
#: that of the newest one, and changes what it means with a release; one with a version never does.
SUITES: Registry[Callable[[], Suite]] = Registry(
    "suite",
    {
        "digits": "genrobust.suites.builtin:digits_v2",
        "digits-v1": "genrobust.suites.builtin:digits_v1",
        "digits-v2": "genrobust.suites.builtin:digits_v2",
        "mnist": "genrobust.suites.builtin:mnist_v2",
        "mnist-v1": "genrobust.suites.builtin:mnist_v1",
        "mnist-v2": "genrobust.suites.builtin:mnist_v2",
    },
)


def registered_as(suite: Suite) -> str | None:
    """The registered name of a suite's protocol, if it has one: with its version, or its own.

    Whether it is that protocol unchanged, only :func:`load_suite` can tell.

    Example:
        >>> registered_as(load_suite("digits")), registered_as(load_suite("digits-v1"))
        ('digits-v2', 'digits-v1')
    """
    names = (f"{suite.name}-v{suite.version}", suite.name)
    return next((name for name in names if name in SUITES), None)


def spelled_out(command: str, suite: Suite) -> str:
    """A run's command with the version of its suite, where it was typed or kept without it.

    Example:
        >>> spelled_out("genrobust bench --suite digits --seed 3", load_suite("digits-v1"))
        'genrobust bench --suite digits-v1 --seed 3'
    """
    said = rf"(?<= --suite ){re.escape(suite.name)}(?= |$)"
    return re.sub(said, registered_as(suite) or suite.name, command)


def load_suite(name: str, data_root: str | Path | None = None) -> Suite:
    """A registered suite, or one in a JSON file of the same form.

    Args:
        name: a registered name, or a path that ends in ``.json``. ``digits`` is the newest version,
            ``digits-v1`` is version 1 for ever.
        data_root: where a plugin's function finds the data set whose hash it gives.

    Raises:
        GenrobustError: no such suite; the file, or what a plugin's function gives, is not one.

    Example:
        >>> load_suite("digits").dataset
        'digits'
    """
    if name.endswith(".json"):
        return read_suite(Path(name))
    if name not in SUITES and (name in DATASETS or files.is_there(name)):
        raise GenrobustError(
            f"'{name}' is data and no suite; one is drawn from it by --data {shlex.quote(name)} "
            "(data=)"
        )
    make = SUITES.get(name)
    try:
        with data_at(data_root):
            made = make()
        return Suite.model_validate(made.model_dump())  # a copy with changes was not checked
    except GenrobustError:
        raise
    except (Exception, SystemExit) as problem:  # a plugin's code can raise anything
        words = f"{type(problem).__name__}: {in_a_line(problem)}"
        raise GenrobustError(
            f"the suite '{name}' cannot be made ({words}); it is registered as a function without "
            "arguments that gives a Suite: repair or uninstall what registers it"
        ) from problem


def read_suite(path: Path) -> Suite:
    """The suite in a JSON file."""
    try:
        return Suite.model_validate_json(files.read_text(path, MAX_BYTES))
    except OSError as problem:
        raise GenrobustError(
            f"the suite '{path}' cannot be read ({problem.strerror}); check the path"
        ) from problem
    except ValidationError as problem:
        raise GenrobustError(
            f"'{path}' is not a suite: {in_a_line(problem, Suite)}; compare it with the output of "
            "'genrobust show suite digits'"
        ) from problem
