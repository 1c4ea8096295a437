"""Values that options cannot take: each is one sentence and exit code 2, and nothing is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.errors import GenrobustError

#: What each test finds where it runs: a file, a folder, and an entry of the leaderboard.
FILE, FOLDER, ENTRY = "a-file", "a-folder", "an-entry"
#: More than a file's name can be, and what no terminal shows: bytes that are no UTF-8, and escapes.
LONG, BYTES = "x" * 300, "\udcff\x1b[31m"

#: What each command is given besides: enough to do something, and quickly.
BASE = {
    "bench": ["--model", "vae", "--limit", "1", "--attack", "noise", "--eps", "0.05"],
    "curve": ["--model", "vae", "--limit", "1"],
    "check": ["vae"],
    "submit": [FOLDER],
    "verify": [ENTRY],
    "publish": [ENTRY, "--url", "https://x.org/evidence.zip", "--card", "card.md"],
    "doctor": [],
    "status": [FOLDER],
    "train": ["--model", "vae", "--set", "steps=1"],
    "study": ["study.toml", "--fast"],
    "reproduce": ["auddc", "--fast"],
    "list": ["attacks"],
    "show": ["suite", "digits"],
    "collect": [FOLDER],
    "suite make": ["--model", "vae", "--data", "digits", "--sources", "4", "--out", "made.json"],
    "leaderboard build": [],
    "leaderboard serve": ["--port", "0"],
}

COUNTS = ["0", "-1", "x", "1.5", "", "nan"]
SEEDS = ["-1", "x", "1.5", "", str(2**64), str(10**30)]
RADII = ["-1", "nan", "inf", "-inf", "x", "", "1e400"]
DEVICES = ["meta", "mps", "xyz", "", "cuda:99", "cpu:x", "vulkan"]
MODELS = [
    "",
    ":",
    "vea",
    "no.py:f",
    ":f",
    "vae:",
    "no_such:f",
    FILE,
    FOLDER,
    f"{FOLDER}:f",
    LONG,
    BYTES,
]
SUITES = [
    "",
    "digit",
    FOLDER,
    FILE,
    "no.json",
    f"{FOLDER}.json",
    f"{FILE}.json",
    LONG,
    BYTES,
    f"{LONG}.json",
]
WEIGHTS = ["", FILE, FOLDER, "no.pt", LONG, BYTES, "no.safetensors"]
JUDGES = ["", "lenett", LONG, BYTES, "../lenet"]
DATASETS = ["", "digit", FOLDER, LONG, BYTES, "../digits"]
PICTURES = ["", "digit", FILE, FOLDER, f"{FILE}:f", "no.npz", "no.py:f", "?channels=rgb"]
PICTURES += [LONG, BYTES]
OUTS = ["", FILE, f"{FILE}/below", "/proc/genrobust", LONG]
ROOTS = [FILE, f"{FILE}/below", LONG]

BAD = {
    "bench": {
        "--model": MODELS,
        "--suite": SUITES,
        "--weights": WEIGHTS,
        "--limit": COUNTS,
        "--data": PICTURES,
        "--sources": [*COUNTS, "1", "5"],
        "--attack": ["", "latnet", "foolbox:", "foolbox:No", "art:", LONG, BYTES, "camuto"],
        "--norm": ["", "l3", "linf2", "L2", "0"],
        "--eps": RADII,
        "--judge": [*JUDGES, "no.safetensors", f"{FILE}:f", "digits"],
        "--rule": ["", "singel", LONG, BYTES, "single", "distance"],
        "--seed": SEEDS,
        "--out": OUTS,
        "--device": DEVICES,
        "--workers": COUNTS,
        "--executor": ["", "process", LONG, BYTES],
        "--shard": ["", "0/3", "4/3", "x", LONG],
        "--data-root": ROOTS,
        "--judge-root": ROOTS,
    },
    "curve": {
        "--model": MODELS,
        "--suite": SUITES,
        "--weights": WEIGHTS,
        "--norm": ["", "l3", "linf2", "L2", "0"],
        "--radius": [*RADII, "0"],
        "--limit": COUNTS,
        "--seed": SEEDS,
        "--out": OUTS,
        "--device": DEVICES,
        "--workers": COUNTS,
        "--executor": ["", "process", LONG, BYTES],
        "--shard": ["", "0/3", "4/3", "x", LONG],
        "--data-root": ROOTS,
        "--judge-root": ROOTS,
    },
    "check": {
        "MODEL": MODELS,
        "--weights": WEIGHTS,
        "--data": PICTURES,
        "--dataset": DATASETS,
        "--data-root": ROOTS,
    },
    "suite make": {
        "--model": MODELS,
        "--data": PICTURES,
        "--out": ["", FILE, f"{FILE}/below.json", "no-suffix", LONG],
        "--weights": WEIGHTS,
        "--judge": [*JUDGES, "no.safetensors"],
        "--sources": [*COUNTS, "1"],
        "--eps": RADII,
        "--rule": ["", "singel", LONG, BYTES],
        "--device": DEVICES,
        "--data-root": ROOTS,
    },
    "train": {
        "--model": ["", "vea", LONG, BYTES, "no.py:f", "../vae", FILE],
        "--judge": [*JUDGES, FILE],
        "--beside": [*JUDGES, "no.safetensors", "lenet"],
        "--dataset": DATASETS,
        "--set": ["", "steps", "=", "step=3", "steps=", "steps=0", "network=", "steps.x=1"],
        "--seed": SEEDS,
        "--device": DEVICES,
        "--out": OUTS,
        "--data-root": ROOTS,
    },
    "submit": {
        "RUN": ["", FILE, FOLDER, "no", LONG, BYTES],
        "--weights": ["", FOLDER, LONG],
        "--entries": OUTS[:3],
        "--data-root": ROOTS,
    },
    "verify": {
        "PATH": ["", FOLDER, "no", LONG, BYTES, "no.zip"],
        "--depth": ["", "deep", "REPLAY"],
        "--share": ["0", "-1", "1.5", "nan", "inf", "x", ""],
        "--seed": SEEDS,
        "--weights": ["", FOLDER, LONG],
        "--workers": COUNTS,
        "--data-root": ROOTS,
        "--json": ["", FOLDER, LONG],
    },
    "collect": {"RUN": ["", FILE, FOLDER, "no", LONG, BYTES]},
    "publish": {
        "RUN": ["", FILE, FOLDER, "no", LONG, BYTES],
        "--url": ["", "ftp://x", "https://x/#y"],
        "--card": ["", FOLDER, LONG],
        "--eval-results": ["", FILE, LONG],
        "--benchmark": ["", "owner/name"],
        "--data-root": ROOTS,
    },
    "doctor": {},
    "status": {"RUN": ["", FILE, FOLDER, "no", LONG, BYTES]},
    "study": {
        "SPEC": ["", FILE, FOLDER, "no.toml", LONG, BYTES, f"{FILE}.json", f"{FOLDER}.json"],
        "--out": OUTS,
        "--executor": ["", "process", LONG, BYTES],
        "--device": DEVICES,
        "--shard": ["", "0/3", "4/3", "x", LONG],
        "--data-root": ROOTS,
        "--judge-root": ROOTS,
    },
    "reproduce": {
        "NAME": ["", "thesiss", LONG, BYTES, FILE],
        "--sources": ["100000"],
        "--seed": SEEDS,
        "--checkpoints": ["", FILE, FOLDER, "no", LONG, BYTES],
        "--reference": ["", FILE, FOLDER, "no", LONG, BYTES],
        "--out": OUTS,
        "--data-root": ROOTS,
    },
    "list": {"KIND": ["", "atacks", LONG, BYTES]},
    "show": {
        "KIND": ["", "suites", LONG, BYTES],
        "NAME": ["", "digit", LONG, BYTES, FILE, FOLDER, f"{FILE}.json", f"{FOLDER}.json"],
        "--dataset": [],
    },
    "leaderboard build": {
        "--entries": ["", FILE, "no", LONG, BYTES],
        "--out": ["", FILE, f"{FILE}/below", "/proc/genrobust", LONG],
        "--depth": ["deep", ""],
        "--data-root": ["", FILE, LONG, BYTES],
    },
    "leaderboard serve": {
        "--entries": [FILE, "no", LONG, BYTES],
        "--runs": [FILE, "no", LONG, BYTES],
        "--port": ["-1", "65536", "x", "", "1.5"],
    },
}


def line(command: str, option: str, value: str) -> list[str]:
    words = list(BASE[command])
    if option.startswith("--"):
        if option in words and option not in ("--eps", "--attack", "--set"):
            place = words.index(option)
            del words[place : place + 2]
        if (command, option) == ("train", "--judge"):
            words = []
        return [*command.split(), *words, f"{option}={value}"]
    position = {"NAME": 1}.get(option, 0)
    words[position] = value
    return [*command.split(), *words]


def takes(command: str) -> dict[str, str]:
    """The options of a command that take a value, each with its kind, as its help says."""
    shown = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=200)
    return dict(re.findall(r"^ +(--[a-z-]+) (\S+)", shown.output, flags=re.M))


def bad(command: str) -> dict[str, list[str]]:
    """The table's values, and those that no whole number can have."""
    whole = [option for option, kind in takes(command).items() if "int" in kind.lower()]
    return {**dict.fromkeys(whole, COUNTS), **BAD[command]}


