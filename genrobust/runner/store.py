"""Shard results on disk: written atomically; present and valid means done.

A shard is a file of its own at first. Of a long run those of about a thousand samples are then put
into one archive, so that no folder holds more files than it can bear.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from genrobust import files
from genrobust.errors import GenrobustWarning
from genrobust.names import short_hash
from genrobust.runner.checkpoint import Checkpoint
from genrobust.runner.plan import ShardSpec
from genrobust.runner.shard import Measured


class Store:
    """The shard files of a run folder.

    Args:
        folder: of the run.
        identity: of the model and the attacks that give the results, as
            :class:`~genrobust.runner.prepare.Prepared` has it: a shard that others gave is as
            good as none. None to read whatever is there.
    """

    def __init__(self, folder: Path, identity: str | None = None) -> None:
        self.folder = folder
        self.identity = identity

    def path(self, spec: ShardSpec) -> Path:
        return self.folder / "shards" / f"{spec.key}.safetensors"

    def checkpoint(
        self, spec: ShardSpec, cancelled: Callable[[], bool] = lambda: False
    ) -> Checkpoint:
        """What is kept of a shard while it is worked on, if it is not given up."""
        work = f"{self.identity}\n{spec.model_dump_json()}"
        place = self.path(spec).with_suffix(".partial")
        return Checkpoint(place, work, cancelled=cancelled)

    def write(self, spec: ShardSpec, measured: Measured) -> None:
        """Raises GenrobustError if the folder cannot be written."""
        metadata = {
            "spec": spec.model_dump_json(),
            "sha256": files.sha256_of_tensors(measured.tensors),
            "seconds": repr(measured.seconds),
            "identity": self.identity or "",
        }
        files.write_tensors(self.path(spec), measured.tensors, metadata)

    def read(self, spec: ShardSpec) -> Measured | None:
        """The result; None if it is not there, of another model, or damaged (with a warning)."""
        path = self.path(spec)
        try:
            content = self._content(spec)
            if content is None:
                return None
            tensors, metadata = content
            if self.identity is not None and metadata.get("identity") != self.identity:
                return None
            whole = metadata["sha256"] == files.sha256_of_tensors(tensors)
            if metadata["spec"] != spec.model_dump_json() or not whole:
                raise ValueError("its content does not match its hash")
            return Measured(tensors, float(metadata["seconds"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
            warnings.warn(
                f"the shard '{path}' is damaged ({problem}); it counts as missing until the run's "
                "command has it computed again",
                GenrobustWarning,
                stacklevel=2,
            )
            return None

    def gather(self, specs: Sequence[ShardSpec]) -> None:
        """Put the files of shards that are all done into one archive.

        Raises:
            GenrobustError: the folder cannot be written.
        """
        paths = [path for path in map(self.path, specs) if path.exists()]
        if not paths:
            return  # they are in it
        archive = paths[0].with_name(f"{short_hash(' '.join(p.name for p in paths))}.zip")
        advice = "make space there, and type the command again, which goes on from here"
        with files.writing(f"'{archive}'", advice):
            try:
                with files.temporary_folder(archive.parent) as place:
                    # Of a machine without a clock all files are of 1970, which zip does not have.
                    with zipfile.ZipFile(
                        place / archive.name, "w", strict_timestamps=False
                    ) as target:
                        for path in paths:
                            target.write(path, path.name)
                    os.replace(place / archive.name, archive)  # noqa: PTH105
            except FileNotFoundError:
                return  # another command, of the same run, has put them together meanwhile
        for path in paths:
            path.unlink(missing_ok=True)

    def _content(self, spec: ShardSpec) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """What is in a shard's own file or, where it is none any more, in an archive."""
        with suppress(FileNotFoundError):
            return files.read_tensors(self.path(spec))
        archive = self._archive(spec)
        if archive is None:
            return None
        with zipfile.ZipFile(archive) as found:
            return files.tensors_in(found.read(self.path(spec).name))

    def _archive(self, spec: ShardSpec) -> Path | None:
        """The newest archive that has a shard."""
        name = self.path(spec).name
        written = {p: p.stat().st_mtime_ns for p in self.path(spec).parent.glob("*.zip")}
        return max(
            (p for p, when in written.items() if name in _names_in(p, when)),
            key=written.__getitem__,
            default=None,
        )


@lru_cache(maxsize=1024)
def _names_in(archive: Path, written: int) -> frozenset[str]:
    """What an archive holds, as it is since it was last written; nothing if it is damaged."""
    try:
        with zipfile.ZipFile(archive) as found:
            return frozenset(found.namelist())
    except (OSError, zipfile.BadZipFile):
        return frozenset()
