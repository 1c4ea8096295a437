"""Files: read where they are regular ones, written so that a reader sees the old or the new.

What is written under a temporary name is held by a lock for as long as its process lives. Whoever
next writes beside it removes what nobody holds any more: a killed process leaves nothing for good.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from genrobust.errors import GenrobustError

if sys.platform != "win32":  # where nothing is held, so that nothing is removed
    import fcntl

_PREFIX, _SUFFIX = ".genrobust-", ".tmp"
_TEMPORARY = re.compile(r"\.genrobust-[a-z0-9_]{8}\.tmp")

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnfitError(OSError):
    """What lies at a path cannot be what is read: it is no regular file, too large, or no text.

    All other errors of the system are the machine's, and say nothing of what was given.
    """


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, which could wait for ever, is not opened.

    Raises:
        UnfitError: it is a folder, a pipe, a socket or a device.
        OSError: it is not there, or cannot be read.

    Example:
        >>> open_file(Path("/dev/null"))
        Traceback (most recent call last):
        genrobust.files.UnfitError: [Errno 22] it is a device, not a file: '/dev/null'
    """
    _require_regular(path, path.stat())
    # What took its place meanwhile could still wait: it is opened without, and looked at again.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    file = open(descriptor, "rb")  # noqa: PTH123, SIM115 - given away, or closed below
    try:
        _require_regular(path, os.fstat(descriptor))
    except UnfitError:
        file.close()
        raise
    return file


def is_there(path: str | Path) -> bool:
    """Whether something is at a path; nothing is where no path can be, such as a very long name.

    An empty word is none either, which as a Path is the current folder.

    >>> is_there("x" * 300), is_there(Path(".")), is_there("")
    (False, True, False)
    """
    try:
        return path != "" and Path(path).exists()
    except (OSError, ValueError):
        return False


def expanded(path: str | Path) -> Path:
    """The path with the folder of a user in place of ``~``; where there is none, ``~`` is a name,
    as shells have it.

    >>> print(expanded("~nobody-of-that-name/digits"))
    ~nobody-of-that-name/digits
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # how pathlib says that nobody knows it
        return Path(path)


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        UnfitError: it is no regular file, or larger.
        OSError: it is not there, or cannot be read.
    """
    with open_file(path) as file:
        content = file.read() if most is None else file.read(most + 1)
    if most is not None and len(content) > most:
        raise UnfitError(errno.EFBIG, f"it has more than the {most:,} bytes that are allowed", path)
    return content


def repeats(content: bytes) -> str | None:
    """What is wrong with JSON that has a key twice, of which readers take the last; else None.

    What is no JSON at all is told by who reads it.

    >>> repeats(b'{"eps": [0.1], "seed": 1, "eps": [0.2]}'), repeats(b'{"eps": [0.1]}')
    ("it has the key 'eps' twice in one place: leave one of them out", None)
    """
    twice: list[str] = []

    def seen(pairs: list[tuple[str, object]]) -> None:
        counts = Counter(key for key, _ in pairs)
        twice.extend(key for key, count in counts.items() if count > 1)

    with suppress(ValueError, RecursionError):
        json.loads(content, object_pairs_hook=seen)
    named = f"{twice[0][:40]!a}" if twice else ""
    return f"it has the key {named} twice in one place: leave one of them out" if twice else None


def read_text(path: Path, most: int | None = None) -> str:
    """The text of a regular file in UTF-8, with or without a byte order mark.

    Raises:
        UnfitError: it is no regular file, larger than ``most`` bytes, or not in UTF-8; or it is
            JSON, by its ending, with a key twice.
        OSError: it is not there, or cannot be read.
    """
    content = read_bytes(path, most)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        reason = "it is not text in UTF-8: save it in that encoding"
        raise UnfitError(errno.EILSEQ, reason, path) from problem
    if path.suffix == ".json" and (twice := repeats(content)):
        raise UnfitError(errno.EILSEQ, twice, path)
    return text


#: What to do where the place of a command's results cannot be written.
ANOTHER_OUT = "choose a folder with --out that can be written to and has space left"


