"""The work of ``genrobust bench``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genrobust.benchmarking import write_report
from genrobust.cli.running import Way
from genrobust.cli.streams import console
from genrobust.errors import GenrobustError
from genrobust.records.record import Record
from genrobust.runner.options import Options
from genrobust.runner.own import (
    drawn_for,
    keep,
    placed,
    radii_of,
    referred,
    require_data,
    run_on,
)
from genrobust.runner.places import home_of
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.provenance import naming_file
from genrobust.suites.suite import Suite, load_suite


@dataclass(frozen=True)
class Own:
    """Pictures of one's own in place of a suite, and what the models are called."""

    data: str | None = None
    sources: int | None = None
    names: Sequence[str] = ()


def bench_models(
    models: list[str],
    weights: list[Path],
    suite: str | None,
    options: Options,
    own: Own,
    way: Way,
) -> None:
    """Prepare all models, so that a mistake in the last is found before the first runs; run."""
    from genrobust.report.terminal import score_table

    if weights and len(weights) != len(models):
        raise GenrobustError(
            f"{len(weights)} --weights for {len(models)} --model; give each model its own, in order"
        )
    if own.names and len(own.names) != len(models):
        raise GenrobustError(
            f"{len(own.names)} --name for {len(models)} --model; give each model its own, in order"
        )
    given: list[Path | None] = [path.absolute() for path in weights] or [None] * len(models)
    require_data(own.data, own.sources)
    if own.data is None:
        suite = "digits" if suite is None else suite
        protocol = load_suite(suite, options.data_root)
    elif suite is not None:
        raise GenrobustError("--data makes a suite of its own; leave --suite out")
    else:
        protocol, suite, options = drawn_suite(models[0], given[0], own, options, way.out)
    home = home_of(way.out, protocol)
    names: Sequence[str | None] = own.names or [None] * len(models)
    prepared = [
        naming_file(
            _prepared(model, protocol, replace(options, weights=path, name=name)), suite, way.out
        )
        for model, path, name in zip(models, given, names, strict=True)
    ]
    if own.data is not None:
        keep(protocol, Path(suite))
        print(suite, file=sys.stderr)
    runs = []
    for one, label in zip(prepared, labels_of(prepared), strict=True):
        done = way.go(one, label, home, suite)
        if done is None:
            continue
        folder, run = done
        write_report(folder, [run])
        runs.append(run.called(label))
        print(f"{folder / 'record.json'}\n{folder / 'report.html'}", file=sys.stderr)
        if options.evidence:
            print(_write_evidence(one, folder), file=sys.stderr)
    if not runs:
        return
    if len(runs) > 1:
        print(write_report(home, runs), file=sys.stderr)
    console().print(score_table([run.record for run in runs]))


def drawn_suite(
    model: str, weights: Path | None, own: Own, options: Options, out: Path
) -> tuple[Suite, str, Options]:
    """The suite of one's own pictures, its file, and the options that are left to run it."""
    assert own.data is not None
    reference, options = referred(own.data, options)
    drawn = drawn_for(model, reference, replace(options, weights=weights), own.sources)
    suite, file = placed(drawn, lambda suite: home_of(out, suite), radii=bool(radii_of(options)))
    print(told(suite), file=sys.stderr)
    return suite, str(file), run_on(options)


def told(suite: Suite) -> str:
    """What a drawn suite is, for the terminal."""
    radii = ", ".join(f"{round(255 * e, 2):g}/255" for e in suite.eps)
    words = f"{suite.description}\nradii {radii}; scored by {suite.rule}"
    if not suite.scoring_judges:
        words += ", without a judge: give one with --judge FILE.py:FUNCTION"
    return words


def labels_of(prepared: Sequence[Prepared[Record]]) -> list[str]:
    """What to call the models of one command: by name; equal names with what tells them apart."""
    labels = [one.model.name for one in prepared]
    sources = [Path(one.options.weights or one.model.reference) for one in prepared]
    for tell in (_tails(labels, sources), [one.identity[:8] for one in prepared]):
        apart = {label: set[str]() for label in labels}
        for label, word in zip(labels, tell, strict=True):
            apart[label].add(word)
        labels = [
            f"{label} ({word})" if len(apart[label]) > 1 else label
            for label, word in zip(labels, tell, strict=True)
        ]
    return labels


def _tails(labels: Sequence[str], sources: Sequence[Path]) -> list[str]:
    """Where each comes from, without the folders that all of one label have in common."""
    groups: dict[str, list[Path]] = {}
    for label, source in zip(labels, sources, strict=True):
        groups.setdefault(label, []).append(source.absolute())
    shared = {
        label: os.path.commonpath([p.parent for p in group]) for label, group in groups.items()
    }
    return [
        str(source.absolute().relative_to(shared[label]))
        for label, source in zip(labels, sources, strict=True)
    ]


def _prepared(model: str, suite: Suite, options: Options) -> Prepared[Record]:
    """Ready to run; the model may be one that lies in a run's evidence."""
    if not model.endswith(".zip"):
        return prepare(model, suite, options)
    from genrobust.evidence.bundle import read_evidence

    if options.weights is not None:
        raise GenrobustError(f"'{model}' holds weights of its own; leave --weights out")
    return prepare(read_evidence(Path(model)).load_model(), suite, options, reference=model)


def _write_evidence(prepared: Prepared[Record], folder: Path) -> Path:
    from genrobust.evidence.bundle import EVIDENCE, write_evidence

    write_evidence(folder, prepared.loaded.scorer.model)
    return folder / EVIDENCE
