"""What is verified: an entry's folder, or evidence by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrobust.errors import GenrobustError
from genrobust.leaderboard.checks import RejectionError
from genrobust.leaderboard.entries import (
    SHOWN,
    LoadedEntry,
    check_attack,
    read_alone,
    sha256_of,
)
from genrobust.leaderboard.evidence import (
    EVIDENCE,
    LIMITS,
    OUTCOMES,
    RECORD,
    Evidence,
    pack,
    read_evidence,
)
from genrobust.models.model import GenerativeModel

ENTRY, VERIFICATION, ATTACKS = "entry.json", "verification.json", "attacks"
#: What an entry's folder may hold.
ALLOWED = (ENTRY, VERIFICATION, EVIDENCE, *SHOWN, ATTACKS)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is verified.

    Args:
        path: an entry's folder or an archive.
        evidence: what is in the archive.
        entry: what lies around it; None for an archive by itself.
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
            GenrobustError: there is none, or it is no sound model.
        """
        if self.on is None:
            return self.evidence.load_model()
        path = self.on.folder / EVIDENCE
        if not path.is_file() or sha256_of(path) != self.on.entry.files.get(EVIDENCE):
            raise GenrobustError(
                f"'{path}', which says what model was attacked, is not the file that its entry "
                "names by hash; restore it"
            )
        return read_evidence(path).load_model()


def find_subjects(path: Path) -> list[Path]:
    """What there is to verify at a path: an archive, an entry's folder, or those below a folder.

    Raises:
        GenrobustError: nothing.
    """
    if path.is_file():
        return [path]
    if (path / ENTRY).exists():
        return [path]
    if (path / EVIDENCE).exists():  # the folder of a run
        return [path / EVIDENCE]
    found = sorted(entry.parent for entry in path.rglob(ENTRY) if not _hidden(entry, path))
    if not found:
        raise GenrobustError(
            f"there is nothing to verify at '{path}'; name an entry's folder, a folder of entries "
            "such as leaderboard/entries, or an evidence.zip"
        )
    return found


def read_subject(path: Path) -> Subject:
    """What lies at one of the paths that :func:`find_subjects` gives.

    Raises:
        RejectionError: it is damaged, or its parts do not belong together.
    """
    try:
        if path.is_file():
            return Subject(path, read_evidence(path))
        return _read_entry(path)
    except GenrobustError as problem:
        words = str(problem).removeprefix(f"the entry '{path}' cannot be shown: ")
        raise RejectionError(words) from problem


def _read_entry(path: Path) -> Subject:
    entry = read_alone(path)
    on = None
    if path.parent.name == ATTACKS:
        on = read_alone(path.parents[1])
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
    for name, content in ((RECORD, evidence.record_bytes), (OUTCOMES, pack(evidence)[OUTCOMES])):
        if (path / name).read_bytes() != content:
            raise RejectionError(f"{name} is not the one in {EVIDENCE}")
    return Subject(path, evidence, entry, on)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _listed(names: object) -> str:
    return ", ".join(sorted(map(str, names)))  # type: ignore[call-overload]
