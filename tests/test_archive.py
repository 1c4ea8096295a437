"""Archives and tensors from strangers: what is written is read, and all else is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.evidence.archive import ArchiveLimits, read_archive, write_archive
from genrobust.models.tensors import TensorLimits, read_safetensors, refuse_pickle

SMALL = ArchiveLimits(archive_bytes=4 << 20, members=4, member_bytes=1 << 20, total_bytes=2 << 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


PART = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9_-])?", fullmatch=True)
NAMES = st.lists(PART, min_size=1, max_size=4).map("/".join)
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6)


@given(MEMBERS)
def test_what_is_written_is_read(folder: Path, members: dict[str, bytes]) -> None:
    reserved = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
    assume(not any(reserved.fullmatch(part) for name in members for part in name.split("/")))
    assume(len({name.lower() for name in members}) == len(members))
    path = folder / "bundle.zip"
    write_archive(path, members)
    assert read_archive(path) == dict(sorted(members.items()))
    with zipfile.ZipFile(path) as archive:  # any other program reads it too
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == members


@given(MEMBERS, st.randoms())
def test_the_same_members_give_the_same_bytes(
    folder: Path, members: dict[str, bytes], random: Any
) -> None:
    shuffled = list(members.items())
    random.shuffle(shuffled)
    contents = []
    for given_members in (members, dict(shuffled)):
        try:
            write_archive(folder / "same.zip", given_members)
        except GenrobustError:
            assume(False)
        contents.append((folder / "same.zip").read_bytes())
    assert contents[0] == contents[1]


def test_what_shrinks_like_a_bomb_is_stored_and_read_again(tmp_path: Path) -> None:
    zeros = {"zeros.bin": bytes(3 << 20)}
    write_archive(tmp_path / "a.zip", zeros)
    assert read_archive(tmp_path / "a.zip") == zeros


def test_plain_archives_of_other_programs_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b.json", "{}" * 100)
        archive.writestr("a.json", "[]")
    assert read_archive(tmp_path / "a.zip") == {"b.json": b"{}" * 100, "a.json": b"[]"}


@pytest.mark.parametrize("name", ["../a", "/a", "a\\b", "a//b", "", "naïve", "a.", "nul", "A/.b"])
def test_an_archive_that_would_be_refused_is_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="would be refused"):
        write_archive(tmp_path / "a.zip", {name: b""})
    with pytest.raises(GenrobustError, match="twice"):
        write_archive(tmp_path / "a.zip", {"a": b"", "A": b""})
    with pytest.raises(GenrobustError, match="bytes and 1048576 are allowed"):
        write_archive(tmp_path / "a.zip", {"a": bytes(2 << 20)}, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_only_expected_names_are_read(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", {"record.json": b"{}", "run.py": b"import os"})
    with pytest.raises(GenrobustError, match=r"'run\.py' is none of those"):
        read_archive(tmp_path / "a.zip", names=r"[a-z]+\.json")
    assert read_archive(tmp_path / "a.zip", names=r"[a-z]+\.(json|py)").keys() == {
        "record.json",
        "run.py",
    }


def archive_of(
    *members: tuple[str, bytes], edit: Callable[[zipfile.ZipInfo], None] | None = None
) -> bytes:
    """By Python's own zipfile, which writes what it is told."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a name that is there twice
        for name, content in members:
            info = zipfile.ZipInfo("x" * len(name.encode()))
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3
            if edit:
                edit(info)
            archive.writestr(info, content, compress_type=info.compress_type)
    return buffer.getvalue()


def with_mode(mode: int) -> bytes:
    def edit(info: zipfile.ZipInfo) -> None:
        info.external_attr = mode << 16

    return archive_of(("a.json", b"/etc/passwd"), edit=edit)


def packed_by(method: int) -> bytes:
    return archive_of(("a.json", b"{}"), edit=lambda info: setattr(info, "compress_type", method))


