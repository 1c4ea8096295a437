"""The work of ``genrobust curve``."""

from __future__ import annotations

import sys
from pathlib import Path

from genrobust.benchmark.curve import execute_curve, prepare_curve, write_page
from genrobust.benchmark.options import Options
from genrobust.cli.bench import folders
from genrobust.cli.progress import progress
from genrobust.suites.suite import load_suite


def measure_curve(
    model: str,
    suite: str,
    radius: float | None,
    options: Options,
    out: Path,
) -> None:
    """Prepare, run, and write OUT/SUITE/MODEL/NORM/curve.json and curve.html."""
    from rich.console import Console

    from genrobust.report.terminal import curve_table

    protocol = load_suite(suite, options.data_root)
    prepared = prepare_curve(model, protocol, radius, options)
    info = prepared.run.model
    home = out / f"{protocol.name}-v{protocol.version}"
    folder = folders(home, [info])[0] / prepared.run.suite.norm
    with progress(info.name) as advance:
        run = execute_curve(prepared, folder, advance)
    print(f"{folder / 'curve.json'}\n{write_page(folder, run)}", file=sys.stderr)
    Console().print(curve_table(run.record))
