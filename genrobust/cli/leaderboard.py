"""The commands of ``genrobust leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genrobust.cli.errors import command
from genrobust.cli.help import App
from genrobust.cli.parameters import DataRoot
from genrobust.cli.values import RUNS, folder_option

ENTRIES = Path("leaderboard/entries")

leaderboard = App(
    help="Make or show the leaderboard's site.", no_args_is_help=True, rich_markup_mode=None
)


@leaderboard.command()
@command
def build(
    entries: Annotated[
        Path, folder_option("Folder of the entries: SUITE-vVERSION/NAME/entry.json.")
    ] = ENTRIES,
    out: Annotated[Path, folder_option("Folder for the site.")] = Path("leaderboard/site"),
    depth: Annotated[
        str,
        typer.Option(
            help="How deep each entry is verified first: schema, replay or re-attack; beyond "
            "schema, badges are of this alone."
        ),
    ] = "schema",
    data_root: DataRoot = None,
) -> None:
    """Make the static site.

    What does not pass is left out. Its pages work from any server, and without one. A site that is
    there is replaced; a folder that holds anything else is left alone.
    """
    from genrobust.site.build import build as build_site
    from genrobust.verify.verify import depth_of

    boards = build_site(entries, out, depth_of(depth), data_root)
    for board in boards:
        print(f"{board.name}: {len(board.rows)} entries, {len(board.ranked)} ranked")
    print(out / "index.html")


@leaderboard.command()
@command
def serve(
    entries: Annotated[
        Path | None, folder_option(f"Folder of the entries; default {ENTRIES}, if there.")
    ] = None,
    runs: Annotated[Path, folder_option("Folder of your own runs.")] = RUNS,
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.")] = 8000,
) -> None:
    """Show the site on this machine.

    Your own runs are marked on its boards. Stop it with Ctrl-C.
    """
    from genrobust.site.serve import boards_with_runs
    from genrobust.site.serve import serve as serve_site

    chosen = entries if entries is not None else (ENTRIES if ENTRIES.is_dir() else None)
    boards = boards_with_runs(chosen, runs)
    serve_site(boards, port, lambda url: print(f"{url} (Ctrl-C stops it)", flush=True))
