"""A small frozen suite, runs and entries on it, and a forger who hashes everything anew."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from brief_signs import brief_signs
from torch import Tensor

from genrobust.board.submit import SubmitOptions, submit
from genrobust.evidence.archive import write_archive
from genrobust.evidence.bundle import (
    EVIDENCE,
    LIMITS,
    OUTCOMES,
    RECORD,
    Evidence,
    pack,
    read_evidence,
    specs_of,
    write_evidence,
)
from genrobust.evidence.entries import sha256_of
from genrobust.evidence.entry import Author, Entry, Submission, Verification, ZooModel
from genrobust.models import load_model
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import GOALS, Outcome
from genrobust.outcomes.scores import scores
from genrobust.records.outcomes import Outcomes
from genrobust.records.record import Record
from genrobust.runner import collect
from genrobust.runner.execute import silent
from genrobust.runner.options import Options
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.run import execute
from genrobust.suites import AttackEntry, Suite, load_suite
from genrobust.suites.suite import SUITES
from genrobust.verify.pictures import thumbnails
from genrobust.verify.replay import replay
from genrobust.verify.verify import VerifyOptions, verify

BOARD = "tiny-v1"
SAID = Submission(
    name="Plain VAE",
    authors=(Author(name="Ada Author", affiliation="Some University"),),
    licence="MIT",
    training_data="the digits' training split",
)


@cache
def tiny() -> Suite:
    """24 digits in 2 shards under two radii, by three attacks of few steps."""
    whole = load_suite("digits-v1")

    def entry(name: str, goal: Any, **settings: Any) -> AttackEntry:
        return AttackEntry(attack=name, goal=goal, settings=settings)

    update = {
        "name": "tiny",
        "chunk_size": 12,
        "eps": (0.04, 0.1),
        "resamples": 100,
        "attacks": (
            entry("classifier", "untargeted", steps=10),
            entry("square", "untargeted", queries=5),
            entry("classifier", "targeted", steps=10),
        ),
    }
    return whole.limited(24).model_copy(update=update)


@contextmanager
def registered() -> Iterator[Suite]:
    """The small suite as one that genrobust knows, with few gradients for its signs."""
    SUITES._registered["tiny"] = tiny
    try:
        with brief_signs():
            yield tiny()
    finally:
        del SUITES._registered["tiny"]


def run(folder: Path, model: str = "vae", **changes: Any) -> Path:
    """A finished run with its evidence."""
    with registered() as suite:
        options = Options(**{"evidence": True, "workers": 1, **changes})
        prepared = prepare(model, suite, options)
        execute(prepared, folder)
        write_evidence(folder, prepared.loaded.scorer.model)
    return folder


def submitted(entries: Path, folder: Path, name: str = SAID.name, **how: Any) -> Path:
    """The entry's folder of a run."""
    with registered():
        options = SubmitOptions(entries=entries, workers=1, **how)
        return submit(folder, SAID.model_copy(update={"name": name}), options).folder


def verified(path: Path, depth: Any = "replay", **how: Any) -> Verification:
    options = VerifyOptions(depth=depth, workers=1, **how)
    with registered():
        return verify(path, options).verification


def reason(found: Verification) -> str:
    """Why a verification failed: the checks that did not pass, a line each."""
    assert not found.passed
    return "\n".join(f"{check.name}: {check.detail}" for check in found.checks if not check.passed)


