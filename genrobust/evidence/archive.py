"""Zip bundles that come without trust: read whole into memory or refused, never unpacked to disk.

Only the plain form that :func:`write_archive` writes is read. Every byte of the file must belong to
a member, to the directory or to its end, in this order and once, so that a directory cannot say one
thing and the members another.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.models.tensors import TensorLimits, read_safetensors, refuse_pickle

__all__ = [
    "Limits",
    "TensorLimits",
    "read_archive",
    "read_safetensors",
    "refuse_pickle",
    "write_archive",
]


@dataclass(frozen=True)
class Limits:
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

# The records of the format (APPNOTE.TXT 4.3), little-endian.
_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCAL_MARK, _ENTRY_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1 | 0x40 | 0x2000
#: How hard the compressor tried (bits 1 and 2), and that names are UTF-8 (bit 11): of no matter.
_HARMLESS = 0x6 | 0x800
_VERSION, _UNIX = 20, 3
#: 1980-01-01, the first day that the format has.
_DATE = 0x21


@dataclass(frozen=True)
class _Member:
    """What the directory says of a file."""

    name: str
    raw_name: bytes
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    offset: int

    @property
    def data(self) -> int:
        """Where its packed bytes begin."""
        return self.offset + _LOCAL.size + len(self.raw_name)

    @property
    def end(self) -> int:
        return self.data + self.packed


def write_archive(path: Path, members: Mapping[str, bytes], limits: Limits | None = None) -> None:
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
    limits = limits or Limits()
    body, directory = bytearray(), bytearray()
    for name in sorted(members):
        _write_member(name, members[name], limits, body, directory)
    end = (0, 0, len(members), len(members), len(directory), len(body), 0)
    content = bytes(body + directory + _END.pack(_END_MARK, *end))
    try:
        _parse(content, limits, re.compile(".*"))
    except _RefusalError as problem:
        raise GenrobustError(
            f"the archive '{path}' would be refused when it is read: {problem}; bundle less, or "
            "under other names"
        ) from problem
    files.write_bytes(path, content)


def read_archive(
    path: str | Path, limits: Limits | None = None, *, names: str = ".*"
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
    limits = limits or Limits()
    try:
        return _parse(_read(Path(path), limits), limits, re.compile(names))
    except _RefusalError as problem:
        raise GenrobustError(
            f"the archive '{path}' is refused: {problem}; write it anew with genrobust"
        ) from problem


class _RefusalError(Exception):
    """Why an archive is refused."""


def _read(path: Path, limits: Limits) -> bytes:
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


def _parse(content: bytes, limits: Limits, names: re.Pattern[str]) -> dict[str, bytes]:
    members, start = _directory(content, limits)
    for member in members:
        _check_name(member.name, names)
        _check_size(member, limits)
    names_in_lower_case = Counter(member.name.lower() for member in members)
    for member in members:
        if names_in_lower_case[member.name.lower()] > 1:  # one file on many a disk
            raise _RefusalError(f"it holds '{member.name}' twice")
    total = sum(member.size for member in members)
    if total > limits.total_bytes:
        raise _RefusalError(f"it unpacks to {total} bytes and {limits.total_bytes} are allowed")
    _check_layout(content, members, start)
    return {member.name: _unpacked(content, member) for member in members}


def _directory(content: bytes, limits: Limits) -> tuple[list[_Member], int]:
    """The directory's entries, and where it begins."""
    place = len(content) - _END.size
    if place < 0 or content[place : place + 4] != _END_MARK:
        raise _RefusalError(_no_end(content))
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(content, place)
    if disk or first_disk or here != count or comment:
        raise _RefusalError("it is one part of several, or has a comment")
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (size, start):
        raise _RefusalError("it is in the form for more than 4 GiB (zip64)")
    if count > limits.members:
        raise _RefusalError(f"it holds {count} files and {limits.members} are allowed")
    if start + size != place:
        raise _RefusalError("there are bytes in front of it or inside it that belong to no file")
    members, at = [], start
    for _ in range(count):
        member, at = _entry(content, at, place)
        members.append(member)
    if at != place:
        raise _RefusalError("its directory holds more than it says")
    return members, start


def _no_end(content: bytes) -> str:
    if 0 <= content.rfind(_END_MARK) < len(content) - _END.size:
        return "there are bytes behind its end"
    if content[:4] in (_LOCAL_MARK, _END_MARK):
        return "it is cut short"
    return "it is not a zip archive"


def _entry(content: bytes, at: int, limit: int) -> tuple[_Member, int]:
    if at + _ENTRY.size > limit:
        raise _RefusalError("its directory is cut short")
    fields = _ENTRY.unpack_from(content, at)
    mark, made_by, _, flags, method, _, _, crc, packed, size = fields[:10]
    name_size, extra, comment, disk, _, attributes, offset = fields[10:]
    end = at + _ENTRY.size + name_size
    if mark != _ENTRY_MARK or end > limit:
        raise _RefusalError("its directory is damaged")
    raw_name = content[at + _ENTRY.size : end]
    name = raw_name.decode("latin-1")
    if extra or comment or disk:
        raise _RefusalError(f"{_shown(name)} has extra fields, a comment or another disk")
    if flags & _ENCRYPTED:
        raise _RefusalError(f"{_shown(name)} is encrypted")
    if flags & ~_HARMLESS:
        raise _RefusalError(
            f"{_shown(name)} has its sizes behind it, or is packed in an unknown way"
        )
    if method not in (_STORED, _DEFLATED):
        raise _RefusalError(f"{_shown(name)} is packed by method {method}; 'deflate' is allowed")
    _check_kind(name, made_by >> 8, attributes)
    return _Member(name, raw_name, method, flags, crc, packed, size, offset), end


