"""A run on one's own pictures: the suite is drawn from them, once, and written down."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from genrobust import files
from genrobust.arguments import usable_device, whole
from genrobust.data.base import DATASETS, Dataset
from genrobust.data.reference import Reference, apart
from genrobust.errors import GenrobustError
from genrobust.judges.load import judges_at
from genrobust.models import MODELS
from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import left_as_it_was
from genrobust.models.zoo import zoo_card
from genrobust.names import short_hash
from genrobust.runner.options import Options
from genrobust.runner.prepare import wrapped
from genrobust.suites.draw import NORM, draw
from genrobust.suites.suite import Suite, read_suite

#: The file of a drawn suite, in the folder of its runs.
SUITE = "suite.json"


def referred(data: str | os.PathLike[str], options: Options) -> tuple[Reference, Options]:
    """Data as it was typed, without what lies where on this machine; that is the data's root.

    The bare name of a registered data set is that set; a path is never one.

    Raises:
        GenrobustError: it says nothing, or may be either of two places.
    """
    reference = Reference.parse(os.fspath(data))
    if isinstance(data, str) and reference.place in DATASETS:
        return reference, options
    reference = replace(reference, place=apart(reference.place))
    file, colon, function = reference.place.rpartition(":")
    place, behind = files.expanded(file if colon else function), colon and f":{function}"
    if not files.is_there(place) or (colon and place.suffix != ".py"):
        return reference, options
    _require_one(place, options.data_root)
    named = replace(reference, place=apart(f"{place.resolve().name}{behind}"))
    return named, replace(options, data_root=place.resolve().parent)


def _require_one(place: Path, root: str | os.PathLike[str] | None) -> None:
    """What lies in the current folder is not elsewhere below the data's root too."""
    if root is None:
        return
    other = files.expanded(Path(root)) / place  # of a whole path that is the path itself
    if files.is_there(other) and other.resolve() != place.resolve():
        raise GenrobustError(
            f"there is '{place}' in the current folder and in the data's root '{root}' "
            f"(--data-root, GENROBUST_DATA); give the one that is meant as a whole path, such as "
            f"'{other.resolve()}'"
        )


def require_data(data: object, sources: int | None) -> None:
    """A number of sources is of one's own pictures.

    Raises:
        GenrobustError: there are none.
    """
    if data is None and sources is not None:
        raise GenrobustError(
            f"sources is {sources}, which is of one's own pictures; name these with --data "
            "(data=), or take the first so many of the suite with --limit (limit=)"
        )
    if sources is not None:
        whole("sources", sources, 20)


def drawn_for(
    model: str | nn.Module | GenerativeModel,
    data: Reference,
    options: Options,
    sources: int | None = None,
) -> Suite:
    """The suite for a model on data; see :func:`genrobust.suites.draw.draw`.

    Args:
        model: a name, a place or a live object.
        data: where the pictures are.
        options: of the run: its judges and a rule without labels are the suite's, and so are its
            radii unless they are of another norm, see :func:`radii_of`.
        sources: how many.

    Raises:
        GenrobustError: the data, a judge or the model is not there or does not fit.
    """
    root = None if options.data_root is None else Path(options.data_root)
    with left_as_it_was(model), judges_at(options.judge_root):
        native = as_built(model, data, options.weights, root)
        ready = wrapped(model, native.name, native.image_shape, options)
        ready.module.to(usable_device(options.device)).eval()
        return draw(
            ready,
            data,
            options.judge,
            sources=sources,
            rule=options.rule,
            radii=radii_of(options),
            data_root=root,
        )


def as_built(model: object, data: Reference, weights: object, root: Path | None) -> Dataset:
    """The data that a model is built for: what ships, for its data set; else at the own shape.

    Raises:
        GenrobustError: the pictures are not there.
    """
    ours = weights is None and model in MODELS and data.place in DATASETS
    if ours and zoo_card(str(model), data.place) is not None:
        return DATASETS.get(data.place)
    return data.native("test", root)


def drawn_before(suite: Suite, data: Reference, sources: int | None) -> Suite:
    """A suite that was drawn from these pictures before, to be measured on them again.

    Raises:
        GenrobustError: it is of others, or a number of sources is given, which it has.
    """
    if Reference.parse(suite.dataset).place != data.place:
        raise GenrobustError(
            f"the suite '{suite.name}' is of '{suite.dataset}', and data= gives other pictures; "
            "leave suite= out, and one is drawn from them, or give the suite that was"
        )
    if sources is not None:
        raise GenrobustError(
            f"sources is {sources}, and the suite '{suite.name}' has {len(suite.sample_ids)} "
            "already; leave sources= out, or take the first so many with limit="
        )
    return suite


def placed(suite: Suite, home: Callable[[Suite], Path], radii: bool) -> tuple[Suite, Path]:
    """The suite as it is run in the folder ``home`` gives for it, and its file there.

    One of the same pictures and judges that is there already is taken as it is, so that all models
    are measured at the same radii; beside any other the suite gets a name of its own, or takes its
    place where ``home`` goes by no name.

    Args:
        suite: as it was drawn.
        home: from a suite to the folder of its runs.
        radii: whether its radii were asked for, and not only searched for.
    """
    mark = short_hash(
        suite.model_dump_json(exclude={"description"} if radii else {"description", "eps"})
    )
    named = suite.model_copy(update={"name": f"{suite.name}-{mark}"})
    file = Path()
    for one in (suite, named) if home(named) != home(suite) else (suite,):
        suite, file = one, home(one) / SUITE
        if not file.exists():
            break
        found = read_suite(file)
        searched = {} if radii else {"eps": found.eps}
        if suite.model_copy(update={"description": found.description, **searched}) == found:
            return found, file
    return suite, file


def keep(suite: Suite, file: Path, over: bool = False) -> None:
    """Write a drawn suite down once its run is known to be possible.

    Args:
        suite: as it was placed.
        file: where.
        over: whether it may take the place of another, in a folder that goes by no name.

    Raises:
        GenrobustError: another one is there by now; the file cannot be written.
    """
    content = suite.model_dump_json(indent=1) + "\n"
    if over:
        if not file.exists() or read_suite(file) != suite:
            files.write_text(file, content)
        return
    with files.writing(f"'{file}'"):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as new:  # of commands at once, one draws for all
                try:
                    new.write(content)
                    new.flush()
                except OSError:
                    file.unlink()
                    raise
        except FileExistsError:
            if read_suite(file) != suite:
                raise GenrobustError(
                    f"'{file}' was drawn meanwhile by another command, as another suite; type this "
                    "one again, or choose another folder with --out"
                ) from None


def radii_of(options: Options) -> Sequence[float]:
    """The radii that a suite is drawn with: those of the run, unless that is under another norm.

    Such a run is at its radii as on any suite, and the drawn one has some of its own.

    >>> radii_of(Options(eps=[0.1])), radii_of(Options(eps=[1.0], norm="l2"))
    ((0.1,), ())
    """
    return options.eps if options.norm in (None, NORM) else ()


def run_on(options: Options) -> Options:
    """The options of a run on a drawn suite, without those that it holds itself."""
    return replace(options, judge=(), rule=None, eps=() if radii_of(options) else options.eps)