PLAIN = archive_of(("a.json", b"{}" * 50))
LOCAL, ENTRY = PLAIN.index(b"PK\x03\x04"), PLAIN.index(b"PK\x01\x02")
END = PLAIN.index(b"PK\x05\x06")


def patched(*changes: tuple[int, str, int], content: bytes = PLAIN) -> bytes:
    """With other numbers at some places."""
    edited = bytearray(content)
    for place, kind, value in changes:
        struct.pack_into(f"<{kind}", edited, place, value)
    return bytes(edited)


def overlapping() -> bytes:
    """Fifield's bomb in small: every entry of the directory is the one file inside."""
    entry = PLAIN[ENTRY:END]
    twin = entry.replace(b"a.json", b"b.json")
    both = PLAIN[:ENTRY] + entry + twin
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), ENTRY, 0)
    return both + end


def quoting() -> bytes:
    """Fifield's other form: the second file's header is packed data of the first."""
    inner = archive_of(("b.json", b"{}" * 50))
    whole_inner = inner[: inner.index(b"PK\x01\x02")]
    first = struct.pack("<BHH", 0, len(whole_inner), len(whole_inner) ^ 0xFFFF) + whole_inner
    packed = first + zlib.compressobj(wbits=-15).flush()
    crc, size = zlib.crc32(whole_inner), len(whole_inner)
    common = struct.pack("<5H3I2H", 20, 0, 8, 0, 0x21, crc, len(packed), size, 6, 0)
    body = b"PK\x03\x04" + common + b"a.json" + packed
    place = 30 + 6 + 5
    inner_entry = bytearray(inner[inner.index(b"PK\x01\x02") : inner.index(b"PK\x05\x06")])
    struct.pack_into("<I", inner_entry, 42, place)
    entry = (
        struct.pack("<4sH", b"PK\x01\x02", 3 << 8 | 20)
        + common
        + struct.pack("<3H2I", 0, 0, 0, (stat.S_IFREG | 0o644) << 16, 0)
        + b"a.json"
    )
    directory = entry + bytes(inner_entry)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(body), 0)
    return body + directory + end


def hidden_between() -> bytes:
    edited = PLAIN[:ENTRY] + b"hidden" + PLAIN[ENTRY:END] + PLAIN[END:]
    return patched((END + 6 + 16, "I", ENTRY + 6), content=edited)


def bomb() -> bytes:
    return archive_of(("a.bin", bytes(SMALL.member_bytes)))


def understated() -> bytes:
    """One megabyte of zeros that both headers call 100 bytes."""
    whole = archive_of(("a.bin", bytes(1 << 20)))
    entry = whole.index(b"PK\x01\x02")
    return patched((22, "I", 100), (entry + 24, "I", 100), content=whole)


