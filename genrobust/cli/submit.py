"""The work of ``genrobust submit``."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from genrobust.board.board import Board
from genrobust.board.submit import SubmitOptions, Submitted, submit
from genrobust.cli.progress import progress
from genrobust.cli.streams import console
from genrobust.errors import GenrobustError, one_line
from genrobust.evidence.bundle import read_run_record
from genrobust.evidence.entry import Author, Link, Submission
from genrobust.verify.verify import PROVES

#: What an attack says of its training data, if its submitter says nothing.
UNTRAINED = "none: it is an attack"


@dataclass(frozen=True)
class Said:
    """What was typed of a submission; what is missing is asked for on a terminal."""

    name: str | None
    authors: list[str]
    links: list[str]
    licence: str | None
    training_data: str | None
    family: str | None
    recipe: str | None
    training_seed: int | None
    note: str | None


def submit_run(
    run: Path, said: Said, options: SubmitOptions, dry_run: bool, open_pr: bool, yes: bool
) -> None:
    """Make the entry, and say what to do with it."""
    if open_pr and shutil.which("gh") is None:
        raise GenrobustError(
            "--open-pr needs GitHub's command 'gh', which is not installed; leave it out, and type "
            "the steps that are printed"
        )
    read_run_record(run)  # a wrong folder is told before anything is asked
    submission = submission_of(said, attack=options.attack_on is not None)
    if not (dry_run or yes) and on_terminal():
        words = f"Submit '{submission.name}' under {submission.licence}?"
        typer.confirm(one_line(words), abort=True)
    with progress("replay") as advance:
        done = submit(run, submission, options, dry_run=dry_run, on_progress=advance)
    _print_result(done, dry_run)
    if not dry_run:
        _pull_request(done, open_pr)


def submission_of(said: Said, attack: bool) -> Submission:
    """What was typed, completed by what a person answers.

    Raises:
        GenrobustError: something is missing and nobody can be asked, or is not what it should be.
    """
    missing = {
        "--name": said.name,
        "--author": said.authors,
        "--licence": said.licence,
        "--training-data": UNTRAINED if attack else said.training_data,
    }
    unsaid = [option for option, value in missing.items() if not value]
    if unsaid and not on_terminal():
        raise GenrobustError(
            f"a submission also needs {', '.join(unsaid)}; give them, or run this on a terminal, "
            "where they are asked for"
        )

    def ask(value: str | None, what: str) -> str:
        return value or str(typer.prompt(what))

    name = ask(said.name, "Name of the attack" if attack else "Name of the model")
    authors = said.authors or ask(None, "Authors, 'Name, Affiliation'; between two, a ';'").split(
        ";"
    )
    licence = ask(said.licence, "Licence of the attack" if attack else "Licence of the model")
    training = ask(said.training_data or (UNTRAINED if attack else None), "Training data")
    note = said.note
    if unsaid and note is None:
        note = str(typer.prompt("Note", default="", show_default=False))
    try:
        return Submission(
            name=name,
            authors=tuple(map(_author, authors)),
            links=tuple(map(_link, said.links)),
            family=said.family,
            recipe=said.recipe,
            training_seed=said.training_seed,
            licence=licence,
            training_data=training,
            note=note or "",
        )
    except ValidationError as problem:
        first = problem.errors()[0]
        field = str(next(iter(first["loc"]), "recipe"))
        option = f"--{field.replace('_', '-').removesuffix('s')}"
        why = first["msg"].removeprefix("Value error, ")
        rest = "give another" if first["loc"] else "give both, or neither"
        raise GenrobustError(f"{option} cannot be taken: {why}; {rest}") from problem


def on_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def _author(text: str) -> Author:
    name, _, affiliation = (part.strip() for part in text.partition(","))
    try:
        return Author(name=name, affiliation=affiliation or None)
    except ValidationError as problem:
        raise GenrobustError(
            f"--author {text!r} cannot be taken: {problem.errors()[0]['msg']}; write 'Name' or "
            "'Name, Affiliation'"
        ) from problem


def _link(text: str) -> Link:
    label, _, url = text.partition("=")
    try:
        return Link(label=label.strip(), url=url.strip())
    except ValidationError as problem:
        raise GenrobustError(
            f"--link {text!r} cannot be taken; write it as label=https://..."
        ) from problem


def _print_result(done: Submitted, dry_run: bool) -> None:
    screen = console(highlight=False)
    found = done.verification
    screen.print(
        Text(f"{len(found.checks)} checks passed, as deep as {found.depth}, in {found.seconds} s"),
        Text(f"{found.depth} proves that {PROVES[found.depth]}."),
        sep="\n",
    )
    for flag in done.record.flags:
        evidence = one_line(flag.evidence)
        screen.print(Text(f"flag, with which it is not ranked: {flag.name}: {evidence}"))
    screen.print(_table(done.board, done))
    words = "nothing was written; it would be" if dry_run else "written:"
    screen.print(Text(f"{words} {one_line(str(done.folder))}"), soft_wrap=True)


def _table(board: Board, done: Submitted) -> Table:
    """The board with the new entry on it."""
    table = Table(title=f"{board.name} with this entry")
    for head in ("rank", "robust area", "model", "attacks that count"):
        table.add_column(head, justify="right" if head.startswith("r") else "left")
    new = done.folder.name if done.entry.kind == "model" else done.folder.parents[1].name
    for row in board.rows:
        name = Text(one_line(row.contender.name))
        if row.contender.id == new:
            name.stylize("bold")
            name.append("  <- this one" if done.entry.kind == "model" else "  <- attacked")
        lowered = [one for one in row.lowerings if one.accepted]
        table.add_row(
            str(row.rank) if row.rank else row.standing,
            f"{row.area:.1%}",
            name,
            Text(", ".join(f"{one.attack.entry.slug} (-{one.lowers_by:.1%})" for one in lowered)),
        )
    return table


def _pull_request(done: Submitted, open_pr: bool) -> None:
    """Print the steps to a pull request, or take them."""
    branch = "-".join(["entry", done.entry.suite, done.entry.slug])
    title = f"{done.entry.submission.name} on {done.entry.suite}"
    steps = [
        ["git", "switch", "-c", branch],
        ["git", "add", str(done.folder)],
        ["git", "commit", "-m", f"Add {title}"],
        ["git", "push", "-u", "origin", branch],
        ["gh", "pr", "create", "--title", title, "--body", done.entry.submission.note or title],
    ]
    if not open_pr:
        print("\nTo submit it, from your clone:\n")
        lines = "\n".join(f"  {shlex.join(step)}" for step in steps).split("\n")
        print("\n".join(map(one_line, lines)))  # a note may have several
        return
    for step in steps:
        ended = subprocess.run(step, check=False)
        if ended.returncode:
            raise GenrobustError(
                f"'{shlex.join(step)}' failed; the entry is in '{done.folder}': set it right, and "
                "go on from this step"
            )
