"""Shard results on disk: written atomically; present and valid means done."""

from __future__ import annotations

import warnings
from pathlib import Path

from genrobust import files
from genrobust.errors import GenrobustWarning
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

    def checkpoint(self, spec: ShardSpec) -> Checkpoint:
        """What is kept of a shard while it is worked on."""
        work = f"{self.identity}\n{spec.model_dump_json()}"
        return Checkpoint(self.path(spec).with_suffix(".partial"), work)

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
        if not path.exists():
            return None
        try:
            tensors, metadata = files.read_tensors(path)
            if self.identity is not None and metadata.get("identity") != self.identity:
                return None
            whole = metadata["sha256"] == files.sha256_of_tensors(tensors)
            if metadata["spec"] != spec.model_dump_json() or not whole:
                raise ValueError("its content does not match its hash")
            return Measured(tensors, float(metadata["seconds"]))
        except (OSError, ValueError, KeyError) as problem:
            warnings.warn(
                f"the shard '{path}' is damaged ({problem}); it is computed again",
                GenrobustWarning,
                stacklevel=2,
            )
            return None
