"""The evidence of a run: all that is needed to score it again, in one archive of plain data.

Per source and goal it holds the perturbation of the smallest radius that reached the goal, in whole
steps of that radius, and nothing where none did. Perturbations and model give every score; what
they do not give, the counts and the signs of each shard, is there as it was measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save
from torch import Tensor

from genrobust import files
from genrobust._version import __version__
from genrobust.errors import GenrobustError, in_a_line
from genrobust.evidence.archive import ArchiveLimits, read_archive, write_archive
from genrobust.evidence.checks import UntoldError, written_by_another
from genrobust.evidence.entries import is_later
from genrobust.evidence.entry import BundledModel, Outcomes, Sha256, ZooModel
from genrobust.models.families import FAMILIES
from genrobust.models.model import GenerativeModel
from genrobust.models.portable import export_model, load_portable
from genrobust.models.tensors import TensorLimits, read_safetensors
from genrobust.models.zoo import load_model, zoo_card
from genrobust.norms import load_norm
from genrobust.outcomes.outcome import COUNTS, GOALS, Counts, Outcome, kept_of
from genrobust.outcomes.table import Per
from genrobust.records.again import again
from genrobust.records.load import read_record
from genrobust.records.record import Record
from genrobust.runner.plan import ShardSpec, plan
from genrobust.runner.shard import Measured
from genrobust.runner.store import Store
from genrobust.suites.suite import Frozen, Suite

EVIDENCE_SCHEMA_VERSION = 1

#: What the files are called, beside record.json and in the archive.
EVIDENCE, RECORD, OUTCOMES = "evidence.zip", "record.json", "outcomes.json"
TENSORS, MANIFEST = "perturbations.safetensors", "manifest.json"
SPEC = "spec.json"
#: The folder of the model's files in the archive.
MODEL = "model/"
_NAMES = r"(record|outcomes|manifest)\.json|perturbations\.safetensors|model/[a-z]+\.[a-z]+"

#: An archive of a thousand examples with a small model has about two million bytes.
LIMITS = ArchiveLimits(
    archive_bytes=256 << 20, members=16, member_bytes=512 << 20, total_bytes=768 << 20
)

_MAX_SPEC_BYTES = 1 << 16

Parsed = TypeVar("Parsed")


class Manifest(Frozen):
    """``manifest.json``: what is in the archive, by hash, and what kind of model was scored."""

    schema_version: Annotated[int, Field(ge=1, le=EVIDENCE_SCHEMA_VERSION)] = (
        EVIDENCE_SCHEMA_VERSION
    )
    genrobust: str
    model: Annotated[
        ZooModel | BundledModel | None,
        Field(description="None: by fingerprint alone, as its weights are elsewhere"),
    ]
    files: Annotated[dict[str, Sha256], Field(description="of every other member")]


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run's evidence, in memory.

    Args:
        record: the run's record.
        record_bytes: the file that it was read from.
        tensors: perturbations, outcomes and signs over all sources in the suite's order, and the
            counts of each shard, (S, A + 2, E).
        model: what kind of model; None where only its fingerprint is known.
        model_files: the model as data, by name, its spec included.
    """

    record: Record
    record_bytes: bytes
    tensors: dict[str, Tensor]
    model: ZooModel | BundledModel | None
    model_files: dict[str, bytes]

    @cached_property
    def shards(self) -> list[ShardSpec]:
        """The specs of the run's shards, as this record says that they were."""
        return specs_of(self.record)

    @cached_property
    def outcomes(self) -> Outcomes:
        return Outcomes.of(self.record.suite, self.outcome.worst)

    @cached_property
    def outcome(self) -> Outcome:
        """What the whole run found, as far as evidence keeps it."""
        return Outcome.of({n: t.sum(0) if n in COUNTS else t for n, t in self.tensors.items()})

    def shard(self, number: int) -> Outcome:
        """What one shard found, likewise."""
        size = self.record.suite.chunk_size
        counts = Counts.of({name: self.tensors[name][number] for name in COUNTS})
        return replace(self.outcome.part(slice(number * size, (number + 1) * size)), counts=counts)

    def load_model(self) -> GenerativeModel:
        """The model of the zoo, or that in the archive.

        Raises:
            GenrobustError: there is none, or what is there is no sound model.
        """
        if isinstance(self.model, ZooModel):
            return _of_the_zoo(self.model, self.record)
        if self.model is None:
            raise GenrobustError(
                "the evidence names its model by fingerprint alone; give the model with --model, "
                "and its --weights"
            )
        contents = {n: content for n, content in self.model_files.items() if n != SPEC}
        spec = _spec(self.model_files.get(SPEC, b""))
        if (spec.get("format"), spec.get("architecture")) != (
            self.model.format,
            self.model.architecture,
        ):
            raise GenrobustError(
                f"the evidence's {MANIFEST} and its {MODEL}{SPEC} name different kinds of model; "
                "write the evidence again with --evidence"
            )
        return load_portable(spec, contents)

    def without_model(self) -> Evidence:
        """The same, with the model by its fingerprint alone."""
        return replace(self, model=None, model_files={})


