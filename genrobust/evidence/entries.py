"""Entries as they lie in a folder: read, and refused in one sentence where they do not fit."""

from __future__ import annotations

import hashlib
import math
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from genrobust import files
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.evidence.checks import UntoldError
from genrobust.evidence.entry import Depth, Entry, Outcomes, Verification
from genrobust.records.load import read_record
from genrobust.records.outcomes import check_outcomes
from genrobust.records.record import Record

#: A board's folder is that of its suite.
BOARD = re.compile(r"[a-z0-9][a-z0-9_-]*-v[0-9]+")

#: The pictures: what the columns' sources became, from the top. One column a class: its first
#: eligible source (`example_positions`), attacked at the middle radius (`example_radius`).
PICTURE_ROWS = (
    "source",
    "attacked",
    "reconstruction of the source",
    "reconstruction of the attacked",
)
PICTURES = "thumbnails.png"
TRAVERSALS = "traversals.png"
VERIFICATION = "verification.json"
ENTRY = "entry.json"
#: Files beside entry.json that a page shows or offers.
SHOWN = ("record.json", "outcomes.json", PICTURES, TRAVERSALS)

MAX_BYTES = 64 * 2**20
MAX_PICTURE_BYTES = 2 * 2**20
MAX_PICTURE_SIDE = 4096

Model = TypeVar("Model", bound=BaseModel)
State = Depth | Literal["unverified", "failed"]


@dataclass(frozen=True)
class PngImage:
    """A PNG file's bytes and size in pixels."""

    content: bytes
    width: int
    height: int


@dataclass(frozen=True)
class LoadedEntry:
    """An entry with what lies beside it. Attacks are entries of their own, on this model."""

    folder: Path
    entry: Entry
    record: Record
    outcomes: Outcomes
    verification: Verification | None
    pictures: PngImage | None
    traversals: PngImage | None
    attacks: tuple[LoadedEntry, ...]

    @property
    def current_verification(self) -> Verification | None:
        """The verification, if it is of the entry as it is now."""
        found = self.verification
        if found is None or found.entry_sha256 != sha256_of(self.folder / ENTRY):
            return None
        return found

    @property
    def state(self) -> State:
        """How deep it was verified, and whether it passed."""
        found = self.current_verification
        if found is None:
            return "unverified"
        return found.depth if found.passed else "failed"


def entry_folders(root: Path) -> list[Path]:
    """The folders of entries below ``root``: ``SUITE-vVERSION/SLUG/``, in the order of their paths.

    Folders that are none are left out, with a warning.

    Raises:
        GenrobustError: there is no such folder.
    """
    if not root.is_dir():
        raise GenrobustError(
            f"there is no folder '{root}'; run this in a clone of the repository, or name the "
            "folder with --entries"
        )
    found = []
    for board in _folders(root):
        if BOARD.fullmatch(board.name) is None:
            _left_out(board, "it is not named after a suite, such as digits-v2")
            continue
        for folder in _folders(board):
            if (folder / ENTRY).exists():
                found.append(folder)
            else:
                _left_out(folder, f"it has no {ENTRY}")
    return found


def attack_folders(folder: Path) -> list[Path]:
    """The folders of the attacks on an entry's model, in the order of their paths."""
    return _folders(folder / "attacks")


def read_entry(folder: Path) -> LoadedEntry:
    """The entry of a folder, with the attacks on it.

    Raises:
        GenrobustError: what does not fit, and where.
    """
    loaded = read_alone(folder)
    if loaded.entry.kind != "model":
        raise _refused(folder, "entry.json says kind 'attack'; it belongs into a model's attacks/")
    attacks = tuple(map(read_alone, attack_folders(folder)))
    for attack in attacks:
        check_attack(attack, loaded)
    return replace(loaded, attacks=attacks)


def read_alone(folder: Path) -> LoadedEntry:
    """The entry of a folder, of a model or of an attack, without what lies around it.

    Raises:
        GenrobustError: what does not fit, and where.
    """
    claims = read_claims(folder)
    if not (folder / VERIFICATION).exists():
        return claims
    return replace(claims, verification=_parse(folder, VERIFICATION, Verification))


