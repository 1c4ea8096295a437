"""The commands as a user types them: results, mistakes, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from genrobust.attacks import ATTACKS
from genrobust.cli.app import app
from genrobust.suites import Suite

pytestmark = pytest.mark.usefixtures("brief")

MODELS = """
import torch
from torch import nn

class Base(nn.Module):
    input_shape = (1, 32, 32)
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.5))
    def encode(self, x):
        return x.flatten(1) * self.weight
    def decode(self, z):
        return (z / self.weight).view(-1, 1, 32, 32)

class Bright(Base):
    def decode(self, z):
        return 300 * super().decode(z)

class Nan(Base):
    def decode(self, z):
        return super().decode(z) * float("nan")

class NoGradient(Base):
    @torch.no_grad()
    def encode(self, x):
        return super().encode(x)

class Restless(Base):
    def encode(self, x):
        return super().encode(x) * torch.rand(1)

class One(Base):
    def encode(self, x):
        return super().encode(x.view(1, 1, 32, 32))
    def forward(self, x):
        return self.decode(1 - self.encode(x))

def broken():
    return 1 / 0

def nothing():
    return None
"""


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "my models.py"
    path.write_text(MODELS)
    return path


@pytest.fixture
def suite_file(small_suite: Suite, tmp_path: Path) -> str:
    path = tmp_path / "small.json"
    few = small_suite.limited(2).with_attacks(["noise"]).with_eps([0.1])
    path.write_text(few.model_dump_json())
    return str(path)


def test_bench_writes_record_and_report_and_prints_a_table(suite_file: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, output = run(
        *("bench", "--model", "jointvae", "--model", "vae"),
        *("--suite", suite_file, "--out", str(out)),
    )
    assert code == 0, output
    assert "robust accuracy" in output
    for model in ("jointvae", "vae"):
        record = json.loads((out / "digits-v2" / model / "record.json").read_text())
        assert record["model"]["name"] == model
        assert (out / "digits-v2" / model / "report.html").exists()
    assert (out / "digits-v2" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "--model", "jointvea"], "did you mean 'jointvae'"),
        (["bench", "--model", "vae", "--suite", "digit"], "did you mean 'digits'"),
        (["bench", "--model", "vae", "--attack", "latnet"], "did you mean 'latent'"),
        (["bench", "--model", "vae", "--limit", "0"], "1 or more"),
        (["bench", "--model", "vae", "--eps", "-1"], "finite eps from 0 up"),
        (["bench", "--model", "vae", "--eps", "nan"], "finite eps from 0 up"),
        (["bench", "--model", "vae", "--attack", "latent", "--eps", "inf"], "finite eps from 0 up"),
        (["bench", "--model", "vae", "--attack", "camuto"], "works under l2, not linf"),
        (["bench", "--model", "vae", "--workers", "0"], "1 or more"),
        (["bench", "--model", "vae", "--device", "warp"], "cannot be used"),
        (["bench", "--model", "vae", "--weights", "no.pt"], "no weights file"),
        (["bench", "--model", "no.py:f"], "no file"),
        (["bench", "--model", "no_such_package:f"], "cannot be imported"),
        (["bench", "--model", "model.py"], "FUNCTION"),
        (["bench", "--model", "vae", "--weights", "a", "--weights", "b"], "in order"),
        (["bench"], "--model"),
        (["check", "vea"], "did you mean 'vae'"),
        (["train"], "give one of"),
        (["train", "--model", "vae", "--set", "step=3"], "penalty.beta"),
        (["train", "--model", "vae", "--set", "steps=many"], "integer"),
        (["train", "--judge", "lenett"], "did you mean 'lenet'"),
        (["train", "--model", "vae", "--dataset", "digit"], "did you mean 'digits'"),
        (["list", "atacks"], "did you mean 'attacks'"),
        (["show", "suite", "digit"], "did you mean 'digits'"),
        (["show", "attack", "latnet"], "did you mean 'latent'"),
        (["show", "model", "vea"], "did you mean 'vae'"),
        (["show", "schema", "records"], "did you mean 'record'"),
    ],
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run(*words)
    assert code == 2, output
    assert message in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("Bright", "value_range"),
        ("Nan", "NaN"),
        ("NoGradient", "no gradient reaches the image"),
        ("Restless", "draws random numbers"),
        ("broken", "ZeroDivisionError"),
        ("nothing", "NoneType"),
        ("missing", "has no function 'missing'"),
    ],
)
@pytest.mark.parametrize("verb", ["bench", "check"])
def test_a_bad_model_is_refused_before_anything_is_written(
    models: Path, function: str, message: str, verb: str, tmp_path: Path
) -> None:
    place = f"{models}:{function}"
    out = tmp_path / "out"
    words = ["check", place] if verb == "check" else ["bench", "--model", place, "--out", str(out)]
    code, output = run(*words)
    assert code == 2, output
    assert message in output
    assert not out.exists()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from genrobust.models.zoo import WEIGHTS

    code, output = run(
        *("check", "vae", "--weights", str(WEIGHTS / "digits" / "judge-lenet.safetensors"))
    )
    assert code == 2
    assert "do not fit" in output


def test_check_says_how_a_model_was_understood(models: Path) -> None:
    code, output = run("check", "jointvae")
    assert code == 0
    assert "10 Gaussian + one 10-way categorical" in output
    code, output = run("check", f"{models}:Base")
    assert code == 0
    assert "1024 point" in output


def test_check_takes_as_many_images_at_once_as_it_is_told(models: Path) -> None:
    code, output = run("check", f"{models}:One")
    assert code == 2
    assert "max_batch= or --batch-size" in output
    code, output = run("check", f"{models}:One", "--batch-size", "1")
    assert code == 0, output
    assert "gives something else than what is scored" in output
    code, output = run("check", f"{models}:One", "--batch-size", "0")
    assert code == 2
    assert "--batch-size, as 1 or more" in output


@pytest.mark.slow
def test_train_then_bench_what_was_trained(suite_file: str, tmp_path: Path) -> None:
    out = tmp_path / "trained"
    words = ("train", "--model", "vae", "--set", "steps=3", "--set", "network.gaussian=6")
    code, output = run(*words, "--out", str(out))
    assert code == 0, output
    card = json.loads((out / "vae.json").read_text())
    assert card["steps"] == 3
    assert card["architecture"]["gaussian"] == 6
    code, output = run(
        *("bench", "--model", "vae", "--weights", str(out / "vae.safetensors")),
        *("--suite", suite_file, "--out", str(tmp_path / "out")),
    )
    assert code == 0, output


def test_list_and_show(tmp_path: Path) -> None:
    assert set(ATTACKS.names()) <= set(run("list", "attacks")[1].split())
    assert {"classifier", "latent", "noise", "output", "thesis"} <= set(ATTACKS.names())
    assert "jointvae" in run("list", "models")[1].split()
    assert json.loads(run("show", "suite", "digits")[1])["dataset"] == "digits"
    assert json.loads(run("show", "model", "jointvae")[1])["kind"] == "vae"
    assert json.loads(run("show", "schema", "record")[1])["title"] == "Record"
    code, output = run("show", "attack", "thesis")
    assert code == 0
    assert "learning_rate = 0.001" in output


def _start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "genrobust", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_shard(folder: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not list(folder.rglob("shards/*.safetensors")):
        time.sleep(0.02)


@pytest.fixture
def long_suite(small_suite: Suite, tmp_path: Path) -> str:
    """Ten shards of one source each, so that a kill comes in the middle."""
    from genrobust.suites import load_suite

    attacks = tuple(
        entry.model_copy(update={"settings": {**entry.settings, "steps": 20}})
        if "steps" in entry.settings
        else entry
        for entry in small_suite.attacks
    )
    update = {"chunk_size": 1, "attacks": attacks, "eps": (0.05, 0.1), "resamples": 100}
    suite = load_suite("digits").limited(5).model_copy(update=update)
    path = tmp_path / "long.json"
    path.write_text(suite.model_dump_json())
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_and_run_again_it_ends_the_same(
    long_suite: str, tmp_path: Path, end: signal.Signals
) -> None:
    words = ["bench", "--model", "jointvae", "--suite", long_suite]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    process = _start([*words, "--out", str(stopped)])
    _wait_for_shard(stopped, process)
    process.send_signal(end)
    _, errors = process.communicate()
    assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL), errors
    if end is signal.SIGINT:
        assert "goes on from here" in errors
    done = {path: path.stat().st_mtime_ns for path in stopped.rglob("shards/*.safetensors")}
    assert 0 < len(done) < 5
    assert not list(stopped.rglob("record.json"))
    for folder in (stopped, whole):
        process = _start([*words, "--out", str(folder)])
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    texts = []
    for folder in (stopped, whole):
        record = json.loads(next(folder.rglob("record.json")).read_text())
        del record["times"]
        texts.append(json.dumps(record))
    assert texts[0] == texts[1]


@pytest.mark.skipif(os.name != "posix", reason="a process is sent Ctrl-C")
@pytest.mark.parametrize(
    "then",
    [
        "raise GenrobustError('broken by it')",
        "raise ValueError('broken by it')",
        "raise SystemExit(5)",
        "warnings.warn('broken by it', GenrobustWarning)",
        "advance(1, 2)",
    ],
)
@pytest.mark.parametrize("says", [True, False])
def test_ctrl_c_is_heard_where_the_code_that_it_reached_kept_it_to_itself(
    then: str, says: bool
) -> None:
    script = f"""
