"""Code of a user's own: what it raises is one sentence, what it sets is put back."""

from __future__ import annotations

import copy
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from principal import principal
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust import GenrobustError, files
from genrobust.batch import Batch, Context
from genrobust.cli.app import app
from genrobust.errors import QUOTED, telling
from genrobust.foreign import default_device, explain
from genrobust.models.wrapping import adapt
from genrobust.objectives.output import OutputDistance
from genrobust.optimizers import Problem
from genrobust.runner.executors.pool import run_all
from genrobust.suites import Suite

pytestmark = pytest.mark.usefixtures("brief")

MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    input_shape = (1, 32, 32)
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.5))
    def encode(self, x):
        return x.flatten(1) * self.weight
    def decode(self, z):
        return (z / self.weight).view(-1, 1, 32, 32)

def build():
    return Model()
"""


def file_of(folder: Path, top: str = "", inside: str = "") -> str:
    """A model's file with statements at its top level and in its function."""
    path = folder / "own.py"
    text = f"{top}\n{MODEL}"
    path.write_text(
        text.replace("    return Model()", f"    {inside or 'pass'}\n    return Model()")
    )
    return f"{path}:build"


ENDS = (
    "import sys; sys.exit(0)",
    "import sys; sys.exit('done')",
    "quit()",
    "exit(3)",
    "raise SystemExit",
    "raise KeyboardInterrupt",
    "import argparse; argparse.ArgumentParser().parse_args(['--help'])",
    "import argparse; p = argparse.ArgumentParser(); p.add_argument('data'); p.parse_args()",
)


@pytest.mark.parametrize("statement", ENDS)
@pytest.mark.parametrize("where", ["top", "inside"])
def test_a_file_that_ends_the_process_is_refused(
    statement: str, where: str, tmp_path: Path
) -> None:
    reference = file_of(tmp_path, **{where: statement})
    with pytest.raises(GenrobustError, match=r"ends the process .*own\.py, line \d+"):
        genrobust.load_model(reference)


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, 28)


def of_a_worker() -> None:
    calls = 'Original Traceback (most recent call last):\n  File "a.py", line 3\n    x = y[0]\n'
    raise IndexError(f"Caught IndexError in DataLoader worker process 0.\n{calls}IndexError: boom")


CAUSES: dict[str, tuple[Callable[[], Any], str]] = {
    "weights of another size": (
        lambda: nn.Linear(2, 3).load_state_dict(nn.Linear(4, 3).state_dict()),
        r"RuntimeError: Error\(s\) in loading state_dict for Linear: size mismatch for weight",
    ),
    "TorchScript": (
        lambda: torch.jit.script(Cut())(torch.zeros(1, 32)),
        r"RuntimeError: shape '\[-1, 28\]' is invalid for input of size 32; test_foreign",
    ),
    "a worker": (of_a_worker, "IndexError: boom; test_foreign"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_cause_is_told_where_the_first_line_is_a_heading(case: str) -> None:
    act, said = CAUSES[case]
    with pytest.raises(Exception, match=r".") as raised:
        act()
    assert re.match(said, explain(raised.value))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", ""),
        ("\n one \ntwo", "one"),
        ("one:\n\n\ttwo:\nthree\nfour", "one: two: three"),
        ("one:", "one:"),
        ("Traceback (most recent call last):\n  File", "Traceback (most recent call last): File"),
        (f"one:\n{'x' * QUOTED}", f"one: {'x' * QUOTED}"),
        (f"one:\n{'x' * QUOTED}y", f"one: {'x' * QUOTED}..."),
    ],
)
def test_an_error_is_told_in_a_line(words: str, told: str) -> None:
    assert telling(words) == told


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("build(size)", r"missing 1 required .*'size'.*; let it take no arguments, or give each a"),
        ("build()", r"failed \(TypeError: .*own\.py, line \d+\); mend that: .* without arguments"),
    ],
)
def test_a_function_that_takes_arguments_and_one_that_fails_are_two(
    function: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.py"
    path.write_text(f"def {function}:\n    return None + 1\n")
    with pytest.raises(GenrobustError, match=said):
        genrobust.load_model(f"{path}:build")


@pytest.mark.parametrize("command", [["check"], ["bench", "--model"], ["curve", "--model"]])
def test_the_commands_say_so(command: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*command, file_of(tmp_path, "import sys; sys.exit(0)")])
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_file_sees_the_arguments_of_a_plain_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["genrobust", "check", "--latents", "7"])
    parse = (
        "import argparse, sys; p = argparse.ArgumentParser(); p.add_argument('--latents');"
        "assert p.parse_args().latents is None; assert sys.argv == [__file__]; sys.argv.append('x')"
    )
    genrobust.load_model(file_of(tmp_path, top=parse, inside="import sys; assert sys.argv[1:]"))
    assert sys.argv == ["genrobust", "check", "--latents", "7"]


