"""Cut a suite into shards: pure data, each named by the hash of all that its result depends on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from genrobust._version import __version__
from genrobust.data.base import Split
from genrobust.errors import GenrobustError
from genrobust.norms import NormName
from genrobust.suites.suite import AttackEntry, Frozen, JudgeRef, Suite

Item = TypeVar("Item")


class ShardSpec(Frozen):
    """Some samples of a suite, at every radius: a smaller one's success counts for the larger.

    The chunk of samples is part of the protocol, not of the run: floating-point results may depend
    on the batch they were computed in, and so any number of workers gives the same bytes.
    """

    genrobust: str
    model_fingerprint: str
    device: str
    dataset: str
    split: Split
    data_sha256: str
    sample_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    norm: NormName
    eps: tuple[float, ...]
    attacks: tuple[AttackEntry, ...]
    ensemble: bool
    rule: str
    attacker_judge: JudgeRef | None
    scoring_judges: tuple[JudgeRef, ...]
    seed: int

    @property
    def searched(self) -> tuple[AttackEntry, ...]:
        """Attacks on the whole box, before those on each radius."""
        return ()

    @property
    def key(self) -> str:
        """The shard's name."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


def plan(suite: Suite, model_fingerprint: str, seed: int, device: str) -> list[ShardSpec]:
    """The shards of a run, in the order of the suite's samples."""
    return [
        ShardSpec(
            genrobust=__version__,
            model_fingerprint=model_fingerprint,
            device=device,
            dataset=suite.dataset,
            split=suite.split,
            data_sha256=suite.data_sha256,
            sample_ids=suite.sample_ids[first : first + suite.chunk_size],
            target_ids=suite.target_ids[first : first + suite.chunk_size],
            norm=suite.norm,
            eps=suite.eps,
            attacks=suite.attacks,
            ensemble=suite.ensemble,
            rule=suite.rule,
            attacker_judge=None if suite.attacker_judge is None else _which(suite.attacker_judge),
            scoring_judges=tuple(map(_which, suite.scoring_judges)),
            seed=seed,
        )
        for first in range(0, len(suite.sample_ids), suite.chunk_size)
    ]


def _which(judge: JudgeRef) -> JudgeRef:
    """The judge by its hash, wherever its file lies."""
    return judge.model_copy(update={"architecture": PurePath(judge.architecture).name})


@dataclass(frozen=True)
class Partition:
    """Which shards one of several machines computes: every ``count``-th from the ``number``-th on.

    Example:
        >>> Partition.read("2/3").of(range(7))
        [1, 4]
    """

    number: int
    count: int

    @classmethod
    def read(cls, text: str) -> Partition:
        """Raises GenrobustError if it is not such as 3/16."""
        found = re.fullmatch(r"0*([1-9]\d{0,8})/0*([1-9]\d{0,8})", text)
        if found is None or int(found[1]) > int(found[2]):
            raise GenrobustError(
                f"--shard is '{text}'; give a part and the number of parts, such as 3/16"
            )
        return cls(int(found[1]), int(found[2]))

    def of(self, shards: Sequence[Item]) -> list[Item]:
        return list(shards[self.number - 1 :: self.count])
