"""How to run a suite: every option is declared here, once.

From this follow the parameters of the commands, what the Python functions check, the command in a
record, and which options make a run unofficial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from genrobust.errors import GenrobustError

#: The commands that run a suite, and those that do so as a part of their work.
RUN = ("bench", "curve")
ALL = (*RUN, "study")

#: The largest seed that every generator takes.
MOST = 2**63 - 1


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name, type and default.

    Args:
        help: of the command line.
        example: a value, for whoever gives one of another kind; None: it is taken as it is.
        commands: that have it.
        flag: on the command line, where it is not the option's name.
        written: in a record's command, or only in the one for this machine.
        always: written even while it has its default.
        deviates: with it, a run is not the suite's.
        metavar: of a path, FILE or FOLDER.
        envvar: where the command line finds it otherwise.
        least: of a whole number, together with ``most``.
        most: likewise.
    """

    help: str
    example: Any = None
    commands: tuple[str, ...] = RUN
    flag: str | None = None
    written: Literal["record", "here"] = "record"
    always: bool = False
    deviates: bool = False
    metavar: str | None = None
    envvar: str | None = None
    least: int | None = None
    most: int | None = None


def _option(default: Any, help: str, **known: Any) -> Any:
    return field(default=default, metadata={"option": Option(help, **known)})


@dataclass(frozen=True)
class Options:
    """How to run a suite: which part of it, where to, with how many hands.

    The order is that of ``--help`` and of a record's command. ``batch_size`` is the most images
    that go through the model at once; None for any number. ``evidence`` runs a model in the form in
    which it can be handed on, where it has one: what is scored is then what others can score again.

    Raises:
        GenrobustError: an option is of another kind, or the name is empty; what a number may be is
            said where it is used.

    Example:
        >>> Options(limit=5, eps=[0.1]).words()
        {'eps': ['--eps', '0.1'], 'limit': ['--limit', '5'], 'seed': ['--seed', '0']}
    """

    weights: str | Path | None = _option(  # noqa: RUF009 - it gives a field
        None, "State dict to load into the model.", commands=("curve",), metavar="FILE"
    )
    attacks: Sequence[str] = _option(
        (),
        "This attack in place of the suite's. May be repeated.",
        example="latent",
        commands=("bench",),
        flag="attack",
        deviates=True,
    )
    norm: str | None = _option(
        None,
        "Such as l2; default the suite's. Its radii are converted.",
        example="l2",
        deviates=True,
    )
    eps: Sequence[float] = _option(
        (),
        "This radius in place of the suite's grid. May be repeated.",
        example=0.1,
        commands=("bench",),
        deviates=True,
    )
    judge: Sequence[str] = _option(
        (),
        "In place of the suite's judges: a name, FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, or a "
        "trained one's .safetensors. Repeat it: the first attacks, the others score; one alone "
        "does both.",
        example="my_judge.py:build",
        commands=("bench",),
        deviates=True,
    )
    rule: str | None = _option(
        None,
        "Of success, in place of the suite's. single: the one --judge scores, as in published "
        "attacks, which keep the suite's; single-live: its dropout draws too; single-output: what "
        "it looks at need not be a picture of the source.",
        example="single",
        commands=("bench",),
        deviates=True,
    )
    limit: int | None = _option(None, "Only the first so many samples.", example=20, deviates=True)
    device: str = _option("cpu", "cpu, cuda, cuda:1, ...", example="cpu", commands=ALL)
    workers: int | None = _option(
        None,
        "Shards at a time; default the number of cores.",
        example=2,
        commands=ALL,
        written="here",
    )
    executor: str = _option(
        "threads",
        "Who computes the shards: threads, processes, serial, ray, slurm, ...",
        example="processes",
        commands=ALL,
        written="here",
    )
    batch_size: int | None = _option(
        None, "Images that go through the model at once, at most.", example=64
    )
    data_root: str | Path | None = _option(  # noqa: RUF009
        None,
        "Folder that holds the data set, such as MNIST/raw.",
        example="data",
        commands=ALL,
        written="here",
        metavar="FOLDER",
        envvar="GENROBUST_DATA",
    )
    judge_root: str | Path | None = _option(  # noqa: RUF009
        None,
        "Folder that relative places of judges start from; default the current one.",
        example="judges",
        commands=ALL,
        written="here",
        metavar="FOLDER",
    )
    evidence: bool = _option(
        False,
        "Also write evidence.zip, with which others can check every score.",
        example=True,
        commands=("bench",),
    )
    name: str | None = _option(
        None, "What the run and its model are called.", example="mine", commands=()
    )
    seed: int = _option(0, "Of every random draw.", example=0, always=True, least=0, most=MOST)
    radius: float | None = _option(
        None, "Give the area under the curve up to this too.", example=0.1, commands=("curve",)
    )

    def __post_init__(self) -> None:
        """Read what came from Python, of which a record's command must be able to tell."""
        if isinstance(self.judge, str):
            object.__setattr__(self, "judge", (self.judge,))
        for name, option, declared in declared_options():
            value = getattr(self, name)
            if option.example is not None and not (value is None and declared.default is None):
                object.__setattr__(self, name, _read(name, value, option))
        if self.name is not None and not self.name.strip():
            raise GenrobustError(
                "the name of a run is empty; give what it and its model are called, or leave it out"
            )

    @classmethod
    def given(cls, command: str, values: Mapping[str, Any]) -> Options:
        """Those among a function's arguments that are options of a command.

        Raises:
            GenrobustError: as of the class, or a list is empty, such as one that a filter emptied.
        """
        given = {name: values[name] for name, *_ in declared_options(command) if name in values}
        options = cls(**given)
        for name, option, declared in declared_options(command):
            empty = name in given and kind_of(name)[1] and not getattr(options, name)
            if empty and given[name] is not declared.default:
                raise GenrobustError(
                    f"{name} is empty; give at least one, such as {name}=[{option.example!r}], or "
                    "leave it out for the suite's own"
                )
        return options

    def words(self, written: str = "record") -> dict[str, list[str]]:
        """By option, what is typed for it; options that have their default are left out."""
        said = {}
        for name, option, declared in declared_options():
            value = getattr(self, name)
            if option.written == written and (option.always or value != declared.default):
                said[name] = _typed(flag_of(name, option), option.metavar, value, written)
        return said


