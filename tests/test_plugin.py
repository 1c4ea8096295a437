"""Plugins as their users meet them: installed by pip, found by the commands, benched whole."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from brief_signs import brief_signs
from test_executors import comparable
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = pytest.mark.slow

#: What holds in the other process as long as it is there.
_THERE = ExitStack()
#: Runs a command where plugins are installed: exit code, output, errors.
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def installed(guide: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the demo plugin and the attack of the guide."""
    folder = tmp_path_factory.mktemp("plugin")
    demo, own = folder / "demo", folder / "own"  # setuptools writes beside what it builds
    shutil.copytree(Path(__file__).parent / "demo_plugin", demo)
    own.mkdir()
    (own / "my_attack.py").write_text(blocks(guide, "python")[0])
    (own / "pyproject.toml").write_text(blocks(guide, "toml")[0])
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target"]
    subprocess.run([*command, *options, *map(str, (folder / "site", demo, own))], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def process(installed: Path) -> Generator[ProcessPoolExecutor, None, None]:
    """A process of its own, in which ``installed`` is a place of packages."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _enter, (installed,)) as process:
        yield process


@pytest.fixture(scope="module")
def command(process: ProcessPoolExecutor) -> Command:
    return lambda *words: process.submit(_invoke, *words).result(timeout=300)


def _enter(folder: Path) -> None:
    site.addsitedir(str(folder))
    os.environ |= environment(folder)
    torch.set_num_threads(1)
    _in_brief()


def _in_brief() -> None:
    _THERE.enter_context(brief_signs())


def _in_full() -> None:
    _THERE.close()


def _invoke(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.stdout, done.stderr


def _conform(path: Path) -> tuple[int, str]:
    """What pytest says of a file."""
    with redirect_stdout(io.StringIO()) as said:
        code = pytest.main(["-q", "-p", "no:cacheprovider", str(path)])
    return code, said.getvalue()


@pytest.fixture(scope="module")
def guide() -> str:
    return (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def environment(folder: Path) -> dict[str, str]:
    """This process's, with what is in ``folder`` too."""
    places = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}


def benched(command: Command, out: Path, *words: object) -> tuple[Path, Any]:
    """The place and the content of the record of a whole run."""
    code, output, errors = command("bench", *map(str, words), "--out", str(out))
    assert code == 0, output + errors
    (path,) = out.rglob("record.json")
    return path, json.loads(path.read_text())


def verified(command: Command, run: Path) -> str:
    code, output, errors = command("verify", str(run))
    assert code == 0, output + errors
    return " ".join(output.split())


def test_a_plugins_names_are_listed_beside_our_own(command: Command) -> None:
    for kind, names in {
        "attacks": {"demo-blend", "demo-broken", "latent", "foolbox:*", "art:*"},
        "models": {"demo", "demo-signs", "vae"},
        "norms": {"l1", "l2", "linf"},
        "datasets": {"demo-spots", "digits"},
        "rules": {"demo-damage", "damage"},
        "judges": {"demo-means", "lenet"},
        "parts": {"demo-sign", "gaussian"},
        "executors": {"demo-last-first", "threads"},
    }.items():
        code, output, errors = command("list", kind)
        assert code == 0, errors
        assert names <= set(output.split())


def test_a_plugins_model_attack_data_and_judge_make_a_bench_that_verifies(
    command: Command, tmp_path: Path
) -> None:
    words = ("--model", "demo", "--data", "demo-spots", "--sources", 4, "--judge", "demo-means")
    attacks = ("--attack", "demo-blend", "--attack", "output", "--eps", 0.1)
    path, record = benched(command, tmp_path, *words, *attacks, "--evidence")
    assert (record["suite"]["dataset"], record["scores"]["sources"]) == ("demo-spots", 4)
    assert {judge["name"] for judge in record["judges"]} == {"demo-spots/demo-means"}
    assert record["scores"]["clean_accuracy"]["value"] == 1
    assert "demo-blend targeted" in [attack["label"] for attack in record["attacks"]]
    verified(command, path.parent)