def with_trailing_packed_data() -> bytes:
    """Packed bytes after the end of the packed stream, counted as the member's."""
    extra = b"hidden"
    size = struct.unpack_from("<I", PLAIN, 18)[0] + len(extra)
    edited = PLAIN[:ENTRY] + extra + PLAIN[ENTRY:]
    entry, end = ENTRY + len(extra), END + len(extra)
    return patched((18, "I", size), (entry + 20, "I", size), (end + 16, "I", entry), content=edited)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no zip archive"),
    "text": (b"{}" * 100, "no zip archive"),
    "a pickle": (pickle.dumps({"a": 1}), "no zip archive"),
    "cut short": (PLAIN[:-1], "cut short"),
    "cut in half": (PLAIN[: len(PLAIN) // 2], "cut short"),
    "something behind": (PLAIN + b"x", "behind its end"),
    "something in front": (b"x" + PLAIN, "bytes between"),
    "something in front, accounted for": (
        patched((END + 17, "I", ENTRY + 1), (ENTRY + 43, "I", 1), content=b"x" + PLAIN),
        "bytes between",
    ),
    "hidden between": (hidden_between(), "belong to no file"),
    "hidden in a file's place": (with_trailing_packed_data(), "size that it says"),
    "a comment": (patched((END + 20, "H", 3)) + b"abc", "behind its end"),
    "an absolute path": (archive_of(("/etc/passwd", b"")), "absolute"),
    "a path out": (archive_of(("a/../../b", b"")), "out of its folder"),
    "a path out with backslashes": (archive_of(("..\\..\\b", b"")), "out of its folder"),
    "a backslash": (archive_of(("a\\b", b"")), "not allowed"),
    "a drive": (archive_of(("C:evil", b"")), "absolute"),
    "a NUL": (patched((LOCAL + 31, "B", 0), (ENTRY + 47, "B", 0)), "not allowed"),
    "a name in other letters": (archive_of(("naïve.json", b"")), "not allowed"),
    "a name that reads backwards": (archive_of(("a\u202etxt.json", b"")), "not allowed"),
    "a name with escapes": (archive_of(("a\x1b[31m.json", b"")), "not allowed"),
    "a name that ends in a dot": (archive_of(("a.json.", b"")), "not allowed"),
    "a name that ends in a space": (archive_of(("a.json ", b"")), "not allowed"),
    "a hidden name": (archive_of((".bashrc", b"")), "not allowed"),
    "a long name": (archive_of(("a" * 300, b"")), "not allowed"),
    "a device's name": (archive_of(("model/NUL.json", b"")), "not allowed"),
    "an empty name": (archive_of(("", b"")), "not allowed"),
    "a name twice": (archive_of(("a.json", b"1"), ("a.json", b"2")), "twice"),
    "a name in two cases": (archive_of(("a.json", b"1"), ("A.json", b"2")), "twice"),
    "a folder": (archive_of(("folder/", b"")), "folder"),
    "a folder by its mark": (with_mode(stat.S_IFDIR | 0o755), "folder"),
    "a link": (with_mode(stat.S_IFLNK | 0o777), "link"),
    "a device": (with_mode(stat.S_IFCHR | 0o666), "device"),
    "a pipe": (with_mode(stat.S_IFIFO | 0o666), "device"),
    "a socket": (with_mode(stat.S_IFSOCK | 0o666), "device"),
    "encrypted": (patched((LOCAL + 6, "H", 1), (ENTRY + 8, "H", 1)), "encrypted"),
    "sizes behind the data": (patched((LOCAL + 6, "H", 8), (ENTRY + 8, "H", 8)), "behind it"),
    "packed by bzip2": (packed_by(zipfile.ZIP_BZIP2), "method 12"),
    "packed by LZMA": (packed_by(zipfile.ZIP_LZMA), "method 14"),
    "packed by nothing known": (
        patched((LOCAL + 8, "H", 99), (ENTRY + 10, "H", 99)),
        "method 99",
    ),
    "too many files": (archive_of(*((f"f{n}", b"") for n in range(5))), "5 files and 4 are"),
    "more files than it says": (
        patched((END + 8, "H", 0), (END + 10, "H", 0)),
        "too long for 0 files",
    ),
    "fewer files than it says": (
        patched((END + 8, "H", 2), (END + 10, "H", 2)),
        "does not say what",
    ),
    "two disks": (patched((END + 4, "H", 1)), "does not say what"),
    "more than 4 GiB": (patched((END + 16, "I", 0xFFFFFFFF)), "overlap"),
    "a large file, by its header": (
        patched((LOCAL + 22, "I", 1 << 30), (ENTRY + 24, "I", 1 << 30)),
        "unpacks to 1073741824 bytes",
    ),
    "a size that lies": (understated(), "size that it says"),
    "a size that overstates": (
        patched((LOCAL + 22, "I", 101), (ENTRY + 24, "I", 101)),
        "size that it says",
    ),
    "headers that disagree about the size": (patched((LOCAL + 22, "I", 99)), "disagree"),
    "headers that disagree about the name": (patched((LOCAL + 30, "B", ord("b"))), "disagree"),
    "headers that disagree about the method": (patched((LOCAL + 8, "H", 0)), "disagree"),
    "files that are large together": (
        archive_of(*((f"f{n}", os.urandom(700_000)) for n in range(4))),
        "are allowed",
    ),
    "overlapping files": (overlapping(), "overlap"),
    "a file inside a file": (quoting(), "overlap"),
    "a file in the directory's place": (patched((ENTRY + 20, "I", 500)), "disagree"),
    "a wrong checksum": (patched((LOCAL + 14, "I", 1), (ENTRY + 16, "I", 1)), "checksum"),
    "damaged data": (patched((LOCAL + 36, "B", 0xFF)), "damaged"),
    "a damaged directory": (patched((ENTRY, "I", 0)), "damaged, or no zip"),
    "an unknown system": (patched((ENTRY + 5, "B", 7)), "no plain file"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    content, reason = HOSTILE[kind]
    path = tmp_path / "evidence.zip"
    path.write_bytes(content)
    with pytest.raises(GenrobustError, match=reason) as refused:
        read_archive(path, SMALL)
    sentence = str(refused.value)
    assert sentence.startswith(f"the archive '{path}' is refused: ")
    assert sentence.isprintable()
    assert sentence.isascii()
    assert [p.name for p in tmp_path.iterdir()] == ["evidence.zip"]


def test_an_archive_that_shrinks_too_much_is_refused(tmp_path: Path) -> None:
    content = archive_of(("zeros.bin", bytes(2 << 20)))
    assert len(content) < 4096
    (tmp_path / "bomb.zip").write_bytes(content)
    with pytest.raises(GenrobustError, match="200 times its size, as a bomb"):
        read_archive(tmp_path / "bomb.zip")


def test_archives_inside_are_bytes(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.zip", {"inner.zip": overlapping()})
    assert read_archive(tmp_path / "a.zip") == {"inner.zip": overlapping()}


@given(st.binary(max_size=300))
def test_no_bytes_are_anything_but_read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "any.zip").write_bytes(content)
    with pytest.raises(GenrobustError, match="is refused"):
        read_archive(folder / "any.zip")


@given(st.integers(0, len(PLAIN) - 1), st.integers(1, 255))
def test_a_changed_byte_changes_no_content(folder: Path, place: int, change: int) -> None:
    edited = bytearray(PLAIN)
    edited[place] ^= change
    (folder / "edited.zip").write_bytes(edited)
    try:
        found = read_archive(folder / "edited.zip", SMALL)
    except GenrobustError:
        return
    assert list(found.values()) == [b"{}" * 50]  # a time stamp, or a letter of both names


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "large"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "a.zip"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(bytes(SMALL.archive_bytes + 1))
    with pytest.raises(GenrobustError, match="is refused"):
        read_archive(path, SMALL)


TENSORS = {
    "w": torch.arange(6.0).view(2, 3),
    "half": torch.ones(3, dtype=torch.half),
    "mask": torch.tensor([True, False]),
    "count": torch.tensor(7),
    "nothing": torch.zeros(0, 4),
    "nan": torch.tensor([float("nan")]),
}


def test_tensors_are_read_as_written() -> None:
    found = read_safetensors(save(TENSORS))
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, equal_nan=True, rtol=0, atol=0)


SHAPES = st.lists(st.integers(0, 4), max_size=4)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool])
TENSOR_NAMES = st.from_regex(r"[a-z_][a-z_.]{0,200}", fullmatch=True)


