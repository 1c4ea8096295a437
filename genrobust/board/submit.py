"""From a finished run to an entry: checked by a replay before anything is written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from genrobust import files
from genrobust.board.board import Board, contender, make_board
from genrobust.errors import GenrobustError, did_you_mean
from genrobust.evidence.archive import write_archive
from genrobust.evidence.bundle import (
    EVIDENCE,
    LIMITS,
    OUTCOMES,
    RECORD,
    Evidence,
    gather,
    pack,
    read_evidence,
    read_run_file,
    read_run_record,
)
from genrobust.evidence.entries import (
    PICTURES,
    TRAVERSALS,
    LoadedEntry,
    read_alone,
    read_entry,
    sha256_of,
)
from genrobust.evidence.entry import (
    BundledModel,
    Entry,
    ExternalModel,
    Submission,
    Verification,
    ZooModel,
)
from genrobust.models.model import GenerativeModel
from genrobust.models.zoo import load_model
from genrobust.records.record import Record
from genrobust.runner.execute import Progress, silent
from genrobust.suites.suite import registered_as
from genrobust.verify.entries import verified_entries
from genrobust.verify.pictures import thumbnails, traversals
from genrobust.verify.subject import ATTACKS, ENTRY
from genrobust.verify.verify import Verified, VerifyOptions, verify, write_verification

#: What a slug may have; a name becomes one by leaving out the rest.
_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")
LONGEST_SLUG = 60


@dataclass(frozen=True)
class SubmitOptions:
    """Where an entry goes, and where its model is.

    Args:
        entries: the folder of all entries.
        slug: the entry's folder; default from its name.
        model: what was scored, where the run's record does not lead to it.
        weights: what to load into it.
        source: where others find those weights, which then do not go along.
        attack_on: the slug of the entry that the run attacks; None for a model's own run.
        data_root: the folder with the data set.
        workers: shards at a time.
    """

    entries: Path = Path("leaderboard/entries")
    slug: str | None = None
    model: str | None = None
    weights: Path | None = None
    source: str | None = None
    attack_on: str | None = None
    data_root: str | Path | None = None
    workers: int | None = None


@dataclass(frozen=True, eq=False)
class Submitted:
    """An entry that is ready.

    Args:
        folder: where it is, or would be.
        entry: what it says.
        record: of its run.
        verification: by a replay, which it passed.
        board: with it on it.
    """

    folder: Path
    entry: Entry
    record: Record
    verification: Verification
    board: Board


def submit(
    run: Path,
    submission: Submission,
    options: SubmitOptions,
    *,
    dry_run: bool = False,
    on_progress: Progress = silent,
) -> Submitted:
    """Make a run's entry, verify it by a replay, and put it among the entries.

    Args:
        run: the folder of a finished run.
        submission: what its submitter says.
        options: where it goes.
        dry_run: leave the entries as they are.
        on_progress: called with the shards done, parts included, those in all, and what is done.

    Raises:
        GenrobustError: the run is not one that boards take, its model cannot be had, a check did
            not pass, the slug is taken, or a file cannot be written. Nothing was written.
    """
    record = read_run_record(run)
    board = f"{record.suite.name}-v{record.suite.version}"
    on = None if options.attack_on is None else _attacked(options, board, record)
    if on is None and not record.official:
        raise GenrobustError(
            f"the run '{run}' is not official ({'; '.join(record.deviations)}); boards take whole "
            "frozen suites: run 'genrobust bench --suite "
            f"{registered_as(record.suite) or 'digits'} --evidence' without other "
            "options, or name the entry it attacks with --attack-on"
        )
    slug = _slug(options.slug, submission.name)
    place = Path(board, slug) if on is None else Path(board, on.entry.slug, ATTACKS, slug)
    folder = options.entries / place
    if folder.exists():
        raise _taken(folder)
    model, evidence, kind = _what_was_scored(run, record, options, on)
    with _stage(options.entries, dry_run) as stage:
        if on is not None:
            shutil.copytree(on.folder, stage / board / on.entry.slug)
        verification = _write_entry(
            stage / place, submission, evidence, kind, model, on, options, on_progress
        )
        entry = read_alone(stage / place).entry
        shown = _board(options.entries, read_entry(stage / Path(*place.parts[:2])))
        if not dry_run:
            _move(stage / place, folder)
    return Submitted(folder, entry, record, verification, shown)


def slug_of(name: str) -> str:
    """The folder's name for an entry of that name.

    Example:
        >>> slug_of("JointVAE (Dupont 2018)")
        'jointvae-dupont-2018'
    """
    slug = _NOT_IN_SLUG.sub("-", name.lower()).strip("-")[:LONGEST_SLUG].strip("-")
    if not slug:
        raise GenrobustError(f"the name {name!r} gives no folder's name; choose one with --slug")
    return slug


def _slug(given: str | None, name: str) -> str:
    if given is not None and (slug_of(given) != given):
        raise GenrobustError(
            f"--slug '{given}' cannot be taken; it has small letters, digits and '-' between them, "
            f"and at most {LONGEST_SLUG}: such as '{slug_of(given)}'"
        )
    return given or slug_of(name)


def _attacked(options: SubmitOptions, board: str, record: Record) -> LoadedEntry:
    """The entry that a run attacks."""
    folder = options.entries / board / str(options.attack_on)
    if not (folder / ENTRY).is_file():
        known = [path.parent.name for path in sorted(options.entries.glob(f"{board}/*/{ENTRY}"))]
        raise GenrobustError(
            f"there is no entry '{options.attack_on}' on the board {board};"
            f"{did_you_mean(str(options.attack_on), known)} there are {', '.join(known) or 'none'}"
        )
    found = read_alone(folder)
    if found.entry.fingerprint != record.model.fingerprint:
        raise GenrobustError(
            f"the run attacked another model (fingerprint {record.model.fingerprint[:12]}) than "
            f"the entry '{options.attack_on}' ({found.entry.fingerprint[:12]}); attack that one: "
            + _how_to_attack(found, record)
        )
    return found


def _how_to_attack(entry: LoadedEntry, record: Record) -> str:
    said = entry.entry.model
    if isinstance(said, ZooModel):
        reference = said.name
    elif isinstance(said, BundledModel):
        reference = str(entry.folder / EVIDENCE)
    else:
        reference = said.reference
    suite = registered_as(record.suite) or record.suite.name
    words = ["genrobust", "bench", "--suite", suite, "--model", reference]
    words += ["--weights", "FILE"] if isinstance(said, ExternalModel) else []
    return shlex.join([*words, "--attack", "NAME"])


def _what_was_scored(
    run: Path, record: Record, options: SubmitOptions, on: LoadedEntry | None
) -> tuple[GenerativeModel, Evidence, ZooModel | BundledModel | ExternalModel]:
    """The model at hand, the evidence as it is submitted, and what the entry says of the model."""
    if on is not None:
        model = _attacked_model(record, options, on)
        return model, _without_model(run, model), on.entry.model
    if options.source is not None:
        if options.weights is None:
            raise GenrobustError("--source says where the weights are; give the file as --weights")
        said = _external(options.source, options.weights, options.model or record.model.reference)
        model = _live_model(record, options)
        return model, _without_model(run, model), said
    written = _written_evidence(run)
    evidence = written or gather(run, _live_model(record, options))
    if evidence.model is None:
        raise GenrobustError(
            f"the model of '{run}' is not in its evidence; run the same command with --evidence, "
            "which runs it as data if it can be, and submit the folder that it names, or say where "
            "its weights are: --source URL --weights FILE"
        )
    return evidence.load_model(), evidence, evidence.model


def _external(source: str, weights: Path, reference: str) -> ExternalModel:
    if not weights.is_file():
        raise GenrobustError(f"there is no weights file '{weights}'; check the path")
    try:
        return ExternalModel(source=source, weights_sha256=sha256_of(weights), reference=reference)
    except ValidationError as problem:
        raise GenrobustError(
            f"--source {source!r} cannot be taken; it is an address that begins with https://"
        ) from problem


def _attacked_model(record: Record, options: SubmitOptions, on: LoadedEntry) -> GenerativeModel:
    if isinstance(on.entry.model, ExternalModel):
        return _live_model(record, options)
    return read_evidence(on.folder / EVIDENCE).load_model()


def _without_model(run: Path, model: GenerativeModel) -> Evidence:
    return (_written_evidence(run) or gather(run, model, carry=False)).without_model()


def _written_evidence(run: Path) -> Evidence | None:
    """The evidence in the run's folder, if it is of the record there."""
    if not (run / EVIDENCE).exists():
        return None
    evidence = read_evidence(run / EVIDENCE)
    return evidence if evidence.record_bytes == read_run_file(run / RECORD) else None


