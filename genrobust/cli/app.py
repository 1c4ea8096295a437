"""The commands and their options; the work is done elsewhere."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from genrobust.cli.contained import INSIDE, contained, is_foreign, limits_of
from genrobust.cli.errors import GOES_ON, command, if_stopped
from genrobust.cli.help import App
from genrobust.cli.leaderboard import ENTRIES, leaderboard
from genrobust.cli.parameters import (
    BatchSize,
    DataRoot,
    Device,
    Seed,
    Weights,
    Workers,
    with_options,
)
from genrobust.cli.streams import streams_that_never_fail
from genrobust.cli.suite import DATA_HELP, suite_commands
from genrobust.cli.values import (
    RUNS,
    either,
    file,
    file_option,
    folder,
    folder_option,
)
from genrobust.runner.options import MOST, Options


class _Commands(TyperGroup):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        with streams_that_never_fail():
            return super().main(*args, **kwargs)


app = App(
    name="genrobust",
    cls=_Commands,
    help="Measure how robust generative encoder-decoder models are to adversarial examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(leaderboard, name="leaderboard")
app.add_typer(suite_commands, name="suite")

MODEL_HELP = (
    "A zoo name, FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, a folder, or hf://OWNER/NAME@REVISION."
)
BENCH_MODEL_HELP = f"{MODEL_HELP} Or an evidence.zip."
Shard = Annotated[
    str | None,
    typer.Option(help="Compute only this part of the shards, such as 3/16; see collect."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Compute no shard; say what a run would take.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from genrobust._version import __version__

        print(f"genrobust {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
@command
@with_options("bench")
def bench(
    context: typer.Context,
    model: Annotated[list[str], typer.Option(help=f"{BENCH_MODEL_HELP} Repeat to compare.")],
    suite: Annotated[
        str | None, typer.Option(help="A suite's name, or a JSON file; default digits.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help=f"Your own pictures in place of a suite. {DATA_HELP}")
    ] = None,
    sources: Annotated[
        int | None, typer.Option(help="Of --data, how many are attacked; default 100.", min=2)
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="What the run and its model are called; one per --model, in order."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        file_option("State dict to load into the model; one per --model, in order."),
    ] = None,
    *,
    options: Options,
    shard: Shard = None,
    dry_run: DryRun = False,
    out: Annotated[Path, folder_option("Folder for results: OUT/SUITE/MODEL.")] = RUNS,
) -> None:
    """Score models under a suite's protocol.

    Writes record.json and report.html, and prints the scores. Run again, the same command does
    only what is missing.
    """
    from genrobust.cli.bench import Own, bench_models
    from genrobust.cli.running import Way

    way = Way.read(out, shard, dry_run, context.obj)
    with if_stopped(GOES_ON):
        own = Own(data, sources, name or ())
        bench_models(model, weights or [], suite, options, own, way)


@app.command()
@command
@with_options("curve")
def curve(
    context: typer.Context,
    model: Annotated[str, typer.Option(help=MODEL_HELP)],
    suite: Annotated[str, typer.Option(help="A suite's name, or a JSON file.")] = "digits",
    *,
    options: Options,
    shard: Shard = None,
    dry_run: DryRun = False,
    out: Annotated[Path, folder_option("Folder for results: OUT/SUITE/MODEL/NORM.")] = RUNS,
) -> None:
    """Find each source's smallest adversarial change.

    Writes curve.json and curve.html. Run again, the same command does only what is missing.
    """
    from genrobust.cli.curve import measure_curve
    from genrobust.cli.running import Way

    way = Way.read(out, shard, dry_run, context.obj)
    with if_stopped(GOES_ON):
        measure_curve(model, suite, options, way)


@app.command()
def collect(
    run: Annotated[
        Path, typer.Argument(help="The folder that --shard printed.", parser=folder, metavar="RUN")
    ],
) -> None:
    """Join the shards of a run.

    Writes the record and the report of a run whose shards were computed with --shard.
    """
    from genrobust.cli.collect import words_of

    run = run.absolute()  # before a model's file changes directory
    app(command(words_of)(run), obj=run)  # which ends as a command does


@app.command()
@command
def status(
    run: Annotated[
        Path,
        typer.Argument(help="The folder of a run, or of several.", parser=folder, metavar="RUN"),
    ] = RUNS,
) -> None:
    """Print how far a run is, and its scores so far.

    Of one that is under way or was stopped, or of several.
    """
    from genrobust.cli.status import print_status

    print_status(run)


@app.command()
@command
def check(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    weights: Weights = None,
    dataset: Annotated[
        str, typer.Option(help="Try the model on this data set's images.")
    ] = "digits",
    data: Annotated[
        str | None, typer.Option(help=f"Try it on your own pictures instead. {DATA_HELP}")
    ] = None,
    data_root: DataRoot = None,
    batch_size: BatchSize = None,
) -> None:
    """Try whether a model can be benchmarked.

    Says how the model was understood.
    """
    from genrobust.cli.check import check_one

    check_one(model, weights, dataset, data, data_root, batch_size)


@app.command()
@command
def submit(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a finished run: OUT/SUITE/MODEL.", parser=folder, metavar="RUN"
        ),
    ],
    name: Annotated[str | None, typer.Option(help="What the entry is called.")] = None,
    author: Annotated[
        list[str] | None, typer.Option(help="'Name, Affiliation'. May be repeated.")
    ] = None,
    link: Annotated[
        list[str] | None, typer.Option(help="label=https://... May be repeated.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the model, or of the attack.")] = None,
    training_data: Annotated[
        str | None, typer.Option(help="What the model was trained on.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Kind of model, such as VAE.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="How it was trained, by name: its seeds are shown together."),
    ] = None,
    training_seed: Annotated[
        int | None, typer.Option(help="Of the recipe: another one for each of its entries.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="What else readers should know.")] = None,
    slug: Annotated[
        str | None, typer.Option(help="The entry's folder; default from its name.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Where --weights can be had, which then do not go along: https://..."),
    ] = None,
    attack_on: Annotated[
        str | None, typer.Option(help="The run is of an attack: the entry (slug) it attacks.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"The model, where the record does not lead to it. {MODEL_HELP}"),
    ] = None,
    weights: Weights = None,
    entries: Annotated[Path, folder_option("Folder of all entries.")] = ENTRIES,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the board as it would be; write nothing.")
    ] = False,
    open_pr: Annotated[
        bool, typer.Option("--open-pr", help="Commit, push and open the pull request with gh.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to go on.")] = False,
    data_root: DataRoot = None,
    workers: Workers = None,
) -> None:
    """Make a run's entry for the leaderboard.

    What 'verify' checks is checked before. What is missing is asked for on a terminal.
    """
    from genrobust.board.submit import SubmitOptions
    from genrobust.cli.submit import Said, submit_run

    said = Said(
        name, author or [], link or [], licence, training_data, family, recipe, training_seed, note
    )
    options = SubmitOptions(
        entries=entries,
        slug=slug,
        model=model,
        weights=weights,
        source=source,
        attack_on=attack_on,
        data_root=data_root,
        workers=workers,
    )
    submit_run(run, said, options, dry_run, open_pr, yes)


@app.command()
@command
def verify(
    path: Annotated[
        Path,
        typer.Argument(
            help="An entry's folder, a folder of entries, or an evidence.zip.",
            parser=either,
            metavar="PATH",
        ),
    ],
    depth: Annotated[
        str, typer.Option(help="schema, replay or re-attack; each includes those before it.")
    ] = "replay",
    model: Annotated[
        str | None,
        typer.Option(help=f"The model, where it is not in the evidence. {MODEL_HELP}"),
    ] = None,
    weights: Weights = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Where the pictures lie, if they are of no registered data set: a folder, a .npz "
            "or .npy, or code as for --model."
        ),
    ] = None,
    trust_code: Annotated[
        bool,
        typer.Option("--trust-code", help="Run the code that --model, --data and judges name."),
    ] = False,
    data_root: DataRoot = None,
    share: Annotated[
        float, typer.Option(help="Of the run and of the sources, for a re-attack.")
    ] = 0.1,
    seed: Annotated[
        int | None,
        typer.Option(help="Draws what is attacked again; default a new one.", min=0, max=MOST),
    ] = None,
    workers: Workers = None,
    json_out: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Also write the results here, as JSON.", parser=file, metavar="FILE"
        ),
    ] = None,
) -> None:
    """Check the numbers of an entry.

    Nothing that was submitted is executed. Exit code 0: all passed; 1: something did not; 2: it
    cannot be told, and why.
    """
    from genrobust.cli.verify import verify_all
    from genrobust.verify.verify import VerifyOptions, depth_of

    options = VerifyOptions(
        depth=depth_of(depth),
        model=model,
        weights=weights,
        data=data,
        trust_code=trust_code,
        data_root=data_root,
        share=share,
        seed=seed,
        workers=workers,
    )
    if code := verify_all(path, options, json_out):
        raise typer.Exit(code)


@app.command()
@command
def publish(
    run: Annotated[
        Path,
        typer.Argument(
            help="A run's folder with evidence, an entry's, or an evidence.zip.",
            parser=either,
            metavar="RUN",
        ),
    ],
    url: Annotated[str, typer.Option(help="Where others can have the evidence.zip: https://...")],
    card: Annotated[
        Path | None, file_option("Model card to put the scores into, such as README.md.")
    ] = None,
    eval_results: Annotated[
        Path | None, folder_option("Folder of the model's repository, for .eval_results in it.")
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="The benchmark's data set on the hub: OWNER/NAME.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Put scores on a model's page on the hub.

    The evidence is replayed, and its scores go into the model-index of a card for Hugging Face's
    hub, into .eval_results, or both; flagged scores are refused.
    """
    from genrobust.cli.publish import publish_scores

    publish_scores(run, url, card, eval_results, benchmark, data_root)


