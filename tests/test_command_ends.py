"""How commands end: exit codes and words, on streams that are odd, closed, full or gone."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import genrobust.cli.show
from genrobust.cli.app import app
from genrobust.cli.errors import command
from genrobust.cli.progress import progress
from genrobust.cli.streams import console
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.suites import Suite, load_suite

# Exit codes


def ended(raising: Callable[[], object], workers: int = 2) -> int:
    @command
    def work(workers: int) -> None:
        raising()

    with pytest.raises(SystemExit) as stop:
        work(workers)
    assert isinstance(stop.value.code, int)
    return stop.value.code


def throw(problem: BaseException) -> Callable[[], object]:
    def raising() -> None:
        raise problem

    return raising


def leave_a_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(sys.exit, 0).result()


LACK = {
    "Python": throw(MemoryError()),
    "numpy": lambda: np.empty(2**58),
    "torch on a CPU": lambda: torch.empty(2**50),
    "torch, more than there are addresses": lambda: torch.empty(2**62),
    "torch on a GPU": throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
    "CUDA itself": throw(RuntimeError("CUDA error: out of memory\nFor debugging consider ...")),
    "CUDA's libraries": throw(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")),
    "the system": throw(OSError(errno.ENOMEM, "Cannot allocate memory")),
}


@pytest.mark.parametrize("who", LACK)
def test_lack_of_memory_is_one_sentence_that_says_what_to_lower(
    who: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(LACK[who]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Error: there is too little memory")
    assert "give --workers 1" in said
    assert "--limit" not in said  # this command has none
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "problem",
    [ZeroDivisionError("x"), RuntimeError("mat1 and mat2 shapes"), OSError("x"), GeneratorExit()],
    ids=lambda problem: type(problem).__name__,
)
def test_a_bug_ends_with_3_its_traceback_and_a_word_that_it_is_one(
    problem: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(throw(problem)) == 3
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("This is a bug in genrobust")


def test_a_mistake_ends_with_2_and_its_line_is_not_broken_by_what_was_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ended(throw(GenrobustError("no file 'a\nb\x1b[31m\udcff'"))) == 2
    assert capsys.readouterr().err == "Error: no file 'a\\nb\\x1b[31m\\udcff'\n"


def test_what_is_to_be_known_is_told_once_in_each_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @command
    def warns() -> None:
        for what in ("one", "another", "one"):
            warnings.warn(what, GenrobustWarning, stacklevel=1)
        warnings.warn("of others' code", UserWarning, stacklevel=1)

    for _ in range(2):
        warns()
        assert capsys.readouterr().err == "Warning: one\nWarning: another\n"


@pytest.mark.parametrize(
    "leave",
    [
        lambda: sys.exit(0),
        lambda: sys.exit(),
        lambda: sys.exit("done"),
        lambda: os._exit(0),
        lambda: argparse.ArgumentParser().parse_args(["--help"]),
        leave_a_thread,
    ],
    ids=["0", "nothing", "words", "at once", "argparse", "a thread"],
)
def test_code_that_leaves_the_process_does_not_end_a_command_as_if_it_had_succeeded(
    leave: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(leave) == 2
    said = capsys.readouterr().err
    assert re.match(
        r"Error: code that was run ended the process \(SystemExit.*, line \d+\); ", said
    )


@pytest.mark.skipif(os.name != "posix", reason="a process is forked")
def test_a_process_that_code_has_forked_ends_as_it_likes() -> None:
    def fork() -> None:
        child = os.fork()
        if not child:
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3

    command(fork)()


def test_a_commands_own_exit_code_stays(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def verdict() -> None:
        raise typer.Exit(1)

    with pytest.raises(typer.Exit) as stop:
        verdict()
    assert stop.value.exit_code == 1
    assert CliRunner().invoke(app, ["bench", "--no-such-option"]).exit_code == 2


# Ctrl-C

GOES_ON, ANEW = "goes on from", "starts anew"


@pytest.mark.parametrize(
    ("words", "work", "then"),
    [
        ("bench --model vae", "genrobust.cli.running.execute", GOES_ON),
        ("curve --model vae", "genrobust.cli.running.execute", GOES_ON),
        ("train --model vae", "genrobust.cli.train.train_vae", "goes on from the last checkpoint"),
        ("train --judge lenet", "genrobust.cli.train.train_judge", ANEW),
        ("check vae", "genrobust.cli.check.check_model", ANEW),
        ("verify .", "genrobust.cli.verify.verify_all", ANEW),
        ("submit .", "genrobust.cli.submit.read_run_record", ANEW),
        ("leaderboard build", "genrobust.site.build.build", ANEW),
        ("list attacks", "genrobust.cli.show.print_names", ANEW),
        ("show suite digits", "genrobust.cli.show.print_one", ANEW),
    ],
)
def test_a_stopped_command_says_what_is_true_of_it(
    words: str, work: str, then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, stop)
    monkeypatch.setattr(os, "_exit", sys.exit)  # which would end the tests too
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 130
    said = done.output.splitlines()[-1]
    assert said.startswith("Stopped. ")
    assert then in said
    assert (GOES_ON in said) != (ANEW in said)


# Streams


def shell(line: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    python = f"'{sys.executable}' -m genrobust"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("genrobust", python, 1)],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("genrobust --help >&- 2>&-", 0),
        ("genrobust --version >/dev/full", 0),
        ("genrobust bench 2>&-", 2),
        ("genrobust show no x 2>/dev/full", 2),
        ("genrobust show schema record | true", 0),
        ("genrobust show schema record >&-", 0),
    ],
)
def test_odd_streams_change_no_exit_code(line: str, code: int, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words",
    [
        "show schema record",
        "status runs",
        "check vae",
        "reproduce",
        "bench --model vae --limit 2 --attack noise --eps 0.1 --dry-run",
        "curve --model vae --limit 2 --dry-run",
        "study study.toml --dry-run",
    ],
)
def test_words_that_are_all_a_command_gives_are_written_or_it_fails(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = 'name = "t"\ndataset = "digits"\nsuite = "digits-v2"\nlimit = 3\nattacks = ["noise"]\n'
    (tmp_path / "study.toml").write_text(f"{study}[settings]\nsteps = 2\n[recipes.vae]\n")
    run = tmp_path / "runs" / "digits-v2" / "vae"
    run.mkdir(parents=True)
    suite = load_suite("digits").model_dump(mode="json")
    plan = {"command": "genrobust bench --model vae", "identity": "", "purpose": "bench"}
    (run / "plan.json").write_text(json.dumps({**plan, "suite": suite, "shards": []}))
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            app(words.split())
    assert ended.value.code == 2
    assert "Error: standard output cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["0", "-1", "80"])
def test_tables_are_printed_whatever_width_is_said(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    console().print("a verdict")
    assert capsys.readouterr().out == "a verdict\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "code"),
    [(">/dev/full", 2), (">/dev/full 2>&-", 2), ("2>/dev/full | true", 0)],
)
def test_results_are_written_whatever_becomes_of_the_words(
    streams: str, code: int, small_suite: Suite, tmp_path: Path
) -> None:
    judge = load_suite("digits-v1").attacker_judge  # not the whole committee
    update = {"eps": (0.1,), "ensemble": False, "attacker_judge": judge}
    suite = small_suite.model_copy(update=update)
    (tmp_path / "small.json").write_text(suite.model_dump_json())
    words = "genrobust bench --model vae --suite small.json --limit 1 --attack noise"
    done = shell(f"{words} {streams}", tmp_path)
    assert done.returncode == code, done.stderr
    assert ("standard output cannot be written" in done.stderr) == (streams == ">/dev/full")
    assert list(tmp_path.rglob("report.html"))
    for path in tmp_path.rglob("*.*"):  # what libraries print has not gone into a file
        assert b"Warning" not in path.read_bytes() or path.suffix == ".html"


@pytest.mark.slow
def test_a_terminal_without_letters_gets_them_escaped(tmp_path: Path) -> None:
    done = shell("genrobust show 'vé' x | cat", tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 2, done.stderr
    assert "unknown kind 'v" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_streams_that_were_replaced_by_none_or_closed() -> None:
    script = (
        "import sys; sys.stdout.close(); sys.stderr = None; "
        "from genrobust.cli import main; sys.argv = ['genrobust', 'show', 'no', 'x']; main()"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 2


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What a terminal gets of a piece of work."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    watch()
    return screen.getvalue()


def watch() -> None:
    with progress("no[/kl]") as advance:
        for done in range(4):
            advance(done, 3, "loss [/b]")


def test_a_bar_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    words = shown(monkeypatch)
    assert "no[/kl]" in words
    assert "loss [/b]" in words
    assert re.search(r"\x1b\[3\d", words)  # colours


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_long_note_hides_neither_name_nor_share_nor_the_time_left(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress("vae") as advance:
        advance(12, 45)
        advance(12.2, 45, "classifier untargeted (steps=50, patience=2.0) at 0.1 on 12 of 25")
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()).split("\r")[-1]
    assert re.search(r"vae ━.* 27% 0:00:00 12/45, about \d+ .*left class", said), said


def test_no_color_takes_the_colours_of_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    words = shown(monkeypatch, NO_COLOR="1")
    assert "no[/kl]" in words
    assert not re.search(r"\x1b\[3\d", words)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    words = shown(monkeypatch, TERM="dumb")
    assert "\x1b" not in words
    assert "no[/kl]: 3/3, loss [/b]" in words


def test_a_terminal_that_goes_away_stops_no_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    def work(kind: str) -> None:
        monkeypatch.setattr(sys.stderr, "_stream", Gone())
        watch()
        (tmp_path / "result").touch()

    monkeypatch.setattr(genrobust.cli.show, "print_names", work)
    assert CliRunner().invoke(app, ["list", "models"]).exit_code == 0
    assert (tmp_path / "result").exists()
