"""The comment on a pull request, from a result that may come from an attacker.

A pull request can change the job that wrote the result, so each byte of it is hostile: it is
bounded, read strictly, and shown as text that can do nothing. This file needs the standard library
alone, as it runs beside a token that can write: ``python -I tools/comment.py``.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: The one file in the artifact.
RESULT = "result.json"

MAX_BYTES = 1 << 20
MAX_ARTIFACT_BYTES = 1 << 20
MAX_ENTRIES = 100
MAX_NOTES = 300
#: GitHub allows 65,536 characters a comment.
MAX_TEXT = 50_000
MAX_LINES = 400

#: What a pull request with entries may change.
ENTRIES = "leaderboard/entries/"

_PATH = re.compile(r"[a-z0-9_-]{1,80}/[a-z0-9-]{1,60}(?:/attacks/[a-z0-9-]{1,60})?")
_KEYS = {"schema_version": int, "depth": str, "entries": list, "problems": list, "notes": list}
_ENTRY_KEYS = {"path": str, "passed": bool, "output": str}
_DEPTHS = ("schema", "replay", "re-attack")

_UNTRUSTED = (
    "The job that checks a pull request runs without rights, and its result is shown here as it "
    "came: a badge is given only by a verification on the main branch."
)


def comment_of(content: bytes, commit: str, outside: int = 0) -> str:
    """The comment, in GitHub's Markdown, for the bytes of a result.

    Args:
        content: what the job without rights wrote: JSON of ``schema_version`` 1 with ``depth``,
            ``entries`` (``path``, ``passed``, ``output``), ``problems`` and ``notes``.
        commit: the one that the job ran on, by GitHub's word; the comment is of it alone.
        outside: how many files of the pull request lie outside the entries.

    Returns:
        At most 65,536 characters. Nothing in ``content`` can add markup, links, mentions or
        images, or hide text; a result that is not of the form gives a comment that says so.

    Example:
        >>> comment_of(b"[]", "0" * 40).splitlines()[0]
        '### Leaderboard: nothing is verified at 000000000000'
        >>> comment_of(b"[]", "0" * 40).splitlines()[2]
        'The verification left no result that can be read: it is not a table.'
    """
    at = _checked(commit)[:12]
    try:
        result = _result(content)
    except ValueError as problem:
        title = "nothing is verified"
        body = f"The verification left no result that can be read: {problem}."
    else:
        passed = sum(entry["passed"] for entry in result["entries"])
        title = f"{passed} of {len(result['entries'])} verified ({result['depth']})"
        title = title if result["entries"] else "nothing is verified"
        title += f", problems: {len(result['problems'])}" if result["problems"] else ""
        body = f"<pre>\n{_plain(_lines(result))}\n</pre>"
    warning = (
        f"**This pull request also changes {outside} files outside `{ENTRIES}`**, which can be "
        "the job itself: review them before you believe this result."
    )
    only = f"This is said of commit `{at}` alone: of a later one nothing is verified by it."
    title = f"### Leaderboard: {title} at {at}"
    parts = [title, body, *([warning] if outside else []), only, _UNTRUSTED]
    return "\n\n".join(parts) + "\n"


def result_in(artifact: bytes) -> bytes:
    """The bytes of ``result.json`` in an artifact's zip archive, which is never unpacked to disk.

    Raises:
        ValueError: it is no such archive, or larger than allowed.
    """
    if len(artifact) > MAX_ARTIFACT_BYTES:
        raise ValueError(f"the artifact has more than {MAX_ARTIFACT_BYTES} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(artifact)) as archive:
            if archive.namelist() != [RESULT]:
                raise ValueError(f"the artifact holds something else than {RESULT}")
            with archive.open(RESULT) as file:
                content = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as problem:
        raise ValueError("the artifact is damaged") from problem
    if len(content) > MAX_BYTES:
        raise ValueError(f"the result has more than {MAX_BYTES} bytes")
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the comment for an artifact to a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--artifact", type=Path, required=True, help="the zip; it may be missing")
    parser.add_argument("--changed", type=Path, required=True, help="JSON, a name a line")
    parser.add_argument("--commit", required=True, help="that the job ran on")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        content = result_in(given.artifact.read_bytes())
    except (OSError, ValueError):
        content = b""
    # Not splitlines: a name may hold what else ends a line, such as U+2028.
    changed = [json.loads(line) for line in given.changed.read_bytes().split(b"\n") if line]
    outside = sum(not name.startswith(ENTRIES) for name in changed)
    given.out.write_text(comment_of(content, given.commit, outside), encoding="utf-8")


def _checked(commit: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        raise ValueError(f"{commit!a} is no commit; give its full hash")
    return commit


def _result(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    if not content:
        raise ValueError("it is missing")
    try:
        found = json.loads(
            content.decode(), parse_constant=_no_constant, object_pairs_hook=_without_repeats
        )
    except (ValueError, RecursionError) as problem:
        raise ValueError("it is not JSON") from problem
    result = _table(found, _KEYS, "it")
    if result["schema_version"] != 1 or result["depth"] not in _DEPTHS:
        raise ValueError("its version or depth is not known")
    remarks = [*result["problems"], *result["notes"]]
    if len(result["entries"]) > MAX_ENTRIES or len(remarks) > MAX_NOTES:
        raise ValueError("it has too many entries, problems or notes")
    for entry in result["entries"]:
        if not _PATH.fullmatch(_table(entry, _ENTRY_KEYS, "an entry")["path"]):
            raise ValueError("an entry's path is not one")
    if not all(isinstance(remark, str) for remark in remarks):
        raise ValueError("a problem or note is no text")
    return result


def _table(value: Any, keys: dict[str, type], what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a table")
    if value.keys() != keys.keys() or any(type(value[key]) is not keys[key] for key in keys):
        raise ValueError(f"{what} has other keys or types than it should")
    return value


def _lines(result: dict[str, Any]) -> Iterable[str]:
    yield from (f"PROBLEM {problem}" for problem in result["problems"])
    yield from (f"NOTE    {note}" for note in result["notes"])
    for entry in result["entries"]:
        yield f"{'PASSED' if entry['passed'] else 'FAILED'}  {entry['path']}"
        yield from (f"        {line}" for line in entry["output"].splitlines())


def _plain(lines: Iterable[str]) -> str:
    """Text that Markdown and HTML leave alone inside ``<pre>``, and that looks like what it is."""
    kept: list[str] = []
    left = MAX_TEXT
    for line in lines:
        # Mentions are dead inside <pre>; a space of no width after the sign makes sure.
        text = "".join(map(_printable, line[:1000].rstrip()))
        safe = html.escape(text, quote=False).replace("@", "@\u200b")
        left -= len(safe) + 1
        if left < 0 or len(kept) == MAX_LINES:
            return "\n".join([*kept, "[cut]"])
        kept.append(safe)
    return "\n".join(kept)


def _printable(character: str) -> str:
    """No control characters, and none that reorder or hide what is beside them."""
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return "\ufffd" if hidden else character


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


if __name__ == "__main__":
    main()