SETTINGS: dict[str, tuple[str, Callable[[], Any]]] = {
    "directory": ("import os; os.chdir('/')", os.getcwd),
    "dtype": ("torch.set_default_dtype(torch.float64)", torch.get_default_dtype),
    "device": ("torch.set_default_device('cpu:0')", default_device),
    "threads": ("torch.set_num_threads(3)", torch.get_num_threads),
    "gradients": ("torch.set_grad_enabled(False)", torch.is_grad_enabled),
    "anomalies": ("torch.autograd.set_detect_anomaly(True)", torch.is_anomaly_enabled),
    "deterministic": (
        "torch.use_deterministic_algorithms(True)",
        torch.are_deterministic_algorithms_enabled,
    ),
    "precision": (
        "torch.set_float32_matmul_precision('medium')",
        torch.get_float32_matmul_precision,
    ),
    "torch's generator": ("torch.manual_seed(4)", lambda: torch.get_rng_state().tolist()),
    "numpy's generator": (
        "import numpy; numpy.random.seed(4)",
        lambda: np.random.get_state()[1].tolist(),  # type: ignore[index,union-attr]
    ),
    "numpy's errors": ("import numpy; numpy.seterr(all='raise')", np.geterr),
    "path": ("import sys; sys.path.insert(0, '/nowhere')", lambda: list(sys.path)),
    "recursion": ("import sys; sys.setrecursionlimit(5000)", sys.getrecursionlimit),
    "filters": ("import warnings; warnings.simplefilter('error')", lambda: warnings.filters[:]),
    "signals": (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
        lambda: signal.getsignal(signal.SIGINT),
    ),
    "output": ("import io, sys; sys.stdout = io.StringIO()", lambda: sys.stdout),
    "closed output": ("import sys; sys.stdout.close()", lambda: sys.stdout.closed),
    "closed errors": ("import sys; sys.stderr.close()", lambda: sys.stderr.closed),
}


def test_a_device_that_torch_cannot_tell_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> torch.device:  # as torch 2.4 answers after set_default_device(None)
        raise AttributeError("'NoneType' object has no attribute 'device'")

    monkeypatch.setattr(torch, "get_default_device", lost)
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_file_sets_is_put_back(name: str, fails: bool, tmp_path: Path) -> None:
    statement, look = SETTINGS[name]
    before = look()
    reference = file_of(tmp_path, f"import torch\n{statement}", "raise ValueError" if fails else "")
    build = "raise ValueError" in Path(reference.rpartition(":")[0]).read_text()
    assert build == fails
    if fails:
        with pytest.raises(GenrobustError, match="ValueError"):
            genrobust.load_model(reference)
    else:
        genrobust.load_model(reference)
    assert look() == before