class Forger:
    """Changes an entry and hashes everything anew, so that no hash tells."""

    def __init__(self, entry: Path, to: Path) -> None:
        self.folder = to / BOARD / entry.name
        shutil.copytree(entry, self.folder)
        self.evidence = read_evidence(self.folder / EVIDENCE)

    def tensors(self, **changed: Tensor) -> Forger:
        """Put other tensors into the evidence; ``__`` in a name is a dot."""
        given = {name.replace("__", "."): tensor for name, tensor in changed.items()}
        return self._with(tensors={**self.evidence.tensors, **given})

    def without(self, *names: str) -> Forger:
        """Leave out what begins so; the outcomes are still written as the whole has them."""
        whole, tensors = self.evidence.outcome, self.evidence.tensors
        self._with(tensors={n: t for n, t in tensors.items() if not n.startswith(names)})
        vars(self.evidence)["outcome"] = whole
        return self

    def edited(self, edit: Callable[[dict[str, Tensor]], None]) -> Forger:
        """Change copies of the tensors in place."""
        copies = {name: tensor.clone() for name, tensor in self.evidence.tensors.items()}
        edit(copies)
        return self._with(tensors=copies)

    def record(self, **changed: Any) -> Forger:
        """Other fields of the record."""
        found = self.evidence.record.model_copy(update=changed)
        return self._with(record=found, record_bytes=_json(found))

    def scores(self, **changed: Any) -> Forger:
        return self.record(scores=self.evidence.record.scores.model_copy(update=changed))

    def scored(self) -> Forger:
        """All that follows from the tensors in record and picture, by genrobust's own code."""
        with registered():
            evidence = self.evidence
            assert evidence.model == ZooModel(name="vae", dataset="digits")
            outcome = replay(evidence, _at_hand(), silent).outcome
        claimed = {n: t for n, t in evidence.outcome.tensors().items() if t.ndim == 1}
        outcome = Outcome.of({**outcome.tensors(), **claimed})
        said, record = evidence.outcome, evidence.record
        picture = thumbnails(outcome, Outcomes.of(record.suite, outcome.worst))
        assert picture is not None
        (self.folder / "thumbnails.png").write_bytes(picture)
        return self.record(
            scores=scores(outcome, record.suite),
            flags=flags.raised(record.suite, said.eligible, said.signs, said.counts),
            attacks=collect.attack_costs(record.suite, said.counts),
            forwards=int(said.counts.forwards.sum()),
            backwards=int(said.counts.backwards.sum()),
        ).shards()

    def shards(self) -> Forger:
        """The shards' keys of what the record says now."""
        record = self.evidence.record
        keys = tuple(spec.key for spec in specs_of(record))
        provenance = record.provenance.model_copy(update={"shards": keys})
        return self.record(provenance=provenance)

    def contents(self) -> dict[str, bytes]:
        """The members of the archive as they are now."""
        return pack(self.evidence)

    def written(self, contents: dict[str, bytes] | None = None, **entry: Any) -> Path:
        """Write it all, with every hash as it must be; ``entry`` changes fields of entry.json."""
        found = contents or self.contents()
        write_archive(self.folder / EVIDENCE, found, LIMITS)
        for name in (RECORD, OUTCOMES):
            (self.folder / name).write_bytes(found[name])
        return self.rehashed(fingerprint=self.evidence.record.model.fingerprint, **entry)

    def rehashed(self, **entry: Any) -> Path:
        """Write entry.json for the files as they are."""
        path = self.folder / "entry.json"
        said = Entry.model_validate_json(path.read_bytes())
        found = {name: sha256_of(self.folder / name) for name in said.files}
        changed = said.model_copy(update={"files": found, **entry})
        path.write_text(changed.model_dump_json(indent=1))
        return self.folder

    def _with(self, **changed: Any) -> Forger:
        self.evidence = replace(self.evidence, **changed)
        return self


@cache
def _at_hand() -> Prepared:
    """The model, images and judges of the runs that are scored anew, for every replay of them."""
    suite = tiny().model_copy(update={"attacks": ()})
    return prepare(load_model("vae"), suite, Options(workers=1))


def plausible(evidence: Evidence) -> dict[str, Tensor]:
    """The tensors with counts and signs that a cascade with these outcomes could have left."""
    suite, t = evidence.record.suite, {n: v.clone() for n, v in evidence.tensors.items()}
    radii, eligible = len(suite.eps), t["eligible"]
    t["longer.tried"] = eligible & (t["ignore.radius"] > 0)
    t["longer.success"] = torch.zeros_like(eligible)
    for shard, part in enumerate(torch.arange(len(eligible)).split(suite.chunk_size)):
        tried, succeeded = t["tried"][shard], t["succeeded"][shard]
        for goal, prefix in GOALS.items():
            rows = [a for a, entry in enumerate(suite.attacks) if entry.goal == goal]
            radius = t[f"{prefix}radius"][part][eligible[part]]
            for e in range(radii):
                stand, fell = int((radius > e).sum()), int((radius == e).sum())
                tried[rows, e], succeeded[rows, e] = stand, 0
                tried[rows[0], e], succeeded[rows[0], e] = stand + fell, fell
                if goal == "untargeted":
                    tried[-1, e], succeeded[-1, e] = stand, 0
        for name in ("forwards", "backwards"):
            t[name][shard][tried == 0] = 0
    return t


def hide(evidence: Evidence, positions: Tensor) -> dict[str, Tensor]:
    """The tensors as if no attack had broken these sources."""
    t = {name: tensor.clone() for name, tensor in evidence.tensors.items()}
    for goal in ("ignore", "target"):
        t[f"{goal}.radius"][positions] = len(evidence.record.suite.eps)
        t[f"{goal}.perturbation"][positions] = 0
    return t


def fell(evidence: Evidence, goal: str = "ignore") -> Tensor:
    """Positions of the sources for which an attack reached a goal."""
    radius = evidence.tensors[f"{goal}.radius"]
    return (radius < len(evidence.record.suite.eps)).nonzero()[:, 0]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(record: Record) -> bytes:
    return record.model_dump_json(indent=1).encode() + b"\n"