@contextmanager
def writing(what: str, advice: str = ANOTHER_OUT) -> Iterator[None]:
    """What keeps the block from writing to a place, which is named, becomes one sentence.

    Raises:
        GenrobustError: the folder is read-only, the disk full, or the like.
    """
    try:
        yield
    except OSError as problem:
        reason = problem.strerror or problem
        raise GenrobustError(f"cannot write {what} ({reason}); {advice}") from problem


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename.

    Raises:
        GenrobustError: the folder is read-only, the disk full, or the like.
    """
    advice = "choose another place, which can be written to and has space left"
    with writing(f"'{path}'", advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with _temporary_file(path.parent) as (file, temporary):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_UMASK)  # noqa: PTH101 - mkstemp gives 0600
            os.replace(temporary, path)  # noqa: PTH105


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, content.encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata as one safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ValueError: it is not a whole safetensors file.
        OSError: it is no regular file, or cannot be read.
    """
    open_file(path).close()
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as problem:
        raise ValueError(f"not a whole safetensors file: {problem}") from problem


def tensors_in(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the content of a safetensors file.

    Raises:
        ValueError: it is not a whole one.
    """
    try:
        return load(content), metadata_in(content)
    except SafetensorError as problem:
        raise ValueError(f"not a whole safetensors file: {problem}") from problem


def metadata_in(content: bytes) -> dict[str, str]:
    """The metadata alone, of what is known to be a whole safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__") or {}


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for the block, removed at its end, or later if the process is killed in it.

    Args:
        parent: where to make it, so that a rename can put its content in place; default where the
            system keeps temporary files.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(place)
    while True:
        folder = Path(tempfile.mkdtemp(dir=place, prefix=_PREFIX, suffix=_SUFFIX))
        held = None
        if sys.platform == "win32":
            break
        with suppress(FileNotFoundError):  # another process takes what nobody holds yet
            held = os.open(folder, os.O_RDONLY)
            if _hold(held, folder):
                break
            os.close(held)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, and nothing that a living one holds."""
    if sys.platform == "win32":
        return
    with suppress(OSError), os.scandir(folder) as found:
        for name in [entry.name for entry in found if _TEMPORARY.fullmatch(entry.name)]:
            with suppress(OSError):
                _remove_abandoned(folder / name)


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, types and bytes, in the order of the names."""
    digest = hashlib.sha256()
    plain = dict(part for name, tensor in tensors.items() for part in _plain(name, tensor))
    for name in sorted(plain):
        tensor = plain[name].detach().cpu()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        # One number is contiguous whatever its stride, but is bytes only with a stride of 1.
        numbers = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)
        digest.update(numbers.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensor, or those that one of a kind of its own holds, as torchao's quantised weights."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield name, tensor
        return
    names, _ = flatten()
    for held in names:
        yield from _plain(f"{name}.{held}", getattr(tensor, held))


def _require_regular(path: Path, found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        what = _KINDS.get(kind, "something else")
        raise UnfitError(errno.EINVAL, f"it is {what}, not a file", str(path))


@contextmanager
def _temporary_file(folder: Path) -> Iterator[tuple[BinaryIO, str]]:
    """A new file that is held, and its path; removed at the end if it still has that path."""
    while True:
        descriptor, path = tempfile.mkstemp(dir=folder, prefix=_PREFIX, suffix=_SUFFIX)
        try:
            file = os.fdopen(descriptor, "wb")
        except OSError:
            Path(path).unlink(missing_ok=True)
            raise
        if _hold(descriptor, Path(path)):
            break
        file.close()
    try:
        with file:
            yield file, path
    finally:  # also after an interrupt
        Path(path).unlink(missing_ok=True)


def _hold(descriptor: int, path: Path) -> bool:
    """Hold what was just made; False if another process took it for abandoned before."""
    if sys.platform == "win32":
        return True
    with suppress(OSError):  # a file system without locks: nobody can take it for abandoned
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return _is_at(descriptor, path)


def _remove_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


_UMASK = _read_umask()