CASES = [
    pytest.param(command, option, value, id=f"{command} {option} {value[:30]!r}")
    for command in BAD
    for option, values in bad(command).items()
    for value in values
]


@pytest.fixture
def place(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(repository / "leaderboard/entries/digits-v1/zoo-betavae", tmp_path / ENTRY)
    for name in (FILE, f"{FILE}.json"):
        (tmp_path / name).write_text("neither tensors nor JSON")
    (tmp_path / "study.toml").write_text('dataset = "digits"\n[recipes.vae]\n')
    for name in (FOLDER, f"{FOLDER}.json"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.mark.parametrize(("command", "option", "value"), CASES)
def test_a_value_that_an_option_cannot_take(
    command: str, option: str, value: str, place: Path
) -> None:
    before = tree(place)
    done = CliRunner().invoke(app, line(command, option, value))
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    errors = [one for one in done.output.splitlines() if one.startswith("Error: ")]
    assert len(errors) == 1, done.output
    assert tree(place) == before


#: Options that take any text, or whose texts are checked elsewhere.
TEXTS = {"--name", "--author", "--link", "--licence", "--training-data", "--family", "--note"}
TEXTS |= {"--slug", "--source", "--attack-on", "--recipe"}


@pytest.mark.parametrize("command", BAD)
def test_every_option_that_takes_a_value_is_tried(command: str) -> None:
    options = set(takes(command))
    if command in ("submit", "verify"):  # of a model that goes along, it is never looked at
        options -= {"--model"}
    if command == "verify":  # of a run on pictures of one's own, which an entry is none of
        options -= {"--data"}
    assert options - TEXTS <= set(bad(command))


def test_every_command_is_tried() -> None:
    def listed(*group: str) -> set[str]:
        shown = CliRunner().invoke(app, [*group, "--help"]).output
        return set(re.findall(r"^  ([a-z]+)  ", shown.partition("Commands:")[2], flags=re.M))

    groups = {"leaderboard", "suite"}
    found = {f"{group} {name}" for group in groups for name in listed(group)}
    assert found | listed() - groups == set(BAD)


@pytest.mark.parametrize(
    "words",
    [
        ("model", "bench", "--model", ""),
        ("model", "check", ""),
        ("model", "train", "--model", ""),
        ("suite", "bench", "--model", "vae", "--suite", ""),
        ("suite", "show", "suite", ""),
        ("dataset", "check", "vae", "--dataset", ""),
        ("dataset", "train", "--model", "vae", "--dataset", ""),
    ],
    ids=" ".join,
)
def test_an_empty_word_is_not_the_current_folder(words: tuple[str, ...]) -> None:
    """As it is where a variable of the shell is not set."""
    kind, *typed = words
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 2
    assert f"Error: unknown {kind} ''; known: " in done.output


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_refused_and_not_taken_as_none(name: str, tmp_path: Path) -> None:
    said = "the name of a run is empty; give what it and its model are called, or leave it out"
    with pytest.raises(GenrobustError, match=said):
        genrobust.bench("vae", name=name, out=tmp_path / "out")
    words = ["bench", "--model", "vae", "--name", name, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.output) == (2, f"Error: {said}\n")
    assert not list(tmp_path.iterdir())
