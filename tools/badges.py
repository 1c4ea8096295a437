"""Verifications are of the main branch: what has none is verified there, and the result is kept.

Two steps, in two jobs. ``verify`` reads hostile data and can write nothing; ``keep`` may write to
the branch, and takes of the first one's result only files that say what a verification says, of
entries as they are. It needs the standard library alone: ``python -I tools/badges.py keep``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

VERIFICATION, ENTRY = "verification.json", "entry.json"
_SLUG = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_PLACE = re.compile(rf"[a-z0-9][a-z0-9_-]*-v[0-9]+/{_SLUG}(?:/attacks/{_SLUG})?/{VERIFICATION}")
_KEYS = {
    *("schema_version", "depth", "passed", "checks", "entry_sha256", "genrobust", "platform"),
    *("date", "seconds", "rate"),
}
MAX_BYTES = 1 << 20
MAX_FILES = 1000


def unverified(root: Path) -> Iterator[Path]:
    """The folders of entries, and of attacks on them, that were not verified as they are now."""
    for entry in filter(Path.is_file, sorted(root.rglob(ENTRY))):
        if _said(entry.parent) != hashlib.sha256(entry.read_bytes()).hexdigest():
            yield entry.parent


def keep(artifact: bytes, root: Path) -> list[str]:
    """Write the verifications in an archive beside their entries.

    Args:
        artifact: a zip of files named ``SUITE-vVERSION/SLUG/verification.json``.
        root: the entries.

    Returns:
        What was written, by its path below ``root``.

    Raises:
        ValueError: a file is something else, or of an entry that is not here as it was verified;
            then nothing is written.
    """
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
        members = archive.infolist()
        if len(members) > MAX_FILES or sum(m.file_size for m in members) > 100 * MAX_BYTES:
            raise ValueError("the archive is too large")
        for member in members:
            with archive.open(member) as file:
                found[member.filename] = file.read(MAX_BYTES + 1)
    for place, content in found.items():
        _require_sound(place, content, root)
    for place, content in found.items():
        (root / place).write_bytes(content)
    return sorted(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify what is not verified, or keep what came of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="write the verifications of what has none")
    check.add_argument("--entries", type=Path, required=True)
    check.add_argument("--depth", default="re-attack")
    check.add_argument("--seconds", type=float, default=3600, help="for each entry")
    check.add_argument("--out", type=Path, required=True, help="a new folder for them")
    take = commands.add_parser("keep", help="put them beside their entries")
    take.add_argument("--artifact", type=Path, required=True)
    take.add_argument("--entries", type=Path, required=True)
    given = parser.parse_args(arguments)
    if given.command == "keep":
        print("\n".join(keep(given.artifact.read_bytes(), given.entries)))
        return 0
    return _verify(given.entries, given.out, given.depth, given.seconds)


def _verify(entries: Path, out: Path, depth: str, seconds: float) -> int:
    from pull_request import run_command

    told = True
    for folder in [*unverified(entries)]:
        (folder / VERIFICATION).unlink(missing_ok=True)
        command = [sys.executable, "-I", "-m", "genrobust", "verify", str(folder)]
        _, output = run_command([*command, "--depth", depth], seconds)
        print(output)
        made = folder / VERIFICATION
        if made.exists():  # passed or not: what cannot be told writes nothing
            place = out / folder.relative_to(entries) / VERIFICATION
            place.parent.mkdir(parents=True, exist_ok=True)  # an attack on it came first
            place.write_bytes(made.read_bytes())
        told = told and made.exists()
    return 0 if told else 1


def _require_sound(place: str, content: bytes, root: Path) -> None:
    entry = (root / place).parent / ENTRY
    if not _PLACE.fullmatch(place) or len(content) > MAX_BYTES:
        raise ValueError(f"{place[:200]!a} is no verification of an entry, or too large")
    said = json.loads(content)
    if (
        not isinstance(said, dict)
        or said.keys() | {"rate"} != _KEYS
        or type(said["passed"]) is not bool
    ):
        raise ValueError(f"{place} has other keys than a verification")
    if not entry.is_file() or entry.is_symlink():
        raise ValueError(f"{place} is of an entry that is not here")
    if said["entry_sha256"] != hashlib.sha256(entry.read_bytes()).hexdigest():
        raise ValueError(f"{place} is of an entry as it is not any more")


def _said(folder: Path) -> str | None:
    """Of which entry.json a verification says that it is; None without one that can be read."""
    try:
        found = json.loads((folder / VERIFICATION).read_bytes())["entry_sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


if __name__ == "__main__":
    sys.exit(main())
