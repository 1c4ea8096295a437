"""What a run will take: passes, time, memory and disk; before it begins."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrobust.attacks.base import make_attack
from genrobust.norms import load_norm
from genrobust.runner.expected import passes_of_all
from genrobust.runner.prepare import Prepared
from genrobust.runner.pulse import Pulse
from genrobust.runner.shard import make_batch
from genrobust.runner.task import Task
from genrobust.suites.suite import AttackEntry
from genrobust.threat import ThreatModel

#: Gradient steps that are tried, and the seconds that they may take together.
STEPS, SECONDS = 3, 2.0


@dataclass(frozen=True)
class Outlook:
    """Of a run, or a part of one.

    Args:
        shards: how many it has.
        missing: how many of them are to be computed.
        samples: the most that one has.
        workers: how many are computed at a time.
        disk: bytes that all results take.
    """

    shards: int
    missing: int
    samples: int
    workers: int
    disk: int

    @classmethod
    def of(cls, prepared: Prepared[Any], tasks: Sequence[Task]) -> Outlook:
        """From what is known without trying."""
        sizes = [len(task.shard.sample_ids) for task in tasks]
        samples = max(sizes, default=0)
        return cls(
            shards=len(tasks),
            missing=sum(task.found() is None for task in tasks),
            samples=samples,
            workers=prepared.workers,
            disk=_bytes(prepared) * sum(sizes),
        )

    def images(self, trial: Trial) -> int:
        """How many go through the model in the missing shards if no source falls."""
        return self.missing * self.samples * trial.passes

    def seconds(self, trial: Trial) -> float:
        """About what it takes at most, with a core for each worker."""
        rounds = math.ceil(self.missing / self.workers)
        return rounds * self.samples * trial.passes * trial.image

    def require_disk(self, folder: Path) -> str | None:
        """What is wrong where the disk of a folder has too little space; None if it has enough."""
        place = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(place).free
        if free > self.disk:
            return None
        return (
            f"the results take about {in_bytes(self.disk)}, and '{place}' has {in_bytes(free)} "
            "left; make space, or choose another disk with --out"
        )


@dataclass(frozen=True)
class Trial:
    """A few steps of one of the suite's attacks on the first shard.

    Args:
        attack: which.
        passes: how often a source goes through the model that falls to no attack.
        image: seconds for an image through the model and back.
        memory: bytes that this process, or its GPU, held at the most; None where no one tells.
    """

    attack: str
    passes: int
    image: float
    memory: int | None


def tried(prepared: Prepared[Any]) -> Trial:
    """Attack the first shard for a moment.

    Raises:
        GenrobustError: the attack or the model cannot do it.
    """
    spec, scorer = prepared.purpose.shards(prepared)[0], prepared.loaded.scorer
    entry = next((one for one in spec.attacks if "steps" in _settings(one)), spec.attacks[0])
    settings = {**entry.settings, **({"steps": STEPS} if "steps" in _settings(entry) else {})}
    attack = make_attack(entry.attack, settings)
    batch = make_batch(spec, prepared.loaded)
    aimed = batch.aimed(entry.goal)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: list[float] = []
        end = time.monotonic() + SECONDS
        while not times or (len(times) < 3 and time.monotonic() < end):
            pulse = Pulse(None)  # which counts the images that really go through
            began = time.monotonic()
            attack(pulse.watched(scorer.model), aimed, ThreatModel(spec.norm, spec.eps[-1]))
            if batch.x.is_cuda:
                torch.cuda.synchronize()
            times.append((time.monotonic() - began) / max(pulse.spent, 1))
    finally:
        torch.set_num_threads(threads)
    posterior = scorer.posterior(batch.x[:1], batch.sample_ids[:1])
    return Trial(entry.label, passes_of_all(spec, posterior), min(times), _memory(batch.x.device))


def in_bytes(count: float) -> str:
    """
    >>> in_bytes(2_600_000_000), in_bytes(1_200), in_bytes(12)
    ('2.6 GB', '1.2 kB', '12 bytes')
    """
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f} {name}"
    return f"{count:.0f} bytes"


def _settings(entry: AttackEntry) -> dict[str, Any]:
    return make_attack(entry.attack, entry.settings).settings()


def _bytes(prepared: Prepared[Any]) -> int:
    """That are stored of each source."""
    suite, model = prepared.suite, prepared.model
    pixels = math.prod(model.input_shape)
    steps = torch.empty(0, dtype=load_norm(suite.norm).dtype).element_size()
    total = 0
    for name, column in prepared.purpose.kind.table().items():
        width = column.dtype.itemsize if column.dtype else 4
        if column.pixels:
            total += pixels * (steps if name.endswith("perturbation") else width)
        elif column.per == "radius and source":
            total += width * len(suite.eps)
        elif column.per == "source":
            total += width * (model.code_size if name == "mean" else 1)
    return total


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # which posix has

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
