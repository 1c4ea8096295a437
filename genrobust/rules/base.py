"""The contract of rules, the words that they are told in, and their registry."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from genrobust.batch import Batch
from genrobust.data.base import DATASETS
from genrobust.judges.judge import Judge
from genrobust.registry import Registry

#: The two "classes" of a rule without labels: what a source shows, and what it is turned into.
KEPT, CHANGED = 0, 1

AnySources = TypeVar("AnySources", bound="Sources")


@dataclass(frozen=True, eq=False)
class Sources:
    """B sources as a model shows them without an attack: what a rule may compare with.

    Args:
        sample_ids: one a source.
        x: the sources, (B, C, H, W) in [0, 1].
        labels: their classes, (B,) int64; by a rule without labels ``KEPT``.
        target_labels: those of their targets, likewise; by a rule without labels ``CHANGED``.
        reconstruction: theirs, (B, C, H, W); of a random model the first draw.
        target_reconstruction: those of their targets; None if the rule has no ``targets``.
        constant: for each the best picture that is the same for all images of the data set, of the
            sources' shape: the mean of the others. None where no data set is at hand.

    Example:
        >>> x, zero = torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64)
        >>> both = Sources((3, 5), x, zero, zero, reconstruction=x, target_reconstruction=None)
        >>> both[torch.tensor([1])].sample_ids
        (5,)
    """

    sample_ids: tuple[int, ...]
    x: Tensor
    labels: Tensor
    target_labels: Tensor
    reconstruction: Tensor
    target_reconstruction: Tensor | None
    constant: Tensor | None = None

    def __getitem__(self: AnySources, index: Tensor) -> AnySources:
        """The sources at ``index`` (positions)."""

        def take(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(value[i] for i in index.tolist())
            return None if value is None else value[index]

        return replace(self, **{f.name: take(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Words:
    """How tables, legends and reports tell of a rule; the defaults are of rules by classes.

    Args:
        found: what the sources are without an attack; ``{}`` is their number.
        eligible: which sources are attacked, a sentence.
        success: when an attack succeeds, a sentence.
        changed: what attacks do; ``{}`` is the number of sources.
        shows: what a changed reconstruction is; ``{}`` is what the rule says it shows.
        legend: what stands below a table.
        pictures: what ``shows`` means, a sentence; empty if it needs none.
        judges: what is special about the judges, sentences; none if there are no judges.
        as_ignore_target: what that share is, a sentence.
        as_target: likewise.

    Example:
        >>> RULES.get("damage").words.changed.format(3)
        'damage 3 of these until that no longer holds'
    """

    found: str
    eligible: str
    success: str
    changed: str = "turn {} of these into another class"
    shows: str = "shows {}"
    legend: str = (
        "robust accuracy: of all sources, reconstructed right and not changed by any attack\n"
        "changed, to target: of the sources reconstructed right; [95% interval]"
    )
    pictures: str = ""
    judges: tuple[str, ...] = ()
    as_ignore_target: str = (
        "The attack success rate ignoring the target: the share of eligible sources whose "
        "reconstruction was turned into any other class."
    )
    as_target: str = (
        "Likewise, turned into the very class that the attack aimed at. “of wrong” is their share "
        "among those turned into any other class."
    )


class Rule(ABC):
    """What success is. The class says what it needs; an object of it has its judges and decides.

    A verdict is what an image shows: a class, or ``NO_VERDICT``. An attack has succeeded where the
    reconstruction shows another class than the source's (or the target's, if that is the goal) and
    the attacked image itself still shows the source's.

    Args:
        judges: those that score, as many as ``judges_needed`` allows.

    Example:
        >>> from genrobust.judges import load_judge
        >>> rule = RULES.get("single")([load_judge("digits", "lenet")])
        >>> x, none = torch.zeros(1, 1, 32, 32), torch.zeros(1, dtype=torch.int64)
        >>> rule.look(x, Sources((0,), x, none, none, x, None)).shape
        torch.Size([1])
    """

    name: ClassVar[str]
    words: ClassVar[Words]
    #: How many scoring judges a suite must name, at the least and at the most.
    judges_needed: ClassVar[tuple[int, float]] = (1, math.inf)
    #: Whether it goes by the data's classes. Else there are two, ``KEPT`` and ``CHANGED``; suites
    #: have no judge for the attacker, and so neither attacks nor searches that follow one; flags go
    #: by the likeness to the source in its place.
    labelled: ClassVar[bool] = True
    #: Whether it compares with the clean reconstruction of each source's target.
    targets: ClassVar[bool] = False
    #: Whether what it looks at is to be a picture of the source. Else no model is flagged where it
    #: is none, and judges are not asked what they see in the sources themselves.
    shows_source: ClassVar[bool] = True
    #: Whether ``look`` draws from torch's generators. What it draws is then keyed by sample.
    draws: ClassVar[bool] = False

    def __init__(self, judges: Sequence[Judge] = ()) -> None:
        self.judges = tuple(judges)

    @abstractmethod
    def look(self, images: Tensor, sources: Sources) -> Tensor:
        """What reconstructions (B, C, H, W) show, (B,) int64; ``NO_VERDICT`` where unsure.

        Entry i depends on image i and source i alone.
        """
        ...

    def look_at_input(self, x: Tensor, sources: Sources) -> Tensor:
        """What images that are put in show, (B, C, H, W): the sources or attacked ones.

        By default they are not looked at, and keep their labels: the ball stands for it.
        """
        return sources.labels.clone()

    @classmethod
    def classes(cls, dataset: str) -> int:
        """How many classes it knows on a data set."""
        return len(DATASETS.get(dataset).classes) if cls.labelled else 2

    @classmethod
    def labels_of(cls, batch: Batch) -> tuple[Tensor, Tensor]:
        """The classes of sources and targets, (B,) int64 each."""
        if not cls.labelled:
            kept = torch.full((len(batch),), KEPT, device=batch.x.device)
            return kept, torch.full_like(kept, CHANGED)
        assert batch.labels is not None
        assert batch.target_labels is not None
        return batch.labels, batch.target_labels

    @classmethod
    def problem_with(cls, scorers: int, attacker: bool) -> str | None:
        """What is wrong with a suite that names so many judges; None if nothing is."""
        least, most = cls.judges_needed
        if most == 0 and (scorers or attacker):
            return f"the rule '{cls.name}' has no judges: leave them out"
        if not least <= scorers <= most:
            number = "one" if least == 1 else str(least)
            exactly = f"exactly {number} of " if least == most else ""
            return f"the rule '{cls.name}' needs {exactly}scoring_judges"
        if attacker != cls.labelled:
            needs = "needs an attacker_judge" if cls.labelled else "has no attacker_judge"
            return f"the rule '{cls.name}' {needs}"
        return None


RULES: Registry[type[Rule]] = Registry(
    "rule",
    {
        "agreement": "genrobust.rules.agreement:Agreement",
        "single": "genrobust.rules.single:Single",
        "single-live": "genrobust.rules.single:SingleLive",
        "single-output": "genrobust.rules.single:SingleOutput",
        "distance": "genrobust.rules.distance:Distance",
        "damage": "genrobust.rules.damage:Damage",
    },
    base=Rule,
)