@given(st.dictionaries(TENSOR_NAMES, st.tuples(SHAPES, DTYPES), max_size=5))
def test_any_tensors_are_read_as_written(
    wanted: dict[str, tuple[list[int], torch.dtype]],
) -> None:
    tensors = {name: torch.ones(shape).to(dtype) for name, (shape, dtype) in wanted.items()}
    found = read_safetensors(save(tensors, {"a": "b" * 500}))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def raw(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE_TENSORS: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x01",
    "a header beyond the end": raw({}, size=100),
    "a header of 2**63 bytes": raw({}, size=2**63),
    "a large header": raw({"w": entry(), "__metadata__": {"a": "x" * (5 << 20)}}, bytes(8)),
    "no JSON": raw(b"{]"),
    "not UTF-8": raw(b'{"\xff": 1}'),
    "deep JSON": raw(b"[" * 100_000),
    "a list": raw([]),
    "a number": raw(5),
    "a name twice": raw(b'{"w": %b, "w": %b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "an odd name": raw({"../w": entry()}, bytes(8)),
    "a long name": raw({"w" * 300: entry()}, bytes(8)),
    "an unknown type": raw({"w": entry("F8_E5M2", (8,))}, bytes(8)),
    "a type that is a list": raw({"w": {**entry(), "dtype": ["F32"]}}, bytes(8)),
    "a shape that lies": raw({"w": entry(shape=(3,))}, bytes(8)),
    "a large shape": raw({"w": entry(shape=(1 << 40, 1 << 40))}, bytes(8)),
    "a negative shape": raw({"w": entry(shape=(-1, -2))}, bytes(8)),
    "a shape of truth": raw({"w": entry(shape=(True, 2))}, bytes(8)),
    "a shape in floats": raw({"w": entry(shape=(2.0,))}, bytes(8)),
    "many dimensions": raw({"w": entry(shape=(1,) * 20 + (2,))}, bytes(8)),
    "offsets backwards": raw({"w": entry(offsets=(8, 0))}, bytes(8)),
    "offsets beyond the end": raw({"w": entry(offsets=(8, 16))}, bytes(8)),
    "three offsets": raw({"w": entry(offsets=(0, 8, 8))}, bytes(8)),
    "overlapping": raw({"v": entry(), "w": entry()}, bytes(8)),
    "a gap": raw({"v": entry(), "w": entry(offsets=(12, 20))}, bytes(20)),
    "bytes left over": raw({"w": entry()}, bytes(9)),
    "an entry that is text": raw({"w": "F32"}, bytes(8)),
}


@pytest.mark.parametrize("kind", HOSTILE_TENSORS)
def test_a_hostile_tensor_file_is_refused_in_a_sentence(kind: str) -> None:
    with pytest.raises(GenrobustError, match=r"file 'w' is not a whole safetensors file \(.+\);"):
        read_safetensors(HOSTILE_TENSORS[kind], what="the file 'w'")


def test_tensor_files_are_limited() -> None:
    content = save({"a": torch.ones(10), "b": torch.ones(10)})
    with pytest.raises(GenrobustError, match="and 100 are allowed"):
        read_safetensors(content, TensorLimits(bytes=100))
    with pytest.raises(GenrobustError, match="2 tensors and 1 are allowed"):
        read_safetensors(content, TensorLimits(tensors=1))
    with pytest.raises(GenrobustError, match="50 are allowed"):
        read_safetensors(content, TensorLimits(header_bytes=50))


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("owned"),))


def torch_saved(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


PICKLES = {
    **{f"protocol {n}": pickle.dumps(Evil(), protocol=n) for n in range(6)},
    "torch.save": torch_saved({"w": torch.ones(2)}),
    "torch.save with an object": torch_saved(Evil()),
    "torch.save of old": torch_saved({"w": torch.ones(2)}, zipped=False),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_in_place_of_weights_is_named_and_not_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GenrobustError, match=r"is a pickle \(torch\.save\), which could run code"):
        read_safetensors(PICKLES[kind])
    assert list(tmp_path.iterdir()) == []


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=5), st.integers(0, 40), max_size=8),
    st.integers(0, 600),
)
def test_no_tensor_file_is_taken_for_a_pickle(shapes: dict[str, int], padding: int) -> None:
    tensors: dict[str, Tensor] = {name: torch.zeros(size) for name, size in shapes.items()}
    refuse_pickle(save(tensors, {"pad": "x" * padding}), "the file")
