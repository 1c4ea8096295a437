"""Zip bundles that come without trust: read whole into memory or refused, never unpacked to disk.

Python's zipfile reads and writes them. As it forgives much, its reading is held to the plain form
that :func:`write_archive` writes: each byte of the file belongs to a member, to the directory or to
its end, in this order and once: a directory cannot say one thing and the members another.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genrobust import files
from genrobust.errors import GenrobustError


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold.

    Args:
        archive_bytes: size of the file.
        members: how many files are in it.
        member_bytes: size of one of them, unpacked.
        total_bytes: size of all of them, unpacked.
        ratio: unpacked to packed size of a member, where it unpacks to more than ``ratio_from``
            bytes; what is legitimate and shrinks more is stored as it is.
    """

    archive_bytes: int = 1 << 30
    members: int = 64
    member_bytes: int = 1 << 30
    total_bytes: int = 2 << 30
    ratio: int = 200
    ratio_from: int = 1 << 20


#: Letters, digits, ``_``, ``-`` and ``.``, in folders; no part begins or ends with a dot.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?"
_NAME = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}")
_LONGEST_NAME = 200

#: Names that Windows keeps for devices, with any ending.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)

#: Bytes of a directory's entry without its name; the archive's end (APPNOTE.TXT 4.3.12, 4.3.16).
_ENTRY, _END, _END_MARK = 46, struct.Struct("<4s4H2IH"), b"PK\x05\x06"
#: How hard the compressor tried (bits 1 and 2), and that names are UTF-8 (bit 11): of no matter.
_HARMLESS = 0x6 | 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DOS, _UNIX = 0, 3


def write_archive(
    path: Path, members: Mapping[str, bytes], limits: ArchiveLimits | None = None
) -> None:
    """Write a zip file, atomically; the same members give the same bytes.

    Args:
        path: where to.
        members: content by name; names have letters, digits, ``_``, ``-``, ``.`` and ``/``.
        limits: what :func:`read_archive` will allow.

    Raises:
        GenrobustError: ``read_archive`` would refuse it, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "bundle.zip"
        >>> write_archive(path, {"record.json": b"{}"})
        >>> read_archive(path)
        {'record.json': b'{}'}
    """
    limits = limits or ArchiveLimits()
    try:
        _check_names(list(members), re.compile(".*"))
        content = _written(members, limits)
        _parse(content, limits, re.compile(".*"))
    except _RefusalError as problem:
        raise GenrobustError(
            f"the archive '{path}' would be refused when it is read: {problem}; bundle less, or "
            "under other names"
        ) from problem
    files.write_bytes(path, content)


def read_archive(
    path: str | Path, limits: ArchiveLimits | None = None, *, names: str = ".*"
) -> dict[str, bytes]:
    """The files in a zip archive, by name; nothing is written to disk, nothing is followed.

    Args:
        path: the archive.
        limits: how much it may hold.
        names: a regular expression that each name must match in full.

    Returns:
        Content by name, in the archive's order. Archives inside are bytes like any other.

    Raises:
        GenrobustError: the file is not a whole zip archive in plain form; a name is not allowed,
            could lead out of a folder, or is there twice; a member is a link, a device, a folder,
            encrypted or packed in another way; sizes pass the limits, or are not what was said.
    """
    limits = limits or ArchiveLimits()
    try:
        return _parse(_read(Path(path), limits), limits, re.compile(names))
    except _RefusalError as problem:
        raise GenrobustError(
            f"the archive '{path}' is refused: {problem}; write it anew with genrobust"
        ) from problem


class _RefusalError(Exception):
    """Why an archive is refused."""


def _read(path: Path, limits: ArchiveLimits) -> bytes:
    try:
        if not path.is_file():  # a pipe or a device would never end
            raise _RefusalError("it is no file")
        with path.open("rb") as file:
            content = file.read(limits.archive_bytes + 1)
    except OSError as problem:
        raise _RefusalError(f"it cannot be read ({problem.strerror})") from problem
    if len(content) > limits.archive_bytes:
        raise _RefusalError(f"it has more than the {limits.archive_bytes} bytes that are allowed")
    return content


def _parse(content: bytes, limits: ArchiveLimits, names: re.Pattern[str]) -> dict[str, bytes]:
    if len(content) < _END.size or content[-_END.size :][:4] != _END_MARK:
        raise _RefusalError("it is cut short, is no zip archive, or there are bytes behind its end")
    *_, count, size, start, _ = _END.unpack(content[-_END.size :])
    if count > limits.members:
        raise _RefusalError(f"it holds {count} files and {limits.members} are allowed")
    if size > count * (_ENTRY + _LONGEST_NAME):  # before it is read
        raise _RefusalError(
            f"its directory is too long for {count} files; names are not allowed "
            f"more than {_LONGEST_NAME} letters"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
        _check_members(members, limits, names)
        places = _places(content, members, start)
        if content[-_END.size :] != _END.pack(
            _END_MARK, 0, 0, len(members), len(members), size, start, 0
        ):
            raise _RefusalError("its end does not say what it holds")
        return {m.filename: _unpacked(content[places[m.filename]], m) for m in members}
    except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError) as problem:
        raise _RefusalError("it is damaged, or no zip archive in plain form") from problem