def write_evidence(folder: Path, model: GenerativeModel) -> Evidence:
    """Write the evidence of a finished run, and its outcomes, beside its record.

    The same run gives the same bytes.

    Args:
        folder: of the run: holds ``record.json`` and ``shards``.
        model: what was scored; it goes along as data if it is not of the zoo and can be data.

    Raises:
        GenrobustError: the run is not finished, or of another model; a file cannot be written.
    """
    evidence = gather(folder, model)
    contents = pack(evidence)
    files.write_bytes(folder / OUTCOMES, contents[OUTCOMES])
    write_archive(folder / EVIDENCE, contents, LIMITS)
    return evidence


def gather(folder: Path, model: GenerativeModel, carry: bool = True) -> Evidence:
    """The evidence of a finished run; see :func:`write_evidence`.

    ``carry`` says whether the model goes along, if it can.
    """
    content = read_run_file(folder / RECORD)
    record = _parsed(RECORD, read_record, content)
    if model.fingerprint() != record.model.fingerprint:
        raise GenrobustError(
            f"the model is not the one that '{folder}' scored (fingerprint "
            f"{model.fingerprint()[:12]}, there {record.model.fingerprint[:12]}); give that one "
            "with --model and --weights, or run 'genrobust bench' with this one"
        )
    specs, store = specs_of(record), Store(folder)
    shards = [measured for spec in specs if (measured := store.read(spec)) is not None]
    if len(shards) < len(specs):
        raise GenrobustError(
            f"'{folder}' has {len(shards)} of the run's {len(specs)} shards; "
            f"{again(folder, record.command)}"
        )
    kind, contents = _portable(model, record) if carry else (None, {})
    return Evidence(record, content, tensors_of(shards), kind, contents)


def read_run_record(folder: Path) -> Record:
    """The record of a finished run.

    Raises:
        GenrobustError: there is none, or it is damaged.
    """
    return _parsed(RECORD, read_record, read_run_file(folder / RECORD))


def specs_of(record: Record) -> list[ShardSpec]:
    """The shards that a record's run consisted of."""
    specs = plan(record.suite, record.model.fingerprint, record.seed, record.provenance.device)
    return [s.model_copy(update={"genrobust": record.provenance.genrobust}) for s in specs]


def tensors_of(shards: Sequence[Measured]) -> dict[str, Tensor]:
    """What evidence keeps of shard results: nothing that follows from perturbations and model."""
    outcome = Outcome.joined([shard.tensors for shard in shards]).without_misses()
    kept = {n: tensor for n, tensor in outcome.tensors().items() if Outcome.table()[n].kept}
    return {**kept, **{n: torch.stack([shard.tensors[n] for shard in shards]) for n in COUNTS}}


def pack(evidence: Evidence) -> dict[str, bytes]:
    """The members of the archive, by name."""
    contents = {
        RECORD: evidence.record_bytes,
        OUTCOMES: evidence.outcomes.model_dump_json().encode() + b"\n",
        TENSORS: save({n: t.contiguous() for n, t in evidence.tensors.items()}),
        **{f"{MODEL}{name}": content for name, content in evidence.model_files.items()},
    }
    manifest = Manifest(
        genrobust=__version__,
        model=evidence.model,
        files={name: hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)},
    )
    return {**contents, MANIFEST: manifest.model_dump_json(indent=1).encode() + b"\n"}


def read_evidence(path: Path) -> Evidence:
    """The evidence in an archive that comes without trust.

    Raises:
        GenrobustError: it is damaged, too large, holds what does not belong in it, or its members
            are not those that its manifest names, or not of the shapes that its suite gives.
    """
    return unpack(read_archive(path, LIMITS, names=_NAMES))


def unpack(contents: Mapping[str, bytes]) -> Evidence:
    """:func:`read_evidence` for the members by name."""
    for name in (MANIFEST, RECORD, OUTCOMES, TENSORS):
        if name not in contents:
            raise GenrobustError(f"the evidence has no {name}; write it again with --evidence")
    for name, content in contents.items():
        if name.endswith(".json") and (reason := files.repeats(content)):
            raise GenrobustError(f"the evidence's {name} is not one that genrobust wrote: {reason}")
    manifest = _parsed(MANIFEST, Manifest.model_validate_json, contents[MANIFEST])
    found = {n: hashlib.sha256(c).hexdigest() for n, c in contents.items() if n != MANIFEST}
    if found != manifest.files:
        wrong = [
            n
            for n in sorted(found.keys() | manifest.files)
            if found.get(n) != manifest.files.get(n)
        ]
        raise GenrobustError(
            f"the evidence's {wrong[0]} is not the file that its manifest names by hash; write the "
            "evidence again with --evidence"
        )
    record = _parsed(RECORD, read_record, contents[RECORD])
    tensors = read_safetensors(
        contents[TENSORS], TensorLimits(bytes=512 << 20, tensors=64), TENSORS
    )
    _check_tensors(record, tensors)
    model_files = {n.removeprefix(MODEL): c for n, c in contents.items() if n.startswith(MODEL)}
    evidence = Evidence(record, contents[RECORD], tensors, manifest.model, model_files)
    if _parsed(OUTCOMES, Outcomes.model_validate_json, contents[OUTCOMES]) != evidence.outcomes:
        raise GenrobustError(
            f"the evidence's {OUTCOMES} is not what its {TENSORS} says; write it again with "
            "--evidence"
        )
    return evidence


