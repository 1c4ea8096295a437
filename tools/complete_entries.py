"""Give entries the columns that came after them: signs and damage, measured on their model.

    python tools/complete_entries.py leaderboard/entries/digits-v1/*
    python tools/complete_entries.py leaderboard/entries/mnist-v1/* \
        --data-root FOLDER --checkpoints FOLDER

What was found stays as it is, to the bit: perturbations, radii, counts, what was measured of them,
and every score. What lacks needs the model, the suite's judge and the seed, not the search: short
attacks that flags rest on, gradients beside differences, and what the pictures became. An entry
that is whole is left alone. Models that others published are looked for by the hash of their
weights in ``--checkpoints``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load

from genrobust import files
from genrobust.evidence.archive import write_archive
from genrobust.evidence.bundle import (
    EVIDENCE,
    LIMITS,
    MANIFEST,
    OUTCOMES,
    RECORD,
    TENSORS,
    Evidence,
    Manifest,
    pack,
)
from genrobust.evidence.entry import Entry, ExternalModel
from genrobust.models import GenerativeModel, load_model
from genrobust.outcomes.outcome import DAMAGE, Outcome, Signs, kept_of
from genrobust.outcomes.scores import scores
from genrobust.records.record import SCHEMA_VERSION, Record, Scores
from genrobust.runner.damage import measure_damage
from genrobust.runner.likeness import guided
from genrobust.runner.measure import measure_baseline, measure_outcome
from genrobust.runner.plan import ShardSpec
from genrobust.runner.prepare import Prepared
from genrobust.runner.shard import make_batch
from genrobust.runner.signs import diagnose, signs_of
from genrobust.verify.claims import require_equal
from genrobust.verify.consistency import flags_of
from genrobust.verify.replay import prepared_for

ENTRY = "entry.json"
MODEL = "model/"
SIGNS = Signs.table()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entries", nargs="+", type=Path, help="folders of entries")
    parser.add_argument("--data-root")
    parser.add_argument("--checkpoints", type=Path)
    given = parser.parse_args()
    for folder in given.entries:
        print(f"{folder}: {complete(folder, given.data_root, given.checkpoints)}", flush=True)


def complete(folder: Path, data_root: str | None, checkpoints: Path | None) -> str:
    """Measure what an entry lacks and write its files again; what came of it, in words."""
    entry = Entry.model_validate_json((folder / ENTRY).read_bytes())
    evidence = read(folder / EVIDENCE)
    suite, kept = evidence.record.suite, evidence.tensors
    lacking = sorted(kept_of(suite).keys() - kept.keys())
    if not lacking:
        return "is whole"
    prepared = prepared_for(evidence, model_of(entry, evidence, checkpoints), 1, data_root)
    found_then = {n: t for n, t in kept.items() if n not in SIGNS and not n.startswith(DAMAGE)}
    unsaid = torch.zeros(len(suite.eps), len(suite.sample_ids))  # measured below
    signs = {n: unsaid if c.per == "radius and source" else unsaid[0] for n, c in SIGNS.items()}
    searched = replace(evidence, tensors=found_then | signs)
    shards = [
        measured(searched.shard(number), prepared, spec)
        for number, spec in enumerate(evidence.shards)
    ]
    outcome = Outcome.joined([shard.tensors() for shard in shards])
    found = outcome.tensors()
    whole = replace(evidence, tensors=kept | {name: found[name] for name in lacking})
    update = {
        "scores": completed(evidence.record.scores, scores(outcome, suite)),
        "flags": flags_of(suite, whole.outcome),
    }
    record = evidence.record.model_copy(update=update)
    write(folder, entry, replace(whole, record=record, record_bytes=text_of(record).encode()))
    flags = ", ".join(flag.name for flag in record.flags) or "none"
    return f"{len(lacking)} columns measured; flags: {flags}"


def read(path: Path) -> Evidence:
    """An entry's evidence, whatever it lacks."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    said = json.loads(contents[RECORD])
    if said["schema_version"] == 2:  # ensembles then went from the largest radius down
        said |= {"schema_version": SCHEMA_VERSION, "radii": "from the largest"}
    return Evidence(
        record=Record.model_validate_json(json.dumps(said)),
        record_bytes=contents[RECORD],
        tensors=load(contents[TENSORS]),
        model=Manifest.model_validate_json(contents[MANIFEST]).model,
        model_files={n.removeprefix(MODEL): c for n, c in contents.items() if n.startswith(MODEL)},
    )


def model_of(entry: Entry, evidence: Evidence, checkpoints: Path | None) -> GenerativeModel:
    """The model of the entry; one that others published is looked for by its hash."""
    if not isinstance(entry.model, ExternalModel):
        return evidence.load_model()
    for weights in sorted(checkpoints.iterdir()) if checkpoints else ():
        if hashlib.sha256(weights.read_bytes()).hexdigest() == entry.model.weights_sha256:
            return load_model(entry.model.reference, evidence.record.suite.dataset, weights)
    raise SystemExit(f"--checkpoints has no file of sha256 {entry.model.weights_sha256}")


def measured(claimed: Outcome, prepared: Prepared, spec: ShardSpec) -> Outcome:
    """What a run of today would say of a shard in which just that was found."""
    scorer = prepared.loaded.scorer
    batch = make_batch(spec, prepared.loaded)
    baseline = measure_baseline(scorer, batch)
    outcome = measure_outcome(spec, scorer, batch, baseline, claimed)
    with scorer.keyed("search", spec.sample_ids):
        led = guided(batch.untargeted(), baseline)
        diagnosis = diagnose(scorer.model, led, baseline.eligible, spec.norm, spec.eps)
        signs = signs_of(scorer.model, led, diagnosis)
    damaged = measure_damage(spec, scorer, batch, baseline, outcome.untargeted)
    return replace(outcome, signs=signs, damaged=damaged)


def completed(claimed: Scores, found: Scores) -> Scores:
    """The claimed scores, and those that they lack.

    Raises:
        RejectionError: one that is claimed is not what comes out today.
    """
    lacking = {name: value for name, value in found if getattr(claimed, name) is None}
    pairs = zip(claimed.per_eps, found.per_eps, strict=True)
    per_eps = tuple(
        a.model_copy(update={name: value for name, value in b if getattr(a, name) is None})
        for a, b in pairs
    )
    whole = claimed.model_copy(update={**lacking, "per_eps": per_eps})
    require_equal(whole, found)
    return whole


def text_of(record: Record) -> str:
    return record.model_dump_json(indent=1) + "\n"


def write(folder: Path, entry: Entry, evidence: Evidence) -> None:
    contents = pack(evidence)
    write_archive(folder / EVIDENCE, contents, LIMITS)
    for name in (RECORD, OUTCOMES):
        files.write_bytes(folder / name, contents[name])
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in entry.files
    }
    said = entry.model_copy(update={"files": hashes}).model_dump_json(indent=1)
    files.write_text(folder / ENTRY, said + "\n")


if __name__ == "__main__":
    main()