def _check_members(
    members: list[zipfile.ZipInfo], limits: ArchiveLimits, names: re.Pattern[str]
) -> None:
    for member in members:
        _check_kind(member)
        _check_size(member, limits)
    _check_names([member.orig_filename for member in members], names)
    total = sum(member.file_size for member in members)
    if total > limits.total_bytes:
        raise _RefusalError(f"it unpacks to {total} bytes and {limits.total_bytes} are allowed")


def _check_kind(member: zipfile.ZipInfo) -> None:
    """Only plain files, packed in the plain way."""
    name, mode = _shown(member.orig_filename), stat.S_IFMT(member.external_attr >> 16)
    if member.flag_bits & ~_HARMLESS:
        raise _RefusalError(f"{name} is encrypted, or has its sizes behind it")
    if member.compress_type not in _METHODS:
        raise _RefusalError(f"{name} is packed by method {member.compress_type}, not by 'deflate'")
    if mode == stat.S_IFDIR or member.external_attr & 0x10 or name.endswith(("/'", "\\'")):
        raise _RefusalError(f"{name} is a folder")
    # Whatever the system, the high half holds Unix's type where it has one.
    if mode not in (0, stat.S_IFREG) or member.create_system not in (_DOS, _UNIX):
        raise _RefusalError(f"{name} is no plain file but a link, a device or the like")


def _check_names(found: list[str], names: re.Pattern[str]) -> None:
    times = Counter(name.lower() for name in found)
    for name in found:
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
            raise _RefusalError(f"the name {_shown(name)} is an absolute path")
        if ".." in re.split(r"[/\\]", name):
            raise _RefusalError(f"the name {_shown(name)} leads out of its folder")
        allowed = len(name) <= _LONGEST_NAME and _NAME.fullmatch(name)
        if not allowed or any(_DEVICES.fullmatch(part) for part in name.split("/")):
            raise _RefusalError(
                f"the name {_shown(name)} is not allowed: names have letters, digits, '_', '-', "
                "'.' and '/', and no part begins or ends with a dot"
            )
        if times[name.lower()] > 1:  # one file on many a disk
            raise _RefusalError(f"it holds '{name}' twice")
        if not names.fullmatch(name):
            raise _RefusalError(f"the file '{name}' is none of those that belong in it")


def _check_size(member: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    name, size = _shown(member.orig_filename), member.file_size
    if size > limits.member_bytes:
        raise _RefusalError(f"{name} unpacks to {size} bytes and {limits.member_bytes} are allowed")
    if size > limits.ratio_from and size > limits.ratio * member.compress_size:
        raise _RefusalError(
            f"{name} unpacks to more than {limits.ratio} times its size, as a bomb does"
        )


def _places(content: bytes, members: list[zipfile.ZipInfo], start: int) -> dict[str, slice]:
    """Where each file's packed bytes are: side by side, under the header that it must have."""
    places: dict[str, slice] = {}
    at = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset != at:
            found = "overlap" if member.header_offset < at else "have bytes between them"
            raise _RefusalError(f"its files {found} (at '{member.filename}')")
        header = member.FileHeader(zip64=False)
        if member.extra or member.comment or not content.startswith(header, at):
            raise _RefusalError(f"the directory and the file disagree about '{member.filename}'")
        at += len(header) + member.compress_size
        places[member.filename] = slice(at - member.compress_size, at)
    directory = sum(_ENTRY + len(member.filename) for member in members)
    if at != start or at + directory + _END.size != len(content):
        raise _RefusalError("there are bytes in it that belong to no file")
    return places


def _unpacked(data: bytes, member: zipfile.ZipInfo) -> bytes:
    """The content; not by zipfile, which takes a packed stream that is longer than it says."""
    if member.compress_type == zipfile.ZIP_DEFLATED:
        packer = zlib.decompressobj(-zlib.MAX_WBITS)
        # One byte more than was said shows a lie without unpacking all of it.
        data = packer.decompress(data, member.file_size + 1)
        if not packer.eof or packer.unused_data:
            raise _RefusalError(f"'{member.filename}' does not unpack to the size that it says")
    if len(data) != member.file_size:
        raise _RefusalError(f"'{member.filename}' does not unpack to the size that it says")
    if zlib.crc32(data) != member.CRC:
        raise _RefusalError(f"'{member.filename}' is damaged: its checksum differs")
    return data


def _written(members: Mapping[str, bytes], limits: ArchiveLimits) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name)  # of 1980-01-01, the format's first day
            info.create_system, info.external_attr = _UNIX, (stat.S_IFREG | 0o644) << 16
            size, packed = len(members[name]), len(zlib.compress(members[name], 9))
            suspicious = size > limits.ratio_from and size > limits.ratio * packed
            stored = packed >= size or suspicious
            method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name], method, compresslevel=9)
    return buffer.getvalue()


def _shown(name: str) -> str:
    """The name for a terminal: what is odd in it is escaped."""
    return ascii(name[:80])