@app.command()
@command
def train(
    model: Annotated[
        str | None,
        typer.Option(help="A zoo name, such as jointvae."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="A judge's architecture instead: lenet, vgg, resnet, thesis or committee."
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Say how often it agrees with this judge. May be repeated."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="A registered data set.")] = "digits",
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change the recipe: steps=500, penalty.beta=8, network.gaussian=16."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Train so often, with this many seeds from --seed on, in folders seed-0, ...",
            min=1,
            max=10_000,
        ),
    ] = None,
    out: Annotated[
        Path | None, folder_option("Folder; default genrobust-training/DATASET/NAME.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Train a model of the zoo, or a judge.

    Writes weights and card. Stopped, the same command goes on from a model's last checkpoint; a
    judge starts anew. With --seeds, what is trained already is found again.
    """
    from genrobust.cli.train import train_one

    train_one(
        *(model, judge, dataset, change or [], seed, out, data_root, beside or [], device, seeds)
    )


@app.command()
@command
@with_options("study")
def study(
    spec: Annotated[
        Path,
        typer.Argument(help="A study's .toml or .json file.", parser=file, metavar="SPEC"),
    ],
    out: Annotated[Path | None, folder_option("Folder; default genrobust-studies/NAME.")] = None,
    *,
    options: Options,
    shard: Annotated[
        str | None,
        typer.Option(help="Only this part of the models, such as 3/16, in a folder they share."),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="A few steps and sources, to see whether it runs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do, and how long; write nothing.")
    ] = False,
    collect: Annotated[
        bool, typer.Option("--collect", help="Only write table and page of what is there.")
    ] = False,
) -> None:
    """Train and bench many recipes and seeds; compare them.

    Writes a table, correlations with intervals and a page. The same command goes on where it was
    stopped, and does anew only what has changed in the study.
    """
    from genrobust.cli.study import study_one
    from genrobust.runner.plan import Partition

    part = None if shard is None else Partition.read(shard)
    study_one(spec, out, options, part, fast, dry_run, collect)


@app.command()
@command
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="A publication; without one, all are listed.")
    ] = None,
    data_root: DataRoot = None,
    checkpoints: Annotated[
        Path | None,
        folder_option("Folder with weights: NAME.safetensors of 'train', or published .pt files."),
    ] = None,
    reference: Annotated[
        Path | None,
        folder_option(
            "Folder with published results: thesis_matrices.csv, distortion_curves_2016.csv."
        ),
    ] = None,
    sources: Annotated[
        int | None, typer.Option(help="How many pictures are attacked; default the page's.", min=1)
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="A trial on a few digits; its numbers mean nothing.")
    ] = False,
    seed: Seed = 0,
    out: Annotated[Path, folder_option("Folder for the page.")] = Path("genrobust-reproduced"),
) -> None:
    """Measure again what a publication measured.

    Prints published beside measured, and writes NAME.md, NAME.json and figures. Run again, the same
    command does only what is missing.
    """
    from genrobust.cli.reproduce import print_publications, reproduce_one
    from genrobust.reproduce import Setup

    if name is None:
        print_publications()
        return
    say = partial(print, file=sys.stderr, flush=True)
    setup = Setup(out, data_root, checkpoints, reference, sources, fast, seed, say)
    with if_stopped(GOES_ON):
        reproduce_one(name, setup)


@app.command("list")
@command
def list_names(
    kind: Annotated[
        str,
        typer.Argument(
            help="models, attacks, objectives, datasets, judges, norms, rules, suites or executors."
        ),
    ],
) -> None:
    """List what is registered, plugins included.

    A name and what it is on each line.
    """
    from genrobust.cli.show import print_names

    print_names(kind)


@app.command()
@command
def show(
    kind: Annotated[str, typer.Argument(help="suite, attack, model or schema.")],
    name: Annotated[
        str, typer.Argument(help="Its name; for schema: record, suite, curve, entry, ...")
    ],
    dataset: Annotated[str, typer.Option(help="Of a model's card.")] = "digits",
) -> None:
    """Print a suite, an attack, a card or a schema.

    An attack with its settings, a model's card, or a JSON schema.
    """
    from genrobust.cli.show import print_one

    print_one(kind, name, dataset)


@app.command()
@command
def doctor() -> None:
    """Say what is installed, and what is missing.

    Versions, devices, extras, data sets and folders, and what to type for what is missing.
    """
    from genrobust.cli.doctor import examine

    examine()


def main() -> None:
    """The console script; what loads an archive does it in a child."""
    words = sys.argv[1:]
    if INSIDE in os.environ or os.name != "posix" or not is_foreign(words):
        app()
    else:  # with Python's own options as well, such as -I
        sys.exit(contained([sys.executable, *sys.orig_argv[1:]], limits_of(words)))