class Late(nn.Module):
    """An autoencoder of digits; after its checks one of its methods does something else."""

    input_shape = (1, 32, 32)

    def __init__(self, method: str, act: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(principal().module)
        self.method, self.act, self.armed = method, act, False

    def encode(self, x: Tensor) -> Any:
        if self.armed and self.method == "encode":
            return self.act(x)
        return self.net.encode(x)

    def decode(self, z: Tensor) -> Any:
        image: Tensor = self.net.decode(z).clamp(0, 1)
        return self.act(image) if self.armed and self.method == "decode" else image

    def deploy(self, x: Tensor) -> Any:
        image: Tensor = self.net.decode(self.net.encode(x)).clamp(0, 1)
        return self.act(image) if self.armed and self.method == "deploy" else image


def stop(x: Tensor) -> Tensor:
    raise ValueError("no\nmore")


def leave(x: Tensor) -> Tensor:
    sys.exit(0)


def interrupt(x: Tensor) -> Tensor:
    raise KeyboardInterrupt


def fill(x: Tensor) -> Tensor:
    return torch.empty(2**60)


def shrink(x: Tensor) -> Tensor:
    return x[:, :, 1:]


def lose(x: Tensor) -> Tensor:
    return x[1:]


def tell(x: Tensor) -> Any:
    return "an image"


HERE = r"test_foreign_code\.py, line \d+"
BY = {
    stop: rf"failed on a batch of shape .*ValueError: no; {HERE}.*'Late'",
    leave: rf"failed on a batch of shape .*SystemExit: 0; {HERE}.*'Late'",
    interrupt: rf"failed on a batch of shape .*KeyboardInterrupt; {HERE}.*'Late'",
    fill: rf"failed on a batch of shape .*{HERE}.*--workers 1, or lower --batch-size",
    shrink: r"(gave shape|decode failed) .*'Late'",
    lose: r"gave .*'Late'",
    tell: "returned a str",
}


@pytest.mark.parametrize("act", BY)
@pytest.mark.parametrize("method", ["encode", "decode", "deploy"])
def test_a_fault_in_a_run_is_one_sentence_and_finished_shards_stay(
    method: str,
    act: Callable[[Tensor], Any],
    small_suite: Suite,
    tmp_path: Path,
) -> None:
    module = Late(method, act)
    deploy = module.deploy if method == "deploy" else None
    model = genrobust.wrap(module, deploy=deploy)
    apart = {"rule": "distance", "attacker_judge": None, "scoring_judges": (), "eps": (0.1,)}
    suite = small_suite.limited(3).with_attacks(["noise"]).model_copy(update=apart)
    *first, third = genrobust.load_images("digits").take(suite.sample_ids)
    usual = module.net.encode

    def notice(x: Tensor) -> Any:
        if len(x) and torch.equal(x[0], third):
            module.armed = True
        return usual(x)  # type: ignore[operator]

    module.net.encode = notice  # type: ignore[assignment]
    with pytest.raises(GenrobustError, match=BY[act]) as raised:
        genrobust.bench(model, suite, workers=1, out=tmp_path)
    assert "\n" not in str(raised.value)
    (left,) = (tmp_path / "shards").iterdir()
    assert torch.equal(files.read_tensors(left)[0]["source"], torch.stack(first))


def test_a_real_interrupt_is_no_fault_of_the_models() -> None:
    def struck(x: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return x

    module = Late("encode", struck)
    model = genrobust.wrap(module)
    module.armed = True
    with pytest.raises(KeyboardInterrupt):
        model.encode(torch.zeros(1, 1, 32, 32))


def test_a_model_that_needs_the_main_thread_is_told_who_computes_there(
    small_suite: Suite, tmp_path: Path
) -> None:
    def within_a_second(x: Tensor) -> Any:
        before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, before)
        return module.net.encode(x)  # type: ignore[operator]

    module = Late("encode", within_a_second)
    module.armed = True
    model, suite = genrobust.wrap(module), small_suite.limited(2).with_attacks(["noise"])
    with pytest.raises(GenrobustError, match=r"main thread.*; give --executor processes"):
        genrobust.bench(model, suite, workers=1, out=tmp_path)
    genrobust.bench(model, suite, executor="serial", out=tmp_path)


class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.count = len(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        if ctx.count == 3:
            raise ValueError("three are too many")
        return gradient


def test_a_fault_in_a_backward_pass_is_named_too() -> None:
    module = Late("encode", lambda x: module.net.encode(Bad.apply(x)))  # type: ignore[operator]
    module.armed = True
    with pytest.raises(GenrobustError, match="gradient failed on a batch of shape"):
        genrobust.wrap(module)
    model = adapt(module)
    x = torch.zeros(3, 1, 32, 32)
    problem = Problem.of(OutputDistance(), Context(model, Batch(x, (0, 1, 2), target_x=x + 0.5)))
    words = rf"gradient failed on a batch of shape \(3, 1, 32, 32\) \(ValueError: three .*{HERE}"
    with pytest.raises(GenrobustError, match=words):
        problem.gradient(x)


def test_whether_gradients_are_recorded_is_nothing_a_model_decides() -> None:
    def turn_off(x: Tensor) -> Any:
        found = module.net.encode(x)  # type: ignore[operator]
        torch.set_grad_enabled(False)
        return found

    module = Late("encode", turn_off)
    module.armed = True
    model = genrobust.wrap(module)
    model.encode(torch.zeros(1, 1, 32, 32))
    assert torch.is_grad_enabled()


def test_each_shard_computes_with_one_thread() -> None:
    def work(item: int, cancelled: Callable[[], bool]) -> int:
        found = torch.get_num_threads()
        torch.set_num_threads(4)  # as a model may
        return found

    assert [result for _, result in run_all([1, 2], work, 1)] == [1, 1]


def test_memory_that_runs_out_elsewhere_is_one_sentence_too() -> None:
    def work(item: int, cancelled: Callable[[], bool]) -> Tensor:
        return torch.empty(2**60)

    with pytest.raises(
        GenrobustError, match=r"not enough memory .*--workers 1, lower --batch-size"
    ):
        list(run_all([1], work, 1))