def _check_tensors(record: Record, tensors: Mapping[str, Tensor]) -> None:
    """Names, types and shapes: what follows from the suite."""
    suite = record.suite
    wanted = _layout(suite, record.model.input_shape)
    for name in sorted(wanted.keys() - tensors.keys()):
        raise GenrobustError(
            f"the evidence has no {name!r}, which flags or scores rest on; write it again with "
            "--evidence"
        )
    for name, tensor in tensors.items():
        if name not in wanted or (tensor.dtype, tuple(tensor.shape)) != wanted[name]:
            raise GenrobustError(
                f"the evidence's tensor '{name}' is {tensor.dtype} of {tuple(tensor.shape)}, which "
                f"does not fit the {len(suite.sample_ids)} sources of its suite; write it again "
                "with --evidence"
            )
    for prefix in GOALS.values():
        radius = tensors[f"{prefix}radius"]
        if not ((radius >= 0) & (radius <= len(suite.eps))).all():
            raise GenrobustError(
                f"the evidence's tensor '{prefix}radius' names radii that its suite does not have; "
                "write it again with --evidence"
            )


def _layout(
    suite: Suite, shape: tuple[int, int, int]
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    n, radii = len(suite.sample_ids), len(suite.eps)
    shards = -(-n // suite.chunk_size)
    steps = load_norm(suite.norm).dtype
    lengths: dict[Per, tuple[int, ...]] = {
        "source": (n,),
        "radius and source": (radii, n),
        "attack and radius": (shards, len(suite.attacks) + 2, radii),
    }
    return {
        name: (column.dtype, lengths[column.per]) if column.dtype else (steps, (n, *shape))
        for name, column in kept_of(suite).items()
    }


def _portable(
    model: GenerativeModel, record: Record
) -> tuple[ZooModel | BundledModel | None, dict[str, bytes]]:
    """How the model can be had by others, and its files where it goes along."""
    name, dataset = record.model.reference, record.suite.dataset
    ships = name in FAMILIES and zoo_card(name, dataset) is not None
    if ships and load_model(name, dataset).fingerprint() == model.fingerprint():
        return ZooModel(name=name, dataset=dataset), {}
    try:
        spec, contents = export_model(model)
    except GenrobustError:
        return None, {}
    if load_portable(spec, contents).fingerprint() != model.fingerprint():
        return None, {}  # what was scored is the module itself, not the module as data
    kind = BundledModel(format=spec["format"], architecture=spec.get("architecture"))
    return kind, {SPEC: json.dumps(spec, sort_keys=True).encode(), **contents}


def _of_the_zoo(said: ZooModel, record: Record) -> GenerativeModel:
    """The model that a name stands for: only names of the zoo, as others would be run as code."""
    wanted = (said.name in FAMILIES, said.dataset == record.suite.dataset)
    if not all(wanted):
        words = (
            f"the evidence names the model {said.name[:40]!a} on {said.dataset[:40]!a}, and the "
            f"zoo has {', '.join(FAMILIES)}, for the suite's data set"
        )
        other = written_by_another(record.provenance.genrobust)
        raise UntoldError(f"{words}; {other}") if other else GenrobustError(words)
    try:
        return load_model(said.name, said.dataset)
    except GenrobustError as problem:  # such as weights that this installation lacks
        raise UntoldError(str(problem)) from problem


def _spec(content: bytes) -> dict[str, Any]:
    """The table in the model's spec; what it says is checked by who loads the model."""
    try:
        found = json.loads(content[: _MAX_SPEC_BYTES + 1])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise GenrobustError(
            f"the evidence's {MODEL}{SPEC} is missing or no spec of a model; write the evidence "
            "again with --evidence"
        )
    return found


def _parsed(name: str, read: Callable[[bytes], Parsed], content: bytes) -> Parsed:
    try:
        return read(content)
    except ValidationError as problem:
        reason = in_a_line(problem)
        if is_later(problem):
            raise UntoldError(
                f"{name} is of a later genrobust than this one ({reason}); install that"
            ) from problem
        raise GenrobustError(
            f"{name} is not what it should be: {reason}; write it again with 'genrobust bench'"
        ) from problem


def read_run_file(path: Path) -> bytes:
    """The content of a file in the folder of a run.

    Raises:
        GenrobustError: it cannot be read.
    """
    try:
        return files.read_bytes(path)
    except OSError as problem:
        raise GenrobustError(
            f"'{path}' cannot be read ({problem.strerror}); name the folder of a finished run, "
            "such as genrobust-runs/digits-v2/vae"
        ) from problem
