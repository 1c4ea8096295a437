"""Where a record comes from: the command, the machine, the versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genrobust._version import __version__
from genrobust.attacks.base import ATTACKS
from genrobust.data.base import DATASETS, is_reference, root_of
from genrobust.data.reference import Reference
from genrobust.files import is_there
from genrobust.judges.load import file_of
from genrobust.models.model import GenerativeModel
from genrobust.models.published import HUB, is_published
from genrobust.plugins import blamed
from genrobust.reach.libraries import library
from genrobust.records.record import Provenance
from genrobust.runner.options import Options
from genrobust.runner.plan import ShardSpec
from genrobust.suites.suite import OWN, Suite, registered_as

if TYPE_CHECKING:
    from genrobust.runner.prepare import Prepared
    from genrobust.runner.purpose import AnyRecord


def provenance(
    command: str, device: str, shards: list[ShardSpec], searching: Mapping[str, str] = {}
) -> Provenance:
    """Where a record comes from; ``searching`` is what :func:`libraries` gave."""
    packages = ("torch", "numpy", "scipy", "safetensors", "pydantic")
    return Provenance(
        command=command,
        genrobust=__version__,
        python=platform.python_version(),
        packages={**{name: version(name) for name in packages}, **searching},
        platform=f"{platform.system()} {platform.machine()}",
        processor=processor(),
        device=device,
        shards=tuple(spec.key for spec in shards),
    )


def libraries(suite: Suite) -> dict[str, str]:
    """What searches in place of a suite's attacks, and of which release each is."""
    found = {}
    for name in sorted({entry.attack for entry in suite.attacks}):
        kind = ATTACKS.get(name)
        with blamed(f"the attack '{name}'", kind):
            for one in kind.libraries:
                import_module(one)  # as it is not before an attack has use for it
                found[one] = library(one)[1]
    return dict(sorted(found.items()))


def command(model: str, suite: Suite, options: Options) -> str:
    """The shell command that repeats the run."""
    said = options.words()
    words = ["genrobust", "bench", "--model", model, *said.pop("weights", ())]
    words += ["--suite", registered_as(suite) or f"{suite.name}.json"]
    return shlex.join([*words, *chain.from_iterable(said.values())])


def naming_file(prepared: Prepared[AnyRecord], suite: str, out: Path) -> Prepared[AnyRecord]:
    """A run whose record names the file that its suite is in, where that is of one's own.

    Of where the file lies it says what is below the folder for results, or else its name alone.

    Args:
        prepared: the run.
        suite: a name or a path, as it was typed.
        out: the folder for results.
    """
    if not suite.endswith(".json") or OWN not in prepared.deviations:
        return prepared
    words = shlex.split(prepared.command)
    file, home = (Path(os.path.abspath(place)) for place in (suite, out))  # noqa: PTH100 - without ..
    said = file.relative_to(home).as_posix() if file.is_relative_to(home) else file.name
    words[words.index("--suite") + 1] = said
    return replace(prepared, command=shlex.join(words))


def command_here(prepared: Prepared[Any], suite: str, out: Path) -> str:
    """A record's command as it can be typed on this machine, from any folder.

    Args:
        prepared: the run, whose own command is free of what lies where.
        suite: a name or a path, as it was typed.
        out: the folder for results.
    """
    words, options = shlex.split(prepared.command), _rooted(prepared.options, prepared.suite)
    given = {"--model": _absolute(words[words.index("--model") + 1])}
    if options.weights is not None:
        given["--weights"] = str(Path(options.weights).absolute())
    if suite.endswith(".json"):
        given["--suite"] = str(Path(suite).absolute())
    for option, value in given.items():
        words[words.index(option) + 1] = value
    words += ["--out", str(out.absolute())]
    return shlex.join([*words, *chain.from_iterable(options.words("here").values())])


def _rooted(options: Options, suite: Suite) -> Options:
    """The options with the folders that relative places in a suite start from: else this one."""
    place = Reference.parse(suite.dataset).place if is_reference(suite.dataset) else None
    if place is not None and place not in DATASETS:
        root, file = root_of(options.data_root), place.rpartition(":")[0] or place
        below = root is not None and is_there(root / file)
        options = replace(options, data_root=root if below else Path.cwd())
    files = (file_of(judge.architecture) for judge in suite.judges)
    if any(file is not None and not file.is_absolute() for file in files):
        options = replace(options, judge_root=options.judge_root or Path.cwd())
    return options


def _absolute(reference: str) -> str:
    """What names a model, where it is a file by its whole path."""
    place, colon, function = reference.rpartition(":")
    if reference.endswith(".zip") or (is_published(reference) and not reference.startswith(HUB)):
        return str(Path(reference).absolute())
    return f"{Path(place).absolute()}{colon}{function}" if place.endswith(".py") else reference


def processor() -> str:
    """The processor's name where the system tells it, its generation, and what torch uses of it.

    Clouds call many generations by one name, and each rounds in its own way.
    """
    name, generation = platform.processor() or platform.machine(), []
    if sys.platform == "linux":
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
        told = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in first)}
        name = told.get("model name", name)
        known = ("cpu family", "model", "stepping")
        generation = [f"{key.removeprefix('cpu ')} {told[key]}" for key in known if key in told]
    return ", ".join([name, *generation, torch.backends.cpu.get_cpu_capability()])


def device_of(options: Options, model: GenerativeModel) -> str:
    """What of the device a run's results depend on."""
    return device_kind(options.device, model.max_batch)


def device_kind(name: str, max_batch: int | None = None) -> str:
    """What the rounding of results depends on: the kind of device, and how much it does at once."""
    device = torch.device(name)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return kind if max_batch is None else f"{kind}, at most {max_batch} images at once"
