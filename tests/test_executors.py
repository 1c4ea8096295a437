"""Who computes a run's shards changes no byte of it, and whatever happens to workers neither."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from brief_signs import brief_signs
from told import cli
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.files import read_tensors
from genrobust.runner import curve
from genrobust.runner.execute import Work, results
from genrobust.runner.executors import EXECUTORS, Executor
from genrobust.runner.executors.worker import answer, finished
from genrobust.runner.options import Options
from genrobust.runner.plan import plan
from genrobust.runner.prepare import prepare
from genrobust.runner.task import Task, read_task
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = pytest.mark.filterwarnings("ignore:.*decode takes more than its code")

#: The zoo's vae as a file, whose decoder uses what its encoder saw; it marks who uses it, and can
#: kill or hold up the process that does, once a shard of the run is done.
MODEL = """
import os, pathlib, time
import genrobust
from torch import nn

PLACE = pathlib.Path(os.environ["PLACE"])

class Skips(nn.Module):
    input_shape = (1, 32, 32)

    def __init__(self):
        super().__init__()
        self.net = genrobust.load_model("vae").module
        self.kept = None

    def encode(self, x):
        happen()
        self.kept = x
        part = self.net.encode(x).parts[0]
        return part.mean, part.logvar

    def decode(self, z):
        return 0.9 * self.net.decode(z) + 0.1 * self.kept

def happen():
    if str(os.getpid()) == os.environ["DRIVER"] or not (PLACE / "happen").exists():
        return
    (PLACE / f"pid-{os.getpid()}").touch()
    if any(PLACE.glob("out/**/*.safetensors")):
        while (PLACE / "hang").exists():
            time.sleep(0.1)
        kill = PLACE / "kill"
        try:
            if kill.read_text() == "once":
                kill.unlink()  # of two processes one
        except FileNotFoundError:
            pass
        else:
            os.kill(os.getpid(), 9)
    if (PLACE / "raise").exists():
        raise ZeroDivisionError("on purpose")

build = Skips
"""


class Scene:
    """A folder with a model's file and a suite of three shards, and what is to happen there."""

    def __init__(self, place: Path, suite: Suite) -> None:
        self.place, self.suite, self.out = place, suite, place / "out"
        self.model = f"{place / 'model.py'}:build"
        (place / "model.py").write_text(MODEL)
        (place / "suite.json").write_text(suite.model_dump_json())

    def happens(self, what: str, how: str = "") -> None:
        for name in ("happen", what):
            (self.place / name).write_text(how)

    def bench(self, executor: str, workers: int, out: str = "out") -> str:
        folder = self.place / out
        genrobust.bench(self.model, self.suite, executor=executor, workers=workers, out=folder)
        return comparable(folder)

    def workers(self) -> list[int]:
        return [int(path.name[4:]) for path in self.place.glob("pid-*")]


def comparable(folder: Path) -> str:
    """The record without its times, and what the shards hold."""
    (path,) = folder.rglob("record.json")
    record = json.loads(path.read_text())
    del record["times"]
    found = sorted(path.parent.glob("shards/*"))
    hashes = [read_tensors(shard)[1]["sha256"] for shard in found]
    return json.dumps([record, [shard.name for shard in found], hashes])


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(true: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cheap(small_suite: Suite) -> Suite:
    attack = AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 3})
    update = {"name": "cheap", "chunk_size": 1, "eps": (0.1,), "attacks": (attack,)}
    update |= {"attacker_judge": load_suite("digits-v1").attacker_judge}  # not the whole committee
    return small_suite.limited(3).model_copy(update=update)