def _check_kind(name: str, system: int, attributes: int) -> None:
    """Only plain files: whatever the system, the high half holds Unix's type where it has one."""
    kind = stat.S_IFMT(attributes >> 16)
    if kind == stat.S_IFLNK:
        raise _RefusalError(f"{_shown(name)} is a link")
    if kind == stat.S_IFDIR or attributes & 0x10 or name.endswith(("/", "\\")):
        raise _RefusalError(f"{_shown(name)} is a folder")
    if kind not in (0, stat.S_IFREG):
        raise _RefusalError(f"{_shown(name)} is a device, a pipe or the like")
    if system not in (0, _UNIX):
        raise _RefusalError(f"{_shown(name)} was written by an unknown system")


def _check_name(name: str, names: re.Pattern[str]) -> None:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise _RefusalError(f"the name {_shown(name)} is an absolute path")
    if ".." in re.split(r"[/\\]", name):
        raise _RefusalError(f"the name {_shown(name)} leads out of its folder")
    allowed = len(name) <= _LONGEST_NAME and _NAME.fullmatch(name)
    if not allowed or any(_DEVICES.fullmatch(part) for part in name.split("/")):
        raise _RefusalError(
            f"the name {_shown(name)} is not allowed: names have letters, digits, '_', '-', '.' "
            "and '/', and no part begins or ends with a dot"
        )
    if not names.fullmatch(name):
        raise _RefusalError(f"the file '{name}' is none of those that belong in it")


def _check_size(member: _Member, limits: Limits) -> None:
    if member.size > limits.member_bytes:
        raise _RefusalError(
            f"'{member.name}' unpacks to {member.size} bytes and {limits.member_bytes} are allowed"
        )
    if member.size > limits.ratio_from and member.size > limits.ratio * member.packed:
        raise _RefusalError(
            f"'{member.name}' unpacks to more than {limits.ratio} times its size, as a bomb does"
        )


def _check_layout(content: bytes, members: list[_Member], start: int) -> None:
    """The files lie side by side up to the directory, each under the header it must have."""
    at = 0
    for member in sorted(members, key=lambda member: member.offset):
        if member.offset != at:
            found = "overlap" if member.offset < at else "have bytes between them"
            raise _RefusalError(f"its files {found} (at '{member.name}')")
        if member.end > start:
            raise _RefusalError(f"'{member.name}' reaches beyond its place")
        mark, _, flags, method, _, _, *sizes, extra = _LOCAL.unpack_from(content, at)
        name = content[at + _LOCAL.size : member.data]
        said = (flags, method, *sizes, name)
        wanted = (
            *(member.flags, member.method, member.crc, member.packed, member.size),
            *(len(member.raw_name), member.raw_name),
        )
        if mark != _LOCAL_MARK or said != wanted or extra:
            raise _RefusalError(f"the directory and the file disagree about '{member.name}'")
        at = member.end
    if at != start:
        raise _RefusalError("there are bytes in it that belong to no file")


def _unpacked(content: bytes, member: _Member) -> bytes:
    data = content[member.data : member.end]
    if member.method == _DEFLATED:
        packer = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more than was said shows a lie without unpacking all of it.
            data = packer.decompress(data, member.size + 1)
        except zlib.error as problem:
            raise _RefusalError(f"'{member.name}' is damaged") from problem
        if not packer.eof or packer.unused_data:
            raise _RefusalError(f"'{member.name}' does not unpack to the size that it says")
    if len(data) != member.size:
        raise _RefusalError(f"'{member.name}' does not unpack to the size that it says")
    if zlib.crc32(data) != member.crc:
        raise _RefusalError(f"'{member.name}' is damaged: its checksum differs")
    return data


def _write_member(
    name: str, content: bytes, limits: Limits, body: bytearray, directory: bytearray
) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data, method = packer.compress(content) + packer.flush(), _DEFLATED
    suspicious = len(content) > limits.ratio_from and len(content) > limits.ratio * len(data)
    if len(data) >= len(content) or suspicious:
        data, method = content, _STORED
    raw_name = name.encode("ascii", "backslashreplace")
    common = (0, method, 0, _DATE, zlib.crc32(content), len(data), len(content), len(raw_name), 0)
    made_by, attributes = _UNIX << 8 | _VERSION, (stat.S_IFREG | 0o644) << 16
    place = (0, 0, 0, attributes, len(body))
    directory += _ENTRY.pack(_ENTRY_MARK, made_by, _VERSION, *common, *place) + raw_name
    body += _LOCAL.pack(_LOCAL_MARK, _VERSION, *common) + raw_name + data


def _shown(name: str) -> str:
    """The name for a terminal: what is odd in it is escaped."""
    return ascii(name[:80])