def declared_options(command: str | None = None) -> Iterator[tuple[str, Option, Field[Any]]]:
    """Name, declaration and field of every option, or of those that a command has."""
    for one in fields(Options):
        option = one.metadata["option"]
        if command is None or command in option.commands:
            yield one.name, option, one


def flag_of(name: str, option: Option) -> str:
    """What is typed for an option: ``--batch-size``."""
    return f"--{option.flag or name.replace('_', '-')}"


@cache
def kind_of(name: str) -> tuple[type, bool]:
    """The type of an option's value, and whether it may be given several times."""
    hint = get_type_hints(Options)[name]
    several = get_origin(hint) is Sequence
    *_, kind = [one for one in get_args(hint) or (hint,) if one is not type(None)]
    return kind, several


def _read(name: str, value: Any, option: Option) -> Any:
    from genrobust import arguments  # which has torch; a command's --help does without

    readers: dict[type, Callable[[str, Any, Any], Any]] = {
        int: arguments.whole,
        float: arguments.real,
        str: arguments.text,
        bool: lambda name, value, _: arguments.truth(name, value),
        Path: arguments.path,
    }
    kind, several = kind_of(name)
    if several:
        return arguments.several(name, value, readers[kind], option.example)
    found = readers[kind](name, str(value) if name == "device" else value, option.example)
    if option.least is None or option.most is None:
        return found
    return arguments.within(name, found, option.least, option.most, option.example)


def _typed(flag: str, metavar: str | None, value: Any, written: str) -> list[str]:
    if isinstance(value, bool):
        return [flag]
    if isinstance(value, tuple):
        return [word for one in value for word in (flag, str(one))]
    if metavar is not None:
        # Where it lies on this machine is nobody's business, and of no use elsewhere.
        value = Path(value).absolute() if written == "here" else Path(value).name
    return [flag, str(value)]
