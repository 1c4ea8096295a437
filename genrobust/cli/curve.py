"""The work of ``genrobust curve``."""

from __future__ import annotations

import sys

from genrobust.benchmarking import write_page
from genrobust.cli.running import Way
from genrobust.cli.streams import console
from genrobust.runner.curve import prepare_curve
from genrobust.runner.options import Options
from genrobust.runner.places import home_of
from genrobust.runner.provenance import naming_file
from genrobust.suites.suite import load_suite


def measure_curve(model: str, suite: str, options: Options, way: Way) -> None:
    """Prepare, run, and write curve.json and curve.html below OUT/SUITE/MODEL/NORM."""
    from genrobust.report.terminal import curve_table

    protocol = load_suite(suite, options.data_root)
    home = home_of(way.out, protocol)
    run = naming_file(prepare_curve(model, protocol, options), suite, way.out)
    done = way.go(run, run.model.name, home, suite, below=run.suite.norm)
    if done is not None:
        folder, found = done
        print(f"{folder / 'curve.json'}\n{write_page(folder, found)}", file=sys.stderr)
        console().print(curve_table(found.record))