@pytest.fixture
def scene(tmp_path: Path, cheap: Suite, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("DRIVER", str(os.getpid()))
    return Scene(tmp_path, cheap)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_a_model_that_keeps_state_is_itself(
    scene: Scene,
) -> None:
    scene.happens("kill", "once")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".* it runs one shard at a time", GenrobustWarning)
        found = scene.bench("processes", 2)
    assert not (scene.place / "kill").exists()
    assert len(scene.workers()) == 3
    assert found == scene.bench("serial", 1, out="alone")
    assert not any(map(alive, scene.workers()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise", r"model's encode failed .*ZeroDivisionError: on purpose; model\.py, line"),
        ("kill", r"a worker process ended 3 times within one shard \(the last time by signal 9\)"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_one_sentence(scene: Scene, what: str, words: str) -> None:
    scene.happens(what)
    with pytest.raises(GenrobustError, match=words):
        scene.bench("processes", 1)
    until(lambda: not any(map(alive, scene.workers())))
    assert not (scene.out / "record.json").exists()


@pytest.mark.slow
def test_workers_find_the_code_that_python_without_assertions_finds(
    cheap: Suite, tmp_path: Path
) -> None:
    (tmp_path / "suite.json").write_text(cheap.limited(1).model_dump_json())
    (tmp_path / "mine.py").write_text(
        "import genrobust\n\n\ndef build():\n"
        "    vae = genrobust.load_model('vae').module\n\n"
        "    def decode(z):\n        assert z.ndim == 2\n        return vae.decode(z)\n\n"
        "    return genrobust.wrap(vae, encode=vae.encode, decode=decode)\n"
    )
    words = ["bench", "--model", "mine.py:build", "--suite", "suite.json"]
    command = [sys.executable, "-OO", "-m", "genrobust", *words, "--executor", "processes"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def alone(cheap: Suite, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process makes of the suite."""
    folder = tmp_path_factory.mktemp("alone")
    genrobust.bench("vae", cheap, executor="serial", out=folder)
    return comparable(folder)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes", "ray", "posted"])
def test_any_executor_and_any_number_of_workers_give_the_same_bytes(
    executor: str, cheap: Suite, alone: str, tmp_path: Path, posted: None
) -> None:
    """In any order too: the last goes through the shards from behind."""
    if executor == "ray":
        pytest.importorskip("ray")
    for workers in (1, 3) if executor != "posted" else (1,):
        folder = tmp_path / str(workers)
        genrobust.bench("vae", cheap, executor=executor, workers=workers, out=folder)
        assert comparable(folder) == alone


@pytest.mark.slow
def test_what_a_node_that_is_removed_was_doing_is_done_elsewhere(scene: Scene) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    scene.happens("hang")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, logging_level="error", log_to_driver=False)

        def remove_one() -> None:
            until(lambda: len(scene.workers()) == 2 and any(scene.out.rglob("*.safetensors")))
            cluster.remove_node(nodes[0])
            (scene.place / "hang").unlink()

        removal = threading.Thread(target=remove_one)
        removal.start()
        found = scene.bench("ray", 2)
        removal.join()
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2  # the head, and one
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert found == scene.bench("serial", 1, out="alone")


@pytest.mark.slow
def test_what_draws_draws_the_same_in_any_process(cheap: Suite, tmp_path: Path) -> None:
    how = {"judge": "thesis", "rule": "single-live"}
    for executor, workers in (("serial", 1), ("processes", 2)):
        folder = tmp_path / executor
        genrobust.bench("vae", cheap, **how, executor=executor, workers=workers, out=folder)
    assert comparable(tmp_path / "serial") == comparable(tmp_path / "processes")


@pytest.mark.slow
def test_a_curve_is_the_same_from_processes(cheap: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = AttackEntry(attack="fmn", goal="untargeted", settings={"confidence": 2.0, "steps": 12})
    monkeypatch.setattr(curve, "SEARCHES", (quick,))
    suite = cheap.limited(1)
    alone = genrobust.minimum_norm("vae", suite, executor="serial")
    found = genrobust.minimum_norm("vae", suite, executor="processes", workers=1)
    assert found.sources == alone.sources


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to see who runs")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command_and_another_executor_goes_on(
    scene: Scene, how: signal.Signals
) -> None:
    scene.happens("hang")
    words = ["bench", "--model", scene.model, "--suite", str(scene.place / "suite.json")]
    words += ["--executor", "processes", "--workers", "2", "--out", str(scene.out)]
    code = "import os; os.environ['DRIVER'] = str(os.getpid()); import genrobust.cli as cli; "
    code += "cli.main()"
    driver = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(scene.workers()) == 2 and any(scene.out.rglob("*.safetensors")))
    time.sleep(1)  # until all hang
    assert all(map(alive, scene.workers()))
    if how == signal.SIGINT:
        os.killpg(driver.pid, how)  # as a terminal does
    else:
        driver.kill()
    said = driver.communicate(timeout=30)[1]
    until(lambda: not any(map(alive, scene.workers())), 10)
    if how == signal.SIGINT:
        assert driver.returncode == 130
        assert "goes on from here" in said
        assert "Traceback" not in said
    (scene.place / "hang").unlink()
    (folder,) = (scene.out / "cheap-v2").iterdir()
    done = {path.name: path.stat().st_mtime_ns for path in folder.glob("shards/*.safetensors")}
    assert done
    resumed = scene.bench("serial", 1, out=str(folder))
    assert resumed == scene.bench("threads", 1, out="alone")
    for name, written in done.items():
        assert (folder / "shards" / name).stat().st_mtime_ns == written


# What travels


class Posted(Executor):
    """Another process is played by this one."""

    def run(self, tasks: Sequence[Task], workers: int) -> Generator[str, None, None]:
        said: set[str] = set()
        for task in reversed(tasks):
            yield finished(answer(json.dumps(json.loads(task.text()))), said)


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXECUTORS._registered, "posted", Posted)


def tasks(folder: Path, suite: Suite, **options: Any) -> list[Task]:
    prepared = prepare("vae", suite, Options(executor="processes", workers=1, **options))
    shards = plan(prepared.suite, prepared.model.fingerprint, prepared.options.seed, "cpu")
    return [Task(shard, folder, prepared) for shard in shards]


def test_options_travel_and_what_they_make_of_the_suite_is_made_again(
    cheap: Suite, tmp_path: Path
) -> None:
    options = {"limit": 2, "seed": 5, "norm": "l2", "eps": (0.3,), "judge": "thesis"}
    here = tasks(tmp_path, cheap, attacks=("noise",), rule="single-live", **options)
    there = [read_task(task.text()) for task in here]
    assert [task.shard for task in there] == [task.shard for task in here]
    assert there[0].prepared.suite == here[0].prepared.suite
    assert there[0].prepared is there[1].prepared  # it is loaded once
    assert there[0].prepared.loaded.scorer.model is not here[0].prepared.loaded.scorer.model


def test_a_task_of_another_model_version_or_device_is_refused(cheap: Suite, tmp_path: Path) -> None:
    text = json.loads(tasks(tmp_path, cheap)[0].text())
    for change, words in [
        ({"spec": {"identity": "0" * 64}}, "not the one that the run began with"),
        ({"shard": {"device": "cuda"}}, "not the one that the run began with"),
        ({"shard": {"genrobust": "0.0.1"}}, r"of genrobust 0\.0\.1, and its worker has"),
        ({"spec": {"model": "no-such"}}, "cannot prepare .*unknown model 'no-such'"),
    ]:
        changed = {
            key: {**value, **change.get(key, {})} if isinstance(value, dict) else value
            for key, value in text.items()
        }
        with pytest.raises(GenrobustError, match=words):
            finished(answer(json.dumps(changed)), set())


def test_a_bug_in_a_worker_keeps_its_traceback_and_a_warning_is_said_once(
    cheap: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tasks(tmp_path, cheap)[0].text()

    def warns(task: Task) -> None:
        warnings.warn("careful", GenrobustWarning, stacklevel=1)

    monkeypatch.setattr(Task, "compute", warns)
    said: set[str] = set()
    with pytest.warns(GenrobustWarning, match="careful") as told:
        keys = {finished(answer(text), said) for _ in range(2)}
    assert (len(keys), len(told)) == (1, 1)
    monkeypatch.setattr(Task, "compute", lambda task: 1 / 0)
    with pytest.raises(RuntimeError, match=r"in a worker:\n(.*\n)*ZeroDivisionError"):
        finished(answer(text), said)


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_a_live_model_stays_in_its_process(executor: str, cheap: Suite) -> None:
    with pytest.raises(GenrobustError, match=r"live object; give its name or FILE\.py:FUNCTION"):
        genrobust.bench(genrobust.load_model("vae"), cheap, executor=executor)


def test_an_executor_that_is_not_there_or_has_no_use_for_so_many(cheap: Suite) -> None:
    with pytest.raises(
        GenrobustError, match="unknown executor 'process'; did you mean 'processes'"
    ):
        genrobust.bench("vae", cheap, executor="process")
    with pytest.raises(
        GenrobustError, match="--workers is 3, and the executor 'serial' has use for 1"
    ):
        genrobust.bench("vae", cheap, executor="serial", workers=3)


def test_ray_is_asked_for_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(GenrobustError, match=r"pip install 'genrobust\[ray\]'"):
        list(EXECUTORS.get("ray")().run([], 1))


def test_what_an_executor_leaves_out_is_no_result(
    cheap: Suite, tmp_path: Path, posted: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Posted, "run", lambda self, tasks, workers: (t.key for t in tasks))
    with pytest.raises(GenrobustError, match=r"3 of 3 shards are not there .*'posted'"):
        genrobust.bench("vae", cheap, executor="posted", out=tmp_path)
    assert not (tmp_path / "record.json").exists()


class Noted(Work[int]):
    """Work that is done at once, and whose result is seen at the second look after that."""

    def __init__(self, number: int) -> None:
        self.number, self.looks = number, -1

    @property
    def key(self) -> str:
        return str(self.number)

    def compute(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        self.looks = 0
        return True

    def found(self) -> int | None:
        self.looks += self.looks >= 0
        return self.number if self.looks > 1 else None


def test_a_result_that_a_shared_folder_shows_late_is_taken() -> None:
    found = results([Noted(number) for number in range(3)], "serial", 1)
    assert sorted(found) == [(0, 0), (1, 1), (2, 2)]


def test_an_executor_that_takes_other_arguments_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Distant(Posted):
        def __init__(self, server: str) -> None:
            self.server = server

    monkeypatch.setitem(EXECUTORS._registered, "distant", Distant)
    with pytest.raises(
        GenrobustError, match=r"the executor 'distant' failed \(TypeError: .*server"
    ):
        list(results([Noted(0)], "distant", 1))


@pytest.mark.slow
def test_parts_of_a_run_are_computed_anywhere_and_collected(cheap: Suite, tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text(cheap.model_dump_json())
    run = ("bench", "--model", "vae", "--suite", tmp_path / "suite.json", "--workers", 1)
    missing = "1 of 3 shards are missing: 1; compute them, the first with --shard 1/3"
    with brief_signs():
        (folder,) = {
            cli(*run, "--out", tmp_path / "out", "--shard", part).splitlines()[-1]
            for part in ("2/2", "3/3")
        }
        assert len(list(Path(folder, "shards").iterdir())) == 2
        done = CliRunner().invoke(app, ["collect", folder])
        assert done.exit_code == 2
        assert missing in done.output
        cli(*shlex.split(done.output.partition("genrobust ")[2]))
        assert not Path(folder, "record.json").exists()
        cli("collect", folder)
        suite = str(tmp_path / "suite.json")
        genrobust.bench("vae", suite, executor="serial", out=tmp_path / "alone")
    assert comparable(Path(folder)) == comparable(tmp_path / "alone")


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", ""])
def test_a_part_that_is_none(part: str) -> None:
    done = CliRunner().invoke(app, ["bench", "--model", "vae", f"--shard={part}"])
    assert done.exit_code == 2
    assert "give a part and the number of parts, such as 3/16" in done.output


def test_what_is_no_run_is_not_collected(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["collect", str(tmp_path)])
    assert done.exit_code == 2
    assert "has no plan.json" in done.output