def test_a_bench_of_a_part_from_a_plugin_has_evidence_that_verifies(
    command: Command, tmp_path: Path
) -> None:
    words = ("--model", "demo-signs", "--limit", 2, "--attack", "code-switch", "--eps", 0.2)
    path, record = benched(command, tmp_path, *words, "--evidence")
    assert record["model"]["latents"] == "36 demo-sign"
    flips = [at.get("token_flips") for at in record["scores"]["per_eps"]]  # None: nothing fell
    assert all(rate is None or rate > 0 for rate in flips)
    verified(command, path.with_name("evidence.zip"))


@pytest.fixture
def in_full(process: ProcessPoolExecutor) -> Generator[None, None, None]:
    """All gradients for signs: processes that the other one starts know of nothing else."""
    process.submit(_in_full).result()
    yield
    process.submit(_in_brief).result()


@pytest.mark.usefixtures("in_full")
def test_a_plugins_executor_runs_a_whole_bench(
    command: Command, cheap: Path, tmp_path: Path
) -> None:
    words = ("--model", "vae", "--suite", cheap, "--executor")
    for executor in ("demo-last-first", "serial"):
        benched(command, tmp_path / executor, *words, executor)
    assert comparable(tmp_path / "demo-last-first") == comparable(tmp_path / "serial")


@pytest.fixture
def cheap(small_suite: Suite, tmp_path: Path) -> Path:
    """A suite of two shards and one attack."""
    attack = AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 3})
    update = {"chunk_size": 1, "eps": (0.1,), "attacks": (attack,)}
    path = tmp_path / "cheap.json"
    path.write_text(small_suite.limited(2).model_copy(update=update).model_dump_json())
    return path


@pytest.fixture
def damage(tmp_path: Path) -> Path:
    """A suite that scores by the plugin's rule."""
    content = json.loads(load_suite("digits").limited(3).model_dump_json())
    content |= {"name": "damage", "rule": "demo-damage", "attacker_judge": None}
    content |= {"scoring_judges": [], "eps": [0.02, 0.5]}
    content |= {"attacks": [{"attack": "noise", "goal": "untargeted"}]}
    path = tmp_path / "damage.json"
    path.write_text(json.dumps(content))
    return path


def test_a_plugins_rule_scores_from_the_table_to_the_verified_evidence(
    command: Command, damage: Path, tmp_path: Path
) -> None:
    words = ("bench", "--model", "vae", "--suite", str(damage), "--evidence")
    code, output, errors = command(*words, "--out", str(tmp_path / "out"))
    assert code == 0, errors
    assert "not spoiled by any attack" in output
    (path,) = (tmp_path / "out").rglob("record.json")
    record = json.loads(path.read_text())
    small, large = (at["robust_accuracy"]["value"] for at in record["scores"]["per_eps"])
    assert (record["suite"]["rule"], record["judges"], small, large) == ("demo-damage", [], 1, 0)
    assert record["scores"]["per_eps"][1]["as_ignore_target_pairs"]["rate"][0][1] == 1
    page = path.with_name("report.html").read_text()
    for said in ("and the attacks spoil every one", "Every source.", "Sample ", "spoiled"):
        assert said in page, said
    for falsehood in ("Judges", "Class 0", "Pairs of classes", "nearer to the target"):
        assert falsehood not in page, falsehood
    assert "3 adversarial inputs" in verified(command, path.parent)


def test_a_plugins_rule_is_missed_where_it_is_not_installed(damage: Path) -> None:
    with pytest.raises(GenrobustError, match=r"unknown rule 'demo-damage'; .*Known: agreement"):
        load_suite(str(damage))


def test_a_plugins_norm_and_a_plugins_judge_beside_ours_take_part_in_a_bench_that_verifies(
    command: Command, small_suite: Suite, tmp_path: Path
) -> None:
    suite = tmp_path / "small.json"
    few = [e for e in small_suite.attacks if e.attack in ("latent", "classifier", "square")]
    update = {"attacks": tuple(few), "eps": small_suite.eps[-1:]}
    suite.write_text(small_suite.limited(2).model_copy(update=update).model_dump_json())
    words = ("--model", "vae", "--judge", "lenet", "--judge", "demo-means", "--norm", "l1")
    path, record = benched(command, tmp_path / "out", *words, "--suite", suite, "--evidence")
    assert [j["name"] for j in record["judges"]] == ["digits/lenet", "digits/demo-means"]
    assert record["suite"]["norm"] == "l1"
    assert record["suite"]["eps"] == [1024 * small_suite.eps[-1]]
    assert record["scores"]["eligible"] >= 1
    assert record["scores"]["per_eps"][0]["as_ignore_target"]["value"] > 0, "some source falls"
    page = path.with_name("report.html").read_text()
    assert "demo-means" in page
    assert "L1" in page
    assert "inside l1 ball and box" in verified(command, path.parent)


