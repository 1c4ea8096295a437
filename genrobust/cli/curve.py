"""The work of ``genrobust curve``."""

from __future__ import annotations

import sys
from pathlib import Path

from genrobust.benchmarking import write_page
from genrobust.cli.outlook import estimated, foretold
from genrobust.cli.progress import progress
from genrobust.cli.streams import console, print_result
from genrobust.runner.curve import prepare_curve
from genrobust.runner.options import Options
from genrobust.runner.places import folder_of, home_of, require_run
from genrobust.runner.plan import Part
from genrobust.runner.provenance import command_here, naming_file
from genrobust.runner.run import execute, execute_part, shards_of
from genrobust.suites.suite import load_suite


def measure_curve(
    model: str,
    suite: str,
    options: Options,
    out: Path,
    part: Part | None = None,
    dry_run: bool = False,
    collected: Path | None = None,
) -> None:
    """Prepare, run, and write curve.json and curve.html below OUT/SUITE/MODEL/NORM.

    ``collected`` is the folder of a run whose shards are there, and whose record is wanted.
    """
    from genrobust.report.terminal import curve_table

    protocol = load_suite(suite, options.data_root)
    home = home_of(out, protocol)  # before a model's file changes directory
    run = naming_file(prepare_curve(model, protocol, options), suite, out)
    shards = shards_of(run)
    if collected is None:
        folder = folder_of(home, run, shards, below=run.suite.norm, take=not dry_run)
        here = command_here(run, suite, out)
    else:
        folder, here = require_run(collected, run, shards), None
    if dry_run:
        print_result(estimated(run, folder, part))
        return
    print(f"{run.model.name}: {foretold(run, folder, part)}", file=sys.stderr)
    with progress(run.model.name) as advance:
        if part is not None:
            execute_part(run, part, folder, advance, here)
            print(folder, file=sys.stderr)
            return
        found = execute(run, folder, advance, here)
    print(f"{folder / 'curve.json'}\n{write_page(folder, found)}", file=sys.stderr)
    console().print(curve_table(found.record))