import os, signal, warnings
from contextlib import nullcontext
from genrobust.cli.errors import GOES_ON, command, if_stopped
from genrobust.cli.progress import progress
from genrobust.errors import GenrobustError, GenrobustWarning

@command
def act():
    with if_stopped(GOES_ON) if {says} else nullcontext(), progress("act") as advance:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            pass
        {then}
        print("it goes on")

act()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    told = "The same command " + ("goes on from here." if says else "starts anew.")
    assert (done.stdout, done.stderr) == ("", f"\nStopped. {told}\n")


@pytest.mark.skipif(os.name != "posix", reason="a process is sent Ctrl-C")
@pytest.mark.parametrize("place", ["genrobust.cli.app", "typer.main", "genrobust.cli.show"])
def test_ctrl_c_while_commands_are_imported_is_one_sentence(place: str) -> None:
    script = f"""
import os, signal, sys

class Stops:
    def find_spec(self, name, *_):
        if name == "{place}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Stops())
from genrobust.cli import main
sys.argv = ["genrobust", "list", "attacks"]
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    early = place != "genrobust.cli.show"
    told = "Stopped before anything began." if early else "Stopped. The same command starts anew."
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"\n{told}\n")


def test_import_and_help_are_quick_because_they_import_nothing_heavy() -> None:
    script = (
        "import sys, genrobust; from genrobust.cli.app import app; "
        "from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print(sorted({'torch', 'numpy', 'scipy', 'matplotlib', 'sklearn', 'art', 'foolbox'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_checks_and_runs_do_not_wait_for_what_few_of_them_need() -> None:
    script = (
        "import sys, genrobust, genrobust.benchmarking; "
        "print(sorted({'scipy.stats', 'scipy.optimize', 'sklearn', 'pandas', 'matplotlib'} "
        "& set(sys.modules))); "
        "import torch; m = genrobust.load_model('vae').module; "
        "m.forward = lambda x: m.decode(torch.randn(len(x), 10)); "
        "genrobust.wrap(m, input_shape=(1, 32, 32)); "  # asks how forward draws
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"], done.stderr


def test_out_of_a_terminal_progress_is_plain_lines(suite_file: str, tmp_path: Path) -> None:
    words = ["bench", "--model", "vae", "--suite", suite_file, "--attack", "noise"]
    code, output = run(*words, "--out", str(tmp_path / "out"))
    assert code == 0, output
    assert "vae: 1/1" in output
    assert "\x1b" not in output


def test_a_folder_behind_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    """A disk that is not mounted; it was said that the run's folders hold other files."""
    link = tmp_path / "runs"
    link.symlink_to(tmp_path / "scratch")
    code, output = run("bench", "--model", "vae", "--limit", "1", "--out", str(link / "mine"))
    assert code == 2
    assert "is a link to" in output


@pytest.mark.skipif(os.name != "posix", reason="needs a folder that root cannot write to either")
def test_an_out_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    code, output = run("bench", "--model", "vae", "--limit", "1", "--out", "/proc/genrobust")
    assert code == 2
    assert "--out" in output
