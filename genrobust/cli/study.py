"""The work of ``genrobust study``."""

from __future__ import annotations

import sys
from pathlib import Path

from genrobust.cli.errors import GOES_ON, if_stopped
from genrobust.cli.progress import progress
from genrobust.runner.options import Options
from genrobust.runner.plan import Part
from genrobust.study.conduct import Conductor
from genrobust.study.page import PAGE
from genrobust.study.spec import read_spec


def study_one(
    path: Path,
    out: Path | None,
    options: Options,
    part: Part | None,
    fast: bool,
    dry_run: bool,
    collect: bool,
) -> None:
    """Carry a study out, or say what that would take, or only collect what is there."""
    spec = read_spec(path)
    if fast:
        spec = spec.fast()
    folder = (out or Path("genrobust-studies") / spec.name).absolute()
    conductor = Conductor(spec, folder, options, part)
    if dry_run:
        for line in conductor.outlook():
            print(line, flush=True)
        return
    if collect:
        study = conductor.write()
    else:
        with if_stopped(GOES_ON), progress(spec.name) as advance:
            study = conductor.run(advance)
    print(study)
    print(folder / PAGE, file=sys.stderr)
