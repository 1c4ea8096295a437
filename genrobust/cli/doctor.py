"""The work of ``genrobust doctor``: what is installed, where things are, and what is missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

import torch
from packaging.requirements import Requirement

from genrobust import files
from genrobust._version import __version__

#: What an extra is for.
EXTRAS = {
    "bridges": "some attacks of foolbox and ART",
    "hub": "models and model cards of Hugging Face's hub",
    "lightning": "a callback for Lightning's Trainer",
    "tensorboard": "scores in TensorBoard",
    "wandb": "scores in Weights & Biases",
    "pandas": "record.to_pandas()",
    "ray": "--executor ray",
    "slurm": "--executor slurm",
    "perceptual": "LPIPS, by genrobust.metrics",
    "models": "the other projects' models that genrobust is tried on",
}


@dataclass(frozen=True)
class Extra:
    """An optional part: what it is for, and what of it is missing or too old."""

    name: str
    purpose: str
    missing: tuple[str, ...]

    @property
    def line(self) -> str:
        if not self.missing:
            return f"  {self.name:<14} here: {self.purpose}"
        return (
            f"  {self.name:<14} lacks {', '.join(self.missing)}: {self.purpose}\n"
            f"  {'':<14} pip install 'genrobust[{self.name}]'"
        )


def examine() -> None:
    """Print it."""
    print("\n".join(_report()))


def extras() -> list[Extra]:
    """The optional parts, as the installed package declares them.

    Raises:
        PackageNotFoundError: genrobust is not installed, but found where it is run.
    """
    declared = metadata("genrobust").get_all("Provides-Extra") or []
    needed: dict[str, list[str]] = {name: [] for name in EXTRAS if name in declared}
    for line in requires("genrobust") or []:
        wanted = Requirement(line)
        for name, lacking in needed.items():
            if wanted.marker is not None and wanted.marker.evaluate({"extra": name}):
                lacking += _lack(wanted)
    return [Extra(name, EXTRAS[name], tuple(lacking)) for name, lacking in needed.items()]


def _lack(wanted: Requirement) -> list[str]:
    """What of a requirement is not met; the extras of others are taken to be."""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return [wanted.name]
    fits = wanted.specifier.contains(found, prereleases=True)
    return [] if fits else [f"{wanted.name}{wanted.specifier} (there is {found})"]


def _report() -> Iterator[str]:
    yield f"genrobust     {__version__}, in {Path(__file__).parent.parent}"
    yield f"python        {platform.python_version()}, {platform.system()} {platform.machine()}"
    for package in ("torch", "torchvision", "numpy", "scipy", "matplotlib"):
        yield f"{package:<13} {version(package)}"
    yield from _devices()
    yield from ("", "extras")
    try:
        yield from (extra.line for extra in extras())
    except PackageNotFoundError:
        yield "  not known, as genrobust itself is not installed; pip install genrobust"
    yield from ("", "data sets")
    yield from _data()
    yield from ("", "folders")
    yield from _folders()


def _devices() -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"cpu           {cores} cores; torch computes on {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        reason = "torch is built without CUDA" if built is None else "no GPU or driver is found"
        yield f"cuda          none: {reason}"
    for number in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(number)
        yield f"cuda:{number:<8} {known.name}, {known.total_memory / 2**30:.0f} GiB"


def _data() -> Iterator[str]:
    """Nothing is loaded or fetched for it."""
    from genrobust.data.base import DATASETS
    from genrobust.errors import GenrobustError

    root = _root()
    for name in DATASETS.names():
        try:
            where = getattr(DATASETS.get(name), "where", None)
        except GenrobustError as problem:
            yield f"  {name:<14} {problem}"
            continue
        places = [] if root is None or where is None else [root / where, root / name / where]
        found = next((str(place) for place in places if place.exists()), None)
        if where is None:
            yield f"  {name:<14} here: it needs no files"
        elif found is not None:
            yield f"  {name:<14} {found}"
        else:
            yield f"  {name:<14} not here; give the folder that holds {where}: --data-root FOLDER"


def _root() -> Path | None:
    """Where data sets are looked for; None where nothing is said and this user has no home."""
    from genrobust.data.base import usual_root
    from genrobust.errors import GenrobustError

    given = os.environ.get("GENROBUST_DATA")
    try:
        return files.expanded(given) if given else usual_root()
    except GenrobustError:
        return None


def _folders() -> Iterator[str]:
    data = _root() or "none, as this user has no home folder"
    yield f"  {'data':<14} {data} (another: GENROBUST_DATA, or --data-root)"
    yield f"  {'runs':<14} {Path('genrobust-runs').absolute()} (another: --out)"
    if find_spec("huggingface_hub") is not None:
        from huggingface_hub.constants import HF_HUB_CACHE

        yield f"  {'hub':<14} {HF_HUB_CACHE} (another: HF_HOME)"
