"""A plugin as its users meet it: installed by pip, found by the commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genrobust.errors import GenrobustError
from genrobust.suites import load_suite


def install(source: Path, site: Path) -> Path:
    """Let pip install a package into a folder, with nothing from outside."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target"]
    subprocess.run([*command, *options, str(site), str(source)], check=True)
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the demo plugin."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"  # setuptools writes beside what it builds
    shutil.copytree(Path(__file__).parent / "demo_plugin", source)
    return install(source, folder / "site")


@pytest.fixture
def guide(repository: Path) -> str:
    return (repository / "docs" / "plugins.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def environment(site: Path) -> dict[str, str]:
    """This process's, with what is installed in ``site`` too."""
    places = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}


def genrobust(site: Path, *words: str) -> tuple[int, str, str]:
    found = subprocess.run(
        [sys.executable, "-m", "genrobust", *words],
        env=environment(site),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


def run_pytest(path: Path, site: Path | None = None) -> str:
    """What pytest says of a file, which must pass, in a process of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        cwd=path.parent,
        env=environment(site or path.parent),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    return found.stdout


def test_a_plugins_names_are_listed_beside_our_own(site: Path) -> None:
    code, output, errors = genrobust(site, "list", "attacks")
    assert code == 0, errors
    assert {"demo-blend", "demo-broken", "latent", "foolbox:*", "art:*"} <= set(output.split())
    assert "demo" in genrobust(site, "list", "models")[1].split()
    assert genrobust(site, "list", "norms")[1].split() == ["l1", "l2", "linf"]


def test_a_plugins_model_is_benched_with_a_plugins_attack(site: Path, tmp_path: Path) -> None:
    code, _, errors = genrobust(
        site,
        *("bench", "--model", "demo", "--attack", "demo-blend", "--limit", "3", "--eps", "0.2"),
        *("--out", str(tmp_path)),
    )
    assert code == 0, errors
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert record["attacks"][0]["label"] == "demo-blend targeted"


@pytest.fixture
def damage(tmp_path: Path) -> Path:
    """A suite that scores by the plugin's rule."""
    content = json.loads(load_suite("digits").limited(6).model_dump_json())
    content |= {"name": "damage", "rule": "demo-damage", "attacker_judge": None}
    content |= {"scoring_judges": [], "eps": [0.02, 0.5]}
    content |= {"attacks": [{"attack": "noise", "goal": "untargeted"}]}
    path = tmp_path / "damage.json"
    path.write_text(json.dumps(content))
    return path


def test_a_plugins_rule_scores_from_the_table_to_the_verified_evidence(
    site: Path, damage: Path, tmp_path: Path
) -> None:
    code, output, errors = genrobust(
        site,
        *("bench", "--model", "vae", "--suite", str(damage), "--evidence"),
        *("--out", str(tmp_path / "out")),
    )
    assert code == 0, errors
    assert "not spoiled by any attack" in output
    (folder,) = (tmp_path / "out" / "damage-v1").iterdir()
    record = json.loads((folder / "record.json").read_text())
    small, large = (at["robust_accuracy"]["value"] for at in record["scores"]["per_eps"])
    assert (record["suite"]["rule"], record["judges"], small, large) == ("demo-damage", [], 1, 0)
    assert record["scores"]["per_eps"][1]["as_ignore_target_pairs"]["rate"][0][1] == 1
    page = (folder / "report.html").read_text()
    for said in ("and the attacks spoil every one", "Every source.", "Sample ", "spoiled"):
        assert said in page, said
    for falsehood in ("Judges", "Class 0", "Pairs of classes", "nearer to the target"):
        assert falsehood not in page, falsehood
    code, output, errors = genrobust(site, "verify", str(folder))
    assert code == 0, output + errors
    assert "6 adversarial inputs" in output


def test_a_plugins_rule_is_missed_where_it_is_not_installed(damage: Path) -> None:
    with pytest.raises(GenrobustError, match=r"unknown rule 'demo-damage'; .*Known: agreement"):
        load_suite(str(damage))


def test_a_plugins_norm_is_benched_by_the_suites_own_attacks_and_verified(
    site: Path, tmp_path: Path
) -> None:
    code, output, errors = genrobust(
        site,
        *("bench", "--model", "vae", "--norm", "l1", "--limit", "2", "--evidence"),
        *("--out", str(tmp_path)),
    )
    assert code == 0, errors
    assert "L1 eps" in output
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert record["suite"]["norm"] == "l1"
    assert record["suite"]["eps"] == [1024 * eps for eps in load_suite("digits").eps]
    first = record["scores"]["per_eps"][0]
    assert first["as_ignore_target"]["value"] > 0, "some source falls"
    assert "L1" in path.with_name("report.html").read_text()

    code, output, errors = genrobust(site, "verify", str(path.with_name("evidence.zip")))
    assert code == 0, output + errors
    assert "inside l1 ball and box" in " ".join(output.split())


def test_a_broken_plugin_is_one_sentence_and_only_when_asked_for(site: Path) -> None:
    code, _, errors = genrobust(site, "show", "attack", "demo-broken")
    assert code == 2
    assert "Traceback" not in errors
    words = " ".join(errors.split())
    assert "'demo-broken' comes from the plugin 'genrobust_demo.broken:Broken'" in words
    assert "No module named 'a_package_that_nobody_has'" in words


def test_the_demo_conforms(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "test_demo.py"
    path.write_text(
        "import pytest\n"
        "import genrobust\n"
        "from genrobust.attacks import make_attack\n"
        "from genrobust.testing import AttackConformance, ModelConformance\n"
        "class TestBlend(AttackConformance):\n"
        "    @pytest.fixture\n"
        "    def attack(self):\n"
        "        return make_attack('demo-blend')\n"
        "class TestDemo(ModelConformance):\n"
        "    @pytest.fixture\n"
        "    def build(self):\n"
        "        return lambda: genrobust.load_model('demo')\n"
    )
    assert "failed" not in run_pytest(path, site)


def test_the_attack_of_the_guide_is_short_and_is_benched_once_installed(
    guide: str, tmp_path: Path
) -> None:
    code = blocks(guide, "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) < 30
    source = tmp_path / "source"
    source.mkdir()
    (source / "my_attack.py").write_text(code)
    (source / "pyproject.toml").write_text(blocks(guide, "toml")[0])
    site = install(source, tmp_path / "site")
    status, _, errors = genrobust(
        site,
        *("bench", "--model", "jointvae", "--attack", "my-attack", "--limit", "2"),
        *("--eps", "0.2", "--out", str(tmp_path / "out")),
    )
    assert status == 0, errors
    (path,) = (tmp_path / "out").rglob("record.json")
    labels = [entry["label"] for entry in json.loads(path.read_text())["attacks"]]
    assert labels[:2] == ["my-attack targeted", "my-attack untargeted"]  # then the flags' own


def test_all_python_of_the_guide_runs_and_its_plugins_conform(guide: str, tmp_path: Path) -> None:
    attack, *others = blocks(guide, "python")
    (tmp_path / "my_attack.py").write_text(attack)
    (tmp_path / "test_guide.py").write_text(
        "\n".join(others)
        + "\nassert len(genrobust.load_images('bars')) == 20"
        + "\nassert genrobust.load_judge('bars', 'halves').sha256"
        + "\nassert load_suite('digits-brief').eps == (0.1, 0.3)"
        + "\nfrom genrobust.rules import Sources"
        + "\nx, none = genrobust.load_images('waves').take([0, 1]), torch.zeros(2)"
        + "\nlook, sources = RULES.get('darker')().look, Sources((0, 1), x, none, none, x, None)"
        + "\nassert look(0.4 * x, sources).tolist() == [CHANGED] * 2"
        + "\nassert look(0.6 * x, sources).tolist() == [KEPT] * 2\n"
    )
    output = run_pytest(tmp_path / "test_guide.py")
    assert "failed" not in output
