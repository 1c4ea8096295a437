"""The work of ``genrobust study``."""

from __future__ import annotations

import sys
from pathlib import Path

from genrobust.cli.errors import GOES_ON, if_stopped
from genrobust.cli.progress import duration, progress
from genrobust.cli.running import in_part
from genrobust.errors import GenrobustError
from genrobust.runner.options import Options
from genrobust.runner.plan import Partition
from genrobust.study.conduct import Conductor
from genrobust.study.page import PAGE
from genrobust.study.spec import read_spec


def study_one(
    path: Path,
    out: Path | None,
    options: Options,
    part: Partition | None,
    fast: bool,
    dry_run: bool,
    collect: bool,
) -> None:
    """Carry a study out, or say what that would take, or only collect what is there."""
    if collect and (part is not None or dry_run):
        other = "--dry-run" if part is None else "--shard"
        raise GenrobustError(
            f"--collect writes table and page of all that is there, and has no use for {other}; "
            "leave one of them out"
        )
    spec = read_spec(path)
    if fast:
        spec = spec.fast()
    folder = (out or Path("genrobust-studies") / spec.name).absolute()
    conductor = Conductor(spec, folder, options, part)
    if dry_run:
        print(_foretold(conductor))
        return
    if collect:
        study = conductor.write()
    else:
        with if_stopped(GOES_ON), progress(spec.name) as advance:
            study = conductor.run(advance)
    print(study)
    print(folder / PAGE, file=sys.stderr)


def _foretold(conductor: Conductor) -> str:
    found, suite = conductor.remaining(), conductor.suite
    train = sum(one.models for one in found.trainings)
    done = found.models - found.todo - len(found.left_out)
    lines = [
        f"{conductor.spec.name} on {suite.name} v{suite.version}, {len(suite.sample_ids)} sources: "
        f"{in_part(conductor.part)}{done} of {found.models} models are done, {train} to train, "
        f"{found.todo} to bench, in {conductor.out}"
    ]
    lines += [f"  {name}: would be left out: {why}" for name, why in found.left_out.items()]
    for one in found.trainings:
        each = duration(one.seconds)
        lines.append(f"  {one.label}: {one.models} models of {one.steps} steps, {each} each")
    if found.todo:
        lines += [
            f"  a bench: about {duration(found.bench)}; longer for a model that few sources break",
            f"  together: about {duration(found.seconds)}",
        ]
    return "\n".join(lines)
