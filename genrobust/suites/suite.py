"""What a suite says: every choice of a measurement but the model and the seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from genrobust.attacks.base import Goal, make_attack
from genrobust.attacks.standard import MEMBERS
from genrobust.data.base import DATASETS, Split
from genrobust.errors import GenrobustError
from genrobust.registry import Registry
from genrobust.threat import Norm


class Frozen(BaseModel):
    """Data that does not change: immutable, and no field that is not declared.

    Infinity and NaN, which JSON does not have, are written as strings, and read back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class AttackEntry(Frozen):
    """An attack of a suite, what it aims at, and its settings."""

    attack: str
    goal: Goal
    settings: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """How tables call it."""
        changed = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.attack} {self.goal}" + (f" ({changed})" if changed else "")


class JudgeRef(Frozen):
    """A judge by architecture and by the hash of its weights."""

    architecture: str
    sha256: str


#: How a suite tells what a reconstruction shows.
Rule = Literal["agreement", "single", "single-live", "distance"]


class Suite(Frozen):
    """A protocol. Changing any field makes another protocol: give it a new version.

    ``sample_ids`` and ``target_ids`` are positions in the dataset's split; source i aims at target
    i in targeted attacks.

    ``rule`` says what success is. ``agreement``: all scoring judges, which attacks never see, agree
    on a class that is not the source's (or is the target's), and still see the source's in the
    attacked image. ``single``: one judge says so, and the attacked image is not looked at: the
    rule of the published attacks. ``single-live``: likewise, and the judge's dropout draws, as in
    published code that leaves it in train mode. ``distance``: the reconstruction is nearer to the
    target's than to the source's, for data without labels.

    ``ensemble`` says that the attacks are one cascade whose worst case counts, so that the radii
    go from the largest down and short attacks made for the flags count too; else each attack is
    run at each radius, as for measuring the attacks themselves.
    """

    name: str
    version: int
    description: str
    dataset: str
    split: Split
    data_sha256: str
    sample_ids: tuple[int, ...] = Field(min_length=1)
    target_ids: tuple[int, ...]
    norm: Norm
    eps: tuple[float, ...] = Field(min_length=1)
    attacks: tuple[AttackEntry, ...] = Field(min_length=1)
    ensemble: bool
    rule: Rule
    attacker_judge: JudgeRef | None
    scoring_judges: tuple[JudgeRef, ...]
    chunk_size: int = Field(gt=0)
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Suite:
        if len(self.target_ids) != len(self.sample_ids):
            raise ValueError("target_ids and sample_ids must be of one length")
        if list(self.eps) != sorted(set(self.eps)) or self.eps[0] < 0:
            raise ValueError("eps must be ascending, from 0 up")
        judges = len(self.scoring_judges)
        if self.rule == "agreement" and not judges:
            raise ValueError("the rule 'agreement' needs scoring_judges")
        if self.rule in ("single", "single-live") and judges != 1:
            raise ValueError(f"the rule '{self.rule}' needs exactly one of scoring_judges")
        if self.rule == "distance" and (judges or self.attacker_judge is not None):
            raise ValueError("the rule 'distance' has no judges: leave them out")
        if (self.rule != "distance") and self.attacker_judge is None:
            raise ValueError(f"the rule '{self.rule}' needs an attacker_judge")
        return self

    @property
    def sha256(self) -> str:
        """The identity of the protocol."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def limited(self, limit: int) -> Suite:
        """The suite on its first ``limit`` samples."""
        if limit < 1:
            raise GenrobustError(f"--limit is {limit}; it must be 1 or more")
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

    def judged_by(self, judge: JudgeRef, live: bool = False) -> Suite:
        """The suite with one judge's word for success, as published attacks are scored.

        ``live`` lets the judge's dropout draw.
        """
        rule = "single-live" if live else "single"
        return self.model_copy(update={"rule": rule, "scoring_judges": (judge,)})

    def with_norm(self, norm: Norm) -> Suite:
        """The suite under a norm: an L2 ball of ``eps * sqrt(pixels)`` just holds an L-inf ball."""
        if norm == self.norm:
            return self
        root = math.sqrt(math.prod(DATASETS.get(self.dataset).image_shape))
        factor = root if norm == "l2" else 1 / root
        return self.model_copy(update={"norm": norm, "eps": tuple(e * factor for e in self.eps)})

    def with_eps(self, eps: list[float]) -> Suite:
        """The suite on another grid."""
        if min(eps) < 0:
            raise GenrobustError(f"--eps is {min(eps)}; it must be a number from 0 up, such as 0.1")
        return self.model_copy(update={"eps": tuple(sorted(set(eps)))})


def entries_of(name: str, goal: Goal) -> tuple[AttackEntry, ...]:
    """An attack as entries of a suite: of the ensemble its members, so that each is scored."""
    if name != "standard":
        return (AttackEntry(attack=name, goal=goal),)
    return tuple(
        AttackEntry(attack=member, goal=goal, settings=settings)
        for member, settings in MEMBERS[goal]
    )


#: A suite is registered as a function that gives it.
SUITES: Registry[Callable[[], Suite]] = Registry(
    "suite",
    {"digits": "genrobust.suites.builtin:digits", "mnist": "genrobust.suites.builtin:mnist"},
)


def load_suite(name: str) -> Suite:
    """A registered suite, or one in a JSON file of the same form.

    Raises:
        GenrobustError: no such suite; the file is not one.

    Example:
        >>> load_suite("digits").dataset
        'digits'
    """
    if not name.endswith(".json"):
        return SUITES.get(name)()
    return read_suite(Path(name))


def read_suite(path: Path) -> Suite:
    """The suite in a JSON file."""
    try:
        return Suite.model_validate_json(path.read_text())
    except OSError as problem:
        raise GenrobustError(
            f"the suite '{path}' cannot be read ({problem.strerror}); check the path"
        ) from problem
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise GenrobustError(
            f"'{path}' is not a suite: {where}: {first['msg']}; compare it with the output of "
            "'genrobust show suite digits'"
        ) from problem
