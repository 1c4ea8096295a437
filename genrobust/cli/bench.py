"""The work of ``genrobust bench``."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from genrobust.benchmark.options import Options
from genrobust.benchmark.prepare import Prepared, prepare
from genrobust.benchmark.provenance import command_here
from genrobust.benchmark.record import ModelInfo
from genrobust.benchmark.run import execute, write_report
from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError
from genrobust.suites.suite import Suite, load_suite


def bench_models(
    models: list[str], weights: list[Path], suite: str, options: Options, out: Path
) -> None:
    """Prepare all models, so that a mistake in the last is found before the first runs; run."""
    from rich.console import Console

    from genrobust.report.terminal import score_table

    if weights and len(weights) != len(models):
        raise GenrobustError(
            f"{len(weights)} --weights for {len(models)} --model; give each model its own, in order"
        )
    protocol = load_suite(suite, options.data_root)
    given: list[Path | None] = [*weights] or [None] * len(models)
    prepared = [
        _prepared(model, protocol, replace(options, weights=path))
        for model, path in zip(models, given, strict=True)
    ]
    home = out / f"{protocol.name}-v{protocol.version}"
    runs = []
    for one, folder in zip(prepared, folders(home, [one.model for one in prepared]), strict=True):
        with progress(one.model.name) as advance:
            here = command_here(one.command, suite, one.options, out)
            runs.append(execute(one, folder, advance, here))
        write_report(folder, runs[-1:])
        print(f"{folder / 'record.json'}\n{folder / 'report.html'}", file=sys.stderr)
        if options.as_data:
            print(_write_evidence(one, folder), file=sys.stderr)
    if len(runs) > 1:
        print(write_report(home, runs), file=sys.stderr)
    Console().print(score_table([run.record for run in runs]))


def _prepared(model: str, suite: Suite, options: Options) -> Prepared:
    """Ready to run; the model may be one that lies in a run's evidence."""
    if not model.endswith(".zip"):
        return prepare(model, suite, options)
    from genrobust.leaderboard.evidence import read_evidence

    if options.weights is not None:
        raise GenrobustError(f"'{model}' holds weights of its own; leave --weights out")
    return prepare(read_evidence(Path(model)).load_model(), suite, options, reference=model)


def _write_evidence(prepared: Prepared, folder: Path) -> Path:
    from genrobust.leaderboard.evidence import EVIDENCE, write_evidence

    write_evidence(folder, prepared.setting.scorer.model)
    return folder / EVIDENCE


def folders(home: Path, models: list[ModelInfo]) -> list[Path]:
    """A folder a model; models of one name are told apart by fingerprint."""
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip(".-") for model in models]
    return [
        home / (name if names.count(name) == 1 else f"{name}-{model.fingerprint[:8]}")
        for name, model in zip(names, models, strict=True)
    ]