def test_a_broken_plugin_is_one_sentence_and_only_when_asked_for(command: Command) -> None:
    code, _, errors = command("show", "attack", "demo-broken")
    assert code == 2
    assert "Traceback" not in errors
    words = " ".join(errors.split())
    assert "'demo-broken' comes from the plugin 'genrobust_demo.broken:Broken'" in words
    assert "No module named 'a_package_that_nobody_has'" in words


def test_the_demo_conforms(process: ProcessPoolExecutor, tmp_path: Path) -> None:
    path = tmp_path / "test_demo.py"
    path.write_text(
        "import functools\n"
        "import pytest\n"
        "import genrobust\n"
        "from genrobust.attacks import make_attack\n"
        "from genrobust.testing import AttackConformance, ModelConformance\n"
        "@functools.cache\n"
        "def made():\n"
        "    return genrobust.load_model('demo')\n"
        "class TestBlend(AttackConformance):\n"
        "    @pytest.fixture\n"
        "    def attack(self):\n"
        "        return make_attack('demo-blend')\n"
        "class TestDemo(ModelConformance):\n"
        "    @pytest.fixture\n"
        "    def build(self):\n"
        "        return lambda: genrobust.load_model('demo')\n"
        "    @pytest.fixture\n"
        "    def model(self):\n"
        "        return made()\n"
    )
    code, said = process.submit(_conform, path).result(timeout=300)
    assert code == 0, said


def test_the_attack_of_the_guide_is_short_and_is_benched_once_installed(
    guide: str, command: Command, tmp_path: Path
) -> None:
    code = blocks(guide, "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) < 30
    words = ("--model", "jointvae", "--attack", "my-attack", "--limit", 2, "--eps", 0.2)
    _, record = benched(command, tmp_path / "out", *words)
    labels = [entry["label"] for entry in record["attacks"]]
    assert labels[:2] == ["my-attack targeted", "my-attack untargeted"]  # then the flags' own


#: What the guide's plugins do once its Python has run.
USES = """
assert len(genrobust.load_images('bars')) == 20
assert genrobust.load_judge('bars', 'halves').sha256
assert load_suite('digits-brief').eps == (0.1, 0.3)
from genrobust.rules import Sources
x, none = genrobust.load_images('waves').take([0, 1]), torch.zeros(2)
look, sources = RULES.get('darker')().look, Sources((0, 1), x, none, none, x, None)
assert look(0.4 * x, sources).tolist() == [CHANGED] * 2
assert look(0.6 * x, sources).tolist() == [KEPT] * 2
model = genrobust.load_model('vae')
found = genrobust.attack('objective:brightness', model, x, eps=0.1, norm='mean', steps=2)
assert (model.reconstruct(found.x_adv).mean() > model.reconstruct(x).mean()).item()

class Globe(nn.Module):
    input_shape = (1, 32, 32)

    def encode(self, x):
        return Sphere(x.flatten(1))

    def decode(self, code):
        return code.view(-1, 1, 32, 32)

globe = genrobust.wrap(Globe())
torch.testing.assert_close(globe.reconstruct(x), globe.reconstruct(x / 2))

def test_the_executor(tmp_path):
    how = {'limit': 1, 'attacks': ['noise'], 'eps': [0.1], 'out': tmp_path}
    assert genrobust.bench('vae', executor='one-by-one', **how).scores.sources == 1
"""


def test_all_python_of_the_guide_runs_and_its_plugins_conform(guide: str, tmp_path: Path) -> None:
    attack, *others = blocks(guide, "python")
    (tmp_path / "my_attack.py").write_text(attack)
    (tmp_path / "test_guide.py").write_text("\n".join([*others, USES]))
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_guide.py"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stdout
