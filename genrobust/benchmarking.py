"""bench() and minimum_norm(): run a suite, and write the pages on what came out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from genrobust import files
from genrobust.arguments import path, usable_device
from genrobust.data.reference import lent
from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import left_as_it_was
from genrobust.modes import plain_modes
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.record import Record
from genrobust.report.curve import render_curve
from genrobust.report.html import render
from genrobust.runner.curve import prepare_curve
from genrobust.runner.options import Options
from genrobust.runner.own import (
    drawn_before,
    drawn_for,
    keep,
    placed,
    radii_of,
    referred,
    require_data,
    run_on,
)
from genrobust.runner.prepare import chosen_suite, prepare
from genrobust.runner.provenance import naming_file
from genrobust.runner.run import Run, execute
from genrobust.seeding import generators_kept
from genrobust.suites.suite import Suite


@plain_modes()
def bench(
    model: str | nn.Module | GenerativeModel,
    suite: str | Suite | None = None,
    *,
    data: Any = None,
    sources: int | None = None,
    name: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    attacks: Sequence[str] = (),
    norm: str | None = None,
    eps: Sequence[float] = (),
    judge: Sequence[str] = (),
    rule: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    executor: str = "threads",
    batch_size: int | None = None,
    data_root: str | Path | None = None,
    judge_root: str | Path | None = None,
    evidence: bool = False,
    out: str | Path | None = None,
) -> Record:
    """Score a model under a suite's protocol.

    Args:
        model: a zoo name, ``"file.py:function"``, ``"package.module:function"``, a module, or
            what :func:`genrobust.wrap` gives. A module is given back as it was: what trains, what
            wants a gradient, where it is.
        suite: a suite's name, such as ``"digits"`` or ``"mnist"``; a JSON file's path; or a Suite;
            default ``"digits"``.
        data: your own pictures in place of a suite, which is then drawn from them: see
            :func:`genrobust.suites.draw.draw`. A registered name; a folder of class sub-folders or
            of pictures; a ``.npz`` or ``.npy``; ``"FILE.py:FUNCTION"``; a torchvision-style or
            Hugging Face data set; images, or images and labels, as tensors or arrays; Images.
            Beside ``suite``, the pictures that it was drawn from before, such as by another
            record's ``suite``.
        sources: of ``data``, how many pictures are attacked; default 100.
        name: what the run and its model are called; default what the model is.
        limit: only the first so many samples (the record is then not official).
        seed: of every random draw.
        attacks: these in place of the suite's (not official either).
        norm: such as ``"l2"``, in place of the suite's (likewise). Its radii are converted: see
            :meth:`genrobust.suites.Suite.with_norm`.
        eps: these radii in place of the suite's grid (likewise).
        judge: these judges in place of the suite's (likewise): see
            :func:`genrobust.judges.load_judge`. The first attacks and the others score; one alone
            does both, of which there is a warning.
        rule: of success, in place of the suite's (likewise). With ``"single"``, that of the
            published attacks, one judge scores, and attacks keep the suite's; with
            ``"single-live"`` its dropout draws, as published code does that forgets to turn it off;
            with ``"single-output"`` what it looks at need not be a picture of the source.
        device: where to compute: ``"cpu"``, ``"cuda"``.
        workers: shards at a time; default the number of cores, on a GPU 1.
        executor: who computes them: ``"threads"``, ``"processes"``, ``"serial"``, ``"ray"``,
            ``"slurm"`` or a plugin's. In other processes the model is built anew from its name or
            place.
        batch_size: the most images that go through the model at once; default any number. Results
            are the same up to rounding.
        data_root: the folder with the data set; see :func:`genrobust.load_images`.
        judge_root: the folder that relative places of judges start from, also of those that a suite
            names; default the current one.
        evidence: also write ``evidence.zip`` to ``out``, with which others can check every score,
            and which ``genrobust submit OUT`` takes. The model is then run in the form in which it
            goes along.
        out: a folder that keeps shards (so that a stopped run resumes), ``record.json`` and
            ``report.html``; default none is kept.

    Returns:
        The record: scores with intervals, matrices, cost, provenance.

    Raises:
        GenrobustError: unknown names, a model that fails its check, data that is missing, a
            folder that cannot be written, evidence without a folder.

    Example:
        >>> record = bench("jointvae", limit=1, eps=[0.05], attacks=["noise"])
        >>> record.scores.sources, record.official
        (1, False)
    """
    place = (
        None if out is None else Path(path("out", out, "runs")).absolute()
    )  # before a model's file changes directory
    options = replace(Options.given("bench", locals()), name=name)
    require_data(data, sources)
    if options.evidence and place is None:
        raise GenrobustError(
            "evidence is written to the run's folder, and out is not given; give one, such as "
            "out='runs/my_model'"
        )
    file = None
    with (
        left_as_it_was(model),
        generators_kept(usable_device(options.device)),
        ExitStack() as stack,
    ):
        if data is None:
            protocol = chosen_suite("digits" if suite is None else suite, data_root)
        else:
            if isinstance(data, (str, os.PathLike)):
                reference, options = referred(data, options)
            else:
                reference = stack.enter_context(lent(data))
            if suite is not None:
                protocol = drawn_before(chosen_suite(suite, data_root), reference, sources)
            else:
                protocol = drawn_for(model, reference, options, sources)
                if place is not None:
                    protocol, file = placed(
                        protocol, lambda _: place, radii=bool(radii_of(options))
                    )
                options = run_on(options)
        prepared = prepare(model, protocol, options)
        said = suite if file is None else file
        if isinstance(said, (str, os.PathLike)):
            prepared = naming_file(prepared, os.fspath(said), place or Path())
        if file is not None:
            keep(protocol, file, over=True)
        if place is None:
            with files.temporary_folder() as folder:
                return execute(prepared, folder).record
        run = execute(prepared, place)
    write_report(place, [run])
    if options.evidence:
        # With which models as data come, that few runs need.
        from genrobust.evidence.bundle import write_evidence

        write_evidence(place, prepared.loaded.scorer.model)
    return run.record


@plain_modes()
def minimum_norm(
    model: str | nn.Module | GenerativeModel,
    suite: str | Suite = "digits",
    *,
    norm: str | None = None,
    radius: float | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    executor: str = "threads",
    batch_size: int | None = None,
    data_root: str | Path | None = None,
    judge_root: str | Path | None = None,
    out: str | Path | None = None,
) -> MinimumNormRecord:
    """Find the smallest adversarial change of each source of a suite.

    An image counts by the suite's scoring judges: see :class:`genrobust.suites.Suite`. From the
    distances follow robust accuracy at every radius, the area under it and eps50, exactly.

    Args:
        model: as for :func:`genrobust.bench`.
        suite: likewise.
        norm: its name, such as ``"l2"``; default the suite's. See
            :meth:`genrobust.suites.Suite.with_norm` for how the suite's radii are converted.
        radius: give the area up to this one too.
        limit: only the first so many samples.
        seed: of every random draw.
        device: where to compute: ``"cpu"``, ``"cuda"``.
        workers: shards at a time; default the number of cores, on a GPU 1.
        executor: who computes them, as for :func:`genrobust.bench`.
        batch_size: the most images that go through the model at once; default any number. Results
            are the same up to rounding.
        data_root: the folder with the data set; see :func:`genrobust.load_images`.
        judge_root: the folder that relative places of judges start from, also of those that a suite
            names; default the current one.
        out: a folder that keeps shards with the images (so that a stopped run resumes),
            ``curve.json`` and ``curve.html``; default none is kept.

    Raises:
        GenrobustError: unknown names, a model that fails its check, a suite without judges, data
            that is missing, a folder that cannot be written.

    Example:
        >>> import genrobust
        >>> from genrobust.suites import load_suite
        >>> from torch.nn import AvgPool2d, Upsample
        >>> how = {"encode": AvgPool2d(4), "decode": Upsample(scale_factor=4)}
        >>> model = genrobust.wrap(AvgPool2d(4), **how, input_shape=(1, 32, 32))
        >>> suite = load_suite("digits-v1").with_attacks(["noise"])
        >>> record = minimum_norm(model, suite, limit=1)
        >>> len(record.sources), record.per_eps[0].eps
        (1, 0.02)
    """
    place = (
        None if out is None else Path(path("out", out, "runs")).absolute()
    )  # before a model's file changes directory
    options = Options.given("curve", locals())
    with left_as_it_was(model), generators_kept(usable_device(options.device)):
        prepared = prepare_curve(model, suite, options)
        if place is None:
            with files.temporary_folder() as folder:
                return execute(prepared, folder).record
        run = execute(prepared, place)
    write_page(place, run)
    return run.record


def write_report(folder: Path, runs: Sequence[Run[Record]]) -> Path:
    """Write ``report.html`` on one run, or comparing several."""
    path = folder / "report.html"
    files.write_text(path, render([(run.record, run.examples) for run in runs]))
    return path


def write_page(folder: Path, run: Run[MinimumNormRecord]) -> Path:
    """Write ``curve.html``."""
    path = folder / "curve.html"
    files.write_text(path, render_curve(run.record, run.examples))
    return path
