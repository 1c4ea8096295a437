"""``genrobust suite``: suites for one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrobust.cli.errors import command
from genrobust.cli.help import App
from genrobust.cli.parameters import Device, Weights
from genrobust.cli.values import file_option, folder_option

DATA_HELP = (
    "A data set's name, a folder of class sub-folders or of pictures, a .npz or .npy, "
    "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION; '?channels=grey' or '?channels=rgb' behind it "
    "turns pictures of other channels into these."
)

suite_commands = App(
    help="Suites for one's own pictures.", no_args_is_help=True, rich_markup_mode=None
)


@suite_commands.callback()
def _group() -> None:
    pass


@suite_commands.command()
@command
def make(
    model: Annotated[
        str, typer.Option(help="The model, whose shape the pictures get and whose radii are found.")
    ],
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    out: Annotated[Path, file_option("The suite's file, NAME.json.")],
    weights: Weights = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="The first attacks, the others score; one alone does both."),
    ] = None,
    sources: Annotated[
        int | None, typer.Option(help="How many pictures are attacked; default 100.", min=2)
    ] = None,
    eps: Annotated[
        list[float] | None, typer.Option(help="This radius, in place of a search. Repeat it.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Of success; see 'list rules'.")] = None,
    device: Device = "cpu",
    data_root: Annotated[
        Path | None, folder_option("Folder below which relative places are.")
    ] = None,
) -> None:
    """Draw a suite from pictures and write it down.

    For 'bench --suite FILE'. Where the pictures do not lie beside you, others give the folder that
    holds them: --data-root. Another file is not written over.
    """
    from genrobust import files
    from genrobust.cli.bench import told
    from genrobust.errors import GenrobustError
    from genrobust.names import part_of
    from genrobust.runner.options import Options
    from genrobust.runner.own import drawn_for, referred
    from genrobust.suites.suite import warn_of_wide

    if out.suffix != ".json":
        raise GenrobustError(f"--out is '{out}'; a suite's file ends in .json")
    options = Options(
        judge=tuple(judge or ()),
        rule=rule,
        eps=tuple(eps or ()),
        device=device,
        weights=weights,
        data_root=data_root,
    )
    reference, options = referred(data, options)
    suite = drawn_for(model, reference, options, sources)
    suite = suite.model_copy(update={"name": part_of(out.stem)})
    content = suite.model_dump_json(indent=1) + "\n"
    if out.is_file() and out.read_bytes() != content.encode():
        raise GenrobustError(
            f"'{out}' is there already, and is not this suite; records may be of it: give another "
            "--out, or remove it first"
        )
    warn_of_wide(suite)
    files.write_text(out, content)
    typer.echo(f"{told(suite)}\n{out}")