def read_claims(folder: Path) -> LoadedEntry:
    """:func:`read_alone` without looking at what was verified of it.

    Raises:
        GenrobustError: what does not fit, and where.
    """
    on_model = folder.parent.name == "attacks"
    return _read(folder, folder.parents[2 if on_model else 0].name)


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, as entries name it.

    Raises:
        GenrobustError: it cannot be read.
    """
    try:
        return hashlib.sha256(files.read_bytes(path)).hexdigest()
    except OSError as problem:
        raise GenrobustError(
            f"'{path}' cannot be read ({problem.strerror}); set that right first"
        ) from problem


def _read(folder: Path, board: str) -> LoadedEntry:
    for path in (folder, *_contents(folder)):
        if path.is_symlink():
            raise _refused(folder, f"{path.name} is a link; put the file itself there")
    entry = _parse(folder, ENTRY, Entry)
    record = _parse(folder, "record.json", Record, read_record)
    outcomes = _parse(folder, "outcomes.json", Outcomes)
    _check_entry(folder, board, entry, record)
    try:
        check_outcomes(record, outcomes)
    except ValueError as problem:
        raise _refused(folder, str(problem)) from problem
    return LoadedEntry(
        folder=folder,
        entry=entry,
        record=record,
        outcomes=outcomes,
        verification=None,
        pictures=read_picture(folder / PICTURES),
        traversals=read_picture(folder / TRAVERSALS),
        attacks=(),
    )


def _check_entry(folder: Path, board: str, entry: Entry, record: Record) -> None:
    suite = f"{record.suite.name}-v{record.suite.version}"
    if entry.slug != folder.name:
        raise _refused(folder, f"entry.json says slug '{entry.slug}'; name the folder so")
    if not board == entry.suite == suite:
        raise _refused(
            folder, f"it is on the board '{board}', for '{entry.suite}', and measured on '{suite}'"
        )
    if entry.fingerprint != record.model.fingerprint:
        raise _refused(folder, "entry.json and record.json name different fingerprints")
    if record.suite_sha256 != record.suite.sha256:
        raise _refused(folder, "record.json names a suite_sha256 that is not its suite's")
    if entry.kind == "model" and not record.official:
        why = "; ".join(record.deviations) or "no reason is given"
        raise _refused(folder, f"its run was not official ({why}); boards take whole suites only")
    for name in SHOWN:
        path = folder / name
        if not path.exists():
            continue
        if entry.files.get(name) != hashlib.sha256(_bytes(path, MAX_BYTES)).hexdigest():
            raise _refused(folder, f"{name} is not the file that entry.json names by its hash")


def check_attack(attack: LoadedEntry, model: LoadedEntry) -> None:
    """Only what the attacks are may differ from the model's own run.

    Raises:
        GenrobustError: something else does.
    """
    if attack.entry.kind != "attack":
        raise _refused(attack.folder, "entry.json says kind 'model'; attacks/ holds attacks only")
    if attack.entry.fingerprint != model.entry.fingerprint:
        raise _refused(attack.folder, "it attacked another model than the one it lies with")
    if measurement(attack.record) != measurement(model.record):
        raise _refused(attack.folder, "it was measured on other sources, radii or judges")


def measurement(record: Record) -> dict[str, Any]:
    """The suite without what attacks are: what must be equal for outcomes to be merged."""
    attacks = {"attacks", "ensemble", "chunk_size"}
    return record.suite.model_dump(exclude=attacks)


def read_picture(path: Path) -> PngImage | None:
    """A PNG file as it is, never decoded; None if there is none.

    Raises:
        GenrobustError: it is no PNG file, or too large.
    """
    if not path.exists():
        return None
    content = _bytes(path, MAX_PICTURE_BYTES)
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR" or len(content) < 24:
        raise _refused(path.parent, f"{path.name} is not a PNG file")
    width, height = struct.unpack(">II", content[16:24])
    if not (0 < width <= MAX_PICTURE_SIDE and 0 < height <= MAX_PICTURE_SIDE):
        raise _refused(
            path.parent, f"{path.name} is {width} by {height}; {MAX_PICTURE_SIDE} is the most"
        )
    return PngImage(content, width, height)


def _parse(
    folder: Path, name: str, kind: type[Model], read: Callable[[str], Model] | None = None
) -> Model:
    """A JSON file as what it should be."""
    try:
        content = files.read_text(folder / name, MAX_BYTES)
    except OSError as problem:
        raise _unreadable(folder / name, problem) from problem
    try:
        found = (read or kind.model_validate_json)(content)
    except ValidationError as problem:
        raise _refused_json(folder, name, problem) from problem
    if not is_finite(found.model_dump()):
        raise _refused(folder, f"{name} has a number that is NaN or infinite")
    return found


def is_finite(value: Any) -> bool:
    """Whether no number in what was read from JSON is NaN or infinite."""
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _bytes(path: Path, most: int) -> bytes:
    try:
        return files.read_bytes(path, most)
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _contents(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as problem:
        raise _refused(folder, f"it cannot be read ({problem.strerror})") from problem


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [p for p in _contents(path) if p.is_dir() and not p.name.startswith(".")]


def _left_out(folder: Path, why: str) -> None:
    warnings.warn(f"'{folder}' is left out: {why}", GenrobustWarning, stacklevel=3)


def is_later(problem: ValidationError) -> bool:
    """Whether a file is refused for its schema version, which is one of a later genrobust."""
    return any(
        error["loc"][-1:] == ("schema_version",) and error["type"] == "less_than_equal"
        for error in problem.errors()
    )


def _unreadable(path: Path, problem: OSError) -> GenrobustError:
    if isinstance(problem, FileNotFoundError):
        return _refused(path.parent, f"{path.name} is missing")
    return _refused(path.parent, f"{path.name} cannot be read ({problem.strerror})")


def _refused_json(folder: Path, name: str, problem: ValidationError) -> GenrobustError:
    reason = in_a_line(problem)
    if is_later(problem):
        return UntoldError(
            f"'{folder / name}' is of a later genrobust than this one ({reason}); install that"
        )
    return _refused(folder, f"{name}: {reason}")


def _refused(folder: Path, why: str) -> GenrobustError:
    return GenrobustError(f"the entry '{folder}' cannot be shown: {why}")