def _live_model(record: Record, options: SubmitOptions) -> GenerativeModel:
    """The model that was run, from the user's own machine."""
    reference = options.model or record.model.reference
    if reference.endswith(".zip"):
        return read_evidence(Path(reference)).load_model()
    if options.model is None and " " in reference:  # a live object
        raise GenrobustError(
            "the run was of a model made in Python, which its record cannot name; give it with "
            "--model FILE.py:FUNCTION"
        )
    model = load_model(reference, record.suite.dataset, options.weights)
    if model.fingerprint() != record.model.fingerprint:
        raise GenrobustError(
            f"'{reference}' has fingerprint {model.fingerprint()[:12]}, and the run scored "
            f"{record.model.fingerprint[:12]}; give that model with --model and --weights, and if "
            "the run was made with --evidence, which scores a model as data, make it without"
        )
    return model


@contextmanager
def _stage(entries: Path, dry_run: bool) -> Iterator[Path]:
    """A folder to make an entry in; beside the entries, so that a rename puts it in its place."""
    advice = "choose a folder that can be written to with --entries"
    with files.writing(f"to '{entries}'", advice):
        if not dry_run:
            entries.mkdir(parents=True, exist_ok=True)
        with files.temporary_folder(None if dry_run else entries) as folder:
            yield folder


