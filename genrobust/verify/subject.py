"""What is verified: an entry's folder, or evidence by itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from genrobust import files
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.bundle import (
    EVIDENCE,
    LIMITS,
    OUTCOMES,
    RECORD,
    Evidence,
    pack,
    read_evidence,
)
from genrobust.evidence.checks import RejectionError, rejecting
from genrobust.evidence.entries import (
    SHOWN,
    VERIFICATION,
    LoadedEntry,
    check_attack,
    read_claims,
    sha256_of,
)
from genrobust.models.model import GenerativeModel

ENTRY, ATTACKS = "entry.json", "attacks"
#: What an entry's folder may hold.
ALLOWED = (ENTRY, VERIFICATION, EVIDENCE, *SHOWN, ATTACKS)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is verified.

    Args:
        path: an entry's folder, that of a run, or an archive.
        evidence: what is in the archive.
        entry: what lies around it; None for a run, and for an archive by itself.
        on: the model's entry, where this one is an attack on it.
    """

    path: Path
    evidence: Evidence
    entry: LoadedEntry | None = None
    on: LoadedEntry | None = None

    @property
    def is_attack(self) -> bool:
        return self.on is not None

    def load_bundled(self) -> GenerativeModel:
        """The model that needs no trust: that of the evidence, or of the entry that is attacked.

        Raises:
            RejectionError: it is no sound model.
            GenrobustError: the entry that is attacked is not whole.
        """
        if self.on is None:
            with rejecting():
                return self.evidence.load_model()
        path = self.on.folder / EVIDENCE
        if not path.is_file() or sha256_of(path) != self.on.entry.files.get(EVIDENCE):
            raise GenrobustError(
                f"'{path}', which says what model was attacked, is not the file that its entry "
                "names by hash; restore it"
            )
        return read_evidence(path).load_model()


def find_subjects(path: Path) -> list[Path]:
    """What there is to verify at a path: an archive, the folder of an entry or of a run, or the
    entries below a folder.

    Raises:
        GenrobustError: nothing, as in a run's folder without evidence or in one of several runs, or
            a file that is no archive: it is not what was submitted.
    """
    if path.is_file():
        if _begins_otherwise(path):
            raise GenrobustError(
                f"'{path}' is no archive of evidence; name an evidence.zip, or the folder of an "
                "entry or of a run"
            )
        return [path]
    if (path / ENTRY).exists() or (path / EVIDENCE).exists():
        return [path]
    found = sorted(entry.parent for entry in path.rglob(ENTRY) if not _hidden(entry, path))
    if not found:
        if (path / RECORD).exists():
            raise no_evidence(path / EVIDENCE)
        if runs := sorted(record.parent for record in path.rglob(RECORD)):
            one = next((run for run in runs if (run / EVIDENCE).exists()), runs[0])
            raise GenrobustError(f"'{path}' holds runs; name the folder of one, such as '{one}'")
        raise GenrobustError(
            f"there is nothing to verify at '{path}'; name an entry's folder, a folder of entries "
            "such as leaderboard/entries, or an evidence.zip"
        )
    return found


def no_evidence(archive: Path) -> GenrobustError:
    """What to do where a run has none."""
    return GenrobustError(
        f"there is no evidence '{archive}', by which others could check the scores; type the run's "
        "command again with --evidence, and name the folder that it prints"
    )


def _begins_otherwise(path: Path) -> bool:
    """Whether no zip archive begins so; one that is damaged further on is for its reader."""
    try:
        with files.open_file(path) as file:
            return file.read(2) != b"PK"
    except OSError:
        return False  # its reader says why


def read_subject(path: Path) -> Subject:
    """What lies at one of the paths that :func:`find_subjects` gives.

    Raises:
        RejectionError: it is damaged, or its parts do not belong together.
        GenrobustError: it cannot be read, or not by this version; the entry that an attack is on
            is not whole.
    """
    on = _attacked(path)
    try:
        with rejecting():
            if path.is_file():
                return _read_archive(path)
            return _read_entry(path, on) if (path / ENTRY).exists() else _read_run(path)
    except RejectionError as problem:
        words = str(problem).removeprefix(f"the entry '{path}' cannot be shown: ")
        raise RejectionError(words) from problem


def _attacked(path: Path) -> LoadedEntry | None:
    """The entry that one in its ``attacks`` is on; whether it is whole is not the attack's fault.

    Raises:
        GenrobustError: it is not.
    """
    return read_claims(path.parents[1]) if path.parent.name == ATTACKS else None


def _read_archive(path: Path) -> Subject:
    evidence = read_evidence(path)
    for name in _changed_beside(path.parent, evidence) if path.name == EVIDENCE else ():
        warnings.warn(
            f"'{path.parent / name}' is not the one in '{path}', which is verified by itself; name "
            "the folder to verify what lies in it",
            GenrobustWarning,
            stacklevel=2,
        )
    return Subject(path, evidence)


def _read_run(path: Path) -> Subject:
    evidence = read_evidence(path / EVIDENCE)
    for name in _changed_beside(path, evidence):
        raise RejectionError(
            f"{name} is not the one in {EVIDENCE}: it was changed, or the evidence is of another "
            "run"
        )
    return Subject(path, evidence)


def _changed_beside(folder: Path, evidence: Evidence) -> list[str]:
    """What lies beside an archive and is not what is in it."""
    outer = _outer(evidence).items()
    return [n for n, c in outer if (folder / n).exists() and _content(folder / n) != c]


def _read_entry(path: Path, on: LoadedEntry | None) -> Subject:
    entry = read_claims(path)
    if on is not None:
        check_attack(entry, on)
    elif entry.entry.kind != "model":
        raise RejectionError("entry.json says kind 'attack'; it belongs into a model's attacks/")
    for file in sorted(path.iterdir()):
        if file.name not in ALLOWED:
            raise RejectionError(f"the folder holds {file.name!a}, which is no part of an entry")
    if not (path / EVIDENCE).is_file():
        raise RejectionError(f"{EVIDENCE} is missing")
    if (path / EVIDENCE).stat().st_size > LIMITS.archive_bytes:
        raise RejectionError(f"{EVIDENCE} has more than {LIMITS.archive_bytes} bytes")
    present = {name for name in (*SHOWN, EVIDENCE) if (path / name).exists()}
    if entry.entry.files.keys() != present:
        raise RejectionError(
            f"entry.json names {_listed(entry.entry.files)} by hash, and the folder has "
            f"{_listed(present)}"
        )
    if sha256_of(path / EVIDENCE) != entry.entry.files[EVIDENCE]:
        raise RejectionError(f"{EVIDENCE} is not the file that entry.json names by its hash")
    evidence = read_evidence(path / EVIDENCE)
    for name, content in _outer(evidence).items():
        if _content(path / name) != content:
            raise RejectionError(f"{name} is not the one in {EVIDENCE}")
    return Subject(path, evidence, entry, on)


def _outer(evidence: Evidence) -> dict[str, bytes]:
    """What also lies beside the archive."""
    return {RECORD: evidence.record_bytes, OUTCOMES: pack(evidence)[OUTCOMES]}


def _content(path: Path) -> bytes:
    try:
        return files.read_bytes(path)
    except OSError as problem:
        raise GenrobustError(f"{path.name} cannot be read ({problem.strerror})") from problem


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _listed(names: object) -> str:
    return ", ".join(sorted(map(str, names)))  # type: ignore[call-overload]