def _write_entry(
    folder: Path,
    submission: Submission,
    evidence: Evidence,
    kind: ZooModel | BundledModel | ExternalModel,
    model: GenerativeModel,
    on: LoadedEntry | None,
    options: SubmitOptions,
    on_progress: Progress,
) -> Verification:
    """Write an entry's files; the evidence is replayed before they say anything."""
    contents = pack(evidence)
    folder.mkdir(parents=True)
    write_archive(folder / EVIDENCE, contents, LIMITS)
    how = VerifyOptions("replay", data_root=options.data_root, workers=options.workers)
    replayed = verify(folder / EVIDENCE, how, model=model, on_progress=on_progress)
    _require_passed(replayed)
    for name in (RECORD, OUTCOMES):
        files.write_bytes(folder / name, contents[name])
    assert replayed.replay is not None
    outcome = replayed.replay.outcome
    assert outcome.clean is not None
    pictures = {
        PICTURES: thumbnails(outcome, evidence.outcomes),
        TRAVERSALS: traversals(model, outcome.clean.source) if on is None else None,
    }
    for name, picture in pictures.items():
        if picture is not None:
            files.write_bytes(folder / name, picture)
    record = evidence.record
    entry = Entry(
        kind="model" if on is None else "attack",
        slug=folder.name,
        suite=f"{record.suite.name}-v{record.suite.version}",
        submission=submission,
        submitted=datetime.now(timezone.utc).date().isoformat(),
        model=kind,
        fingerprint=record.model.fingerprint,
        files={path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    )
    files.write_text(folder / ENTRY, entry.model_dump_json(indent=1) + "\n")
    whole = verify(folder, VerifyOptions("schema"))
    _require_passed(whole)
    return _write_verification(folder, whole, replayed)


def _write_verification(folder: Path, whole: Verified, replayed: Verified) -> Verification:
    """The entry's schema checks, and the replay's of its evidence."""
    schema, deeper = whole.verification, replayed.verification
    found = schema.model_copy(
        update={
            "depth": deeper.depth,
            "checks": (*schema.checks, *deeper.checks[len(schema.checks) :]),
            "seconds": round(schema.seconds + deeper.seconds, 2),
            "rate": deeper.rate,
        }
    )
    write_verification(Verified(found, whole.subject, replayed.replay), folder)
    return found


def _require_passed(verified: Verified) -> None:
    for check in verified.verification.checks:
        if not check.passed:
            raise GenrobustError(f"the run cannot be submitted: {check.name}: {check.detail}")


def _board(entries: Path, with_it: LoadedEntry) -> Board:
    """The board with the entry on it."""
    there = verified_entries(entries) if entries.is_dir() else ()
    others = [
        one
        for one in there
        if one.entry.suite == with_it.entry.suite and one.entry.slug != with_it.entry.slug
    ]
    return make_board([contender(one) for one in (*others, with_it)])


def _move(staged: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staged, folder)  # noqa: PTH104 - fails if another took the place meanwhile
    except OSError as problem:
        if folder.exists():
            raise _taken(folder) from problem
        raise


def _taken(folder: Path) -> GenrobustError:
    return GenrobustError(
        f"'{folder}' is there already; choose another name with --slug, or remove it first"
    )
