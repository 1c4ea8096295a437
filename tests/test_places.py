"""Where runs are written: each in a folder of its own, below --out and nowhere else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.models.zoo import WEIGHTS
from genrobust.names import is_part, part_of
from genrobust.records.record import Record
from genrobust.registry import Registry
from genrobust.report.terminal import score_table
from genrobust.runner import curve as curves
from genrobust.runner.places import name_of
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    input_shape = (1, 32, 32)
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
    def encode(self, x):
        return 0.1 + 0.8 * x.flatten(1) * self.weight
    def decode(self, z):
        return (z * {scale}).view(-1, 1, 32, 32)

def build():
    return Net()
"""

Bench = Callable[..., list[Path]]


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


def tiny() -> Suite:
    """Digits with one attack that takes no time."""
    suite = load_suite("digits").limited(4).with_attacks(["noise"]).with_eps([0.1])
    judge = load_suite("digits-v1").attacker_judge  # not the whole committee
    return suite.model_copy(update={"name": "tiny", "resamples": 50, "attacker_judge": judge})


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(tiny().model_dump_json())
    return path


@pytest.fixture
def bench(suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs the command in a fresh folder; gives the folders of the records that it named."""
    monkeypatch.chdir(tmp_path)

    def bench(*words: object, out: str = "out", suite: object = suite_file) -> list[Path]:
        output = run("bench", "--suite", suite, "--out", out, *words)
        return [Path(p).parent for p in re.findall(r"^(.*record\.json)$", output, re.M)]

    return bench


def model(folder: Path, name: str = "my_model", scale: float = 1.0) -> str:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.py").write_text(MODEL.format(scale=scale))
    return f"{folder / name}.py:build"


def record(folder: Path) -> Record:
    return Record.model_validate_json((folder / "record.json").read_bytes())


def test_a_whole_run_of_a_file_is_where_the_readme_says(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL.format(scale=1))
    assert bench("--model", "my_model.py:build") == [tmp_path / "out" / "tiny-v2" / "my_model"]


@pytest.mark.slow
def test_other_settings_are_another_folder(bench: Bench, tmp_path: Path) -> None:
    (whole,) = bench("--model", model(tmp_path))
    before = (whole / "record.json").read_bytes()
    for words, suffix in (
        (["--limit", "3"], "--limit-3"),
        (["--eps", "0.06"], "--eps-0.06"),
        (["--seed", "1"], "--seed-1"),
        (["--attack", "noise"], "--attack-noise"),
        (["--norm", "l2"], "--norm-l2"),
        (["--judge", "lenet", "--judge", "thesis"], "--judge-lenet--judge-thesis"),
        (["--judge", "thesis", "--rule", "single-live"], "--rule-single-live--judge-thesis"),
        (["--limit", "3", "--eps", "0.06", "--seed", "1"], "--limit-3--eps-0.06--seed-1"),
        (["--limit", "4"], ""),
        (["--norm", "linf"], ""),
    ):
        place = whole.parent / f"my_model{suffix}"
        assert place.exists() == (place == whole)
        assert bench("--model", model(tmp_path), *words) == [place]
        assert (place / "record.json").exists()
    assert bench("--model", model(tmp_path), "--limit", "3") == [
        whole.with_name("my_model--limit-3")
    ]
    assert (whole / "record.json").read_bytes() == before


def test_many_settings_still_fit_into_a_name(bench: Bench, tmp_path: Path) -> None:
    grid = [word for i in range(100, 110) for word in ("--eps", f"0.{i:05}")]
    (folder,) = bench("--model", model(tmp_path), *grid)
    assert len(folder.name) < 150
    assert record(folder).suite.eps[-1] == 0.00109


@pytest.mark.slow
def test_models_of_one_name_are_in_folders_of_their_own_and_told_apart(
    bench: Bench, tmp_path: Path
) -> None:
    a, b = model(tmp_path / "a", "net"), model(tmp_path / "b", "net", scale=0.9)
    one, two = bench("--model", a, "--model", b)
    assert one.name == "net"
    assert re.fullmatch("net-[0-9a-f]{8}", two.name)
    assert bench("--model", b, "--model", a) == [two, one]
    output = run("bench", "--suite", "tiny.json", "--out", "out", "--model", a, "--model", b)
    assert "(a/net.py:build)" in re.sub(r"[\s│]+", "", output)
    assert "(b/net.py:build)" in re.sub(r"[\s│]+", "", output)
    page = (tmp_path / "out" / "tiny-v2" / "report.html").read_text()
    assert "net (a/net.py:build)" in page
    assert "net (b/net.py:build)" in page


def test_models_of_one_name_and_fingerprint_do_not_share_a_row(
    bench: Bench, tmp_path: Path
) -> None:
    """Only their code differs: their weights and names are the same."""
    bright, dark = model(tmp_path / "a", "net"), model(tmp_path / "b", "net", scale=0.0001)
    one, two = map(record, bench("--model", bright, "--model", dark))
    assert one.model.fingerprint == two.model.fingerprint
    assert one.scores.clean_accuracy != two.scores.clean_accuracy
    assert two.scores == record(bench("--model", dark, out="fresh")[0]).scores


@pytest.mark.slow
def test_two_weights_of_one_name_are_told_apart(bench: Bench, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    places = []
    for i, folder in enumerate(("a", "b")):
        state = load_file(WEIGHTS / "digits" / "vae.safetensors")
        places.append(tmp_path / folder / "best.pt")
        places[-1].parent.mkdir()
        torch.save({k: v * (1 + i / 100) for k, v in state.items()}, places[-1])
    words = [w for p in places for w in ("--model", "vae", "--weights", p)]
    one, two = bench(*words)
    assert one.name == "vae+best"
    assert two.name.startswith("vae+best-")
    page = (one.parent / "report.html").read_text()
    assert "best (a/best.pt)" in page
    assert "best (b/best.pt)" in page


@pytest.mark.slow
def test_the_zoos_run_is_not_written_over_by_ones_own_weights(bench: Bench, tmp_path: Path) -> None:
    mine = tmp_path / "vae.safetensors"
    mine.write_bytes((WEIGHTS / "digits" / "vae-wd.safetensors").read_bytes())
    (theirs,) = bench("--model", "vae")
    (own,) = bench("--model", "vae", "--weights", mine)
    assert (theirs.name, own.name) == ("vae", "vae+vae")
    assert record(theirs).model.fingerprint != record(own).model.fingerprint


def test_an_edited_model_leaves_the_run_before_the_edit(bench: Bench, tmp_path: Path) -> None:
    (before,) = bench("--model", model(tmp_path))
    (after,) = bench("--model", model(tmp_path, scale=0.0001))
    assert (before.name, after.name[:9]) == ("my_model", "my_model-")
    assert record(before).scores.clean_accuracy != record(after).scores.clean_accuracy
    assert bench("--model", model(tmp_path)) == [before]
    assert bench("--model", model(tmp_path, scale=0.0001)) == [after]


def test_a_suite_of_ones_own_with_the_name_of_another_leaves_its_runs(
    bench: Bench, tmp_path: Path, suite_file: Path
) -> None:
    (one,) = bench("--model", model(tmp_path))
    suite = Suite.model_validate_json(suite_file.read_text()).with_eps([0.2])
    suite_file.write_text(suite.model_dump_json())
    (two,) = bench("--model", model(tmp_path))
    assert (record(one).suite.eps, record(two).suite.eps) == ((0.1,), (0.2,))


@pytest.mark.parametrize("held", ["record.json", "plan.json", "evidence.zip", "shards"])
def test_a_folder_with_something_else_in_it_is_left_alone(
    held: str, bench: Bench, tmp_path: Path
) -> None:
    taken = tmp_path / "out" / "tiny-v2" / "my_model"
    taken.mkdir(parents=True)
    (taken / held).write_text("mine")
    (folder,) = bench("--model", model(tmp_path))
    assert folder != taken
    assert [p.name for p in taken.iterdir()] == [held]
    assert (taken / held).read_text() == "mine"


def test_runs_of_before_are_left_alone(bench: Bench, tmp_path: Path) -> None:
    """A folder of an earlier version, which did not say whose results it holds."""
    (old,) = bench("--model", model(tmp_path))
    plan = json.loads((old / "plan.json").read_text())
    (old / "plan.json").write_text(json.dumps({k: plan[k] for k in ("command", "shards")}))
    (new,) = bench("--model", model(tmp_path))
    assert new != old
    assert (old / "record.json").exists()


@pytest.mark.slow
def test_names_without_ascii_letters_have_folders_of_their_own(
    bench: Bench, tmp_path: Path
) -> None:
    found = {bench("--model", model(tmp_path, name))[0] for name in ("模型", "модель", "…", "con")}
    assert len(found) == 4
    assert {folder.parent for folder in found} == {tmp_path / "out" / "tiny-v2"}
    assert not list((tmp_path / "out" / "tiny-v2").glob("*.json"))


@pytest.mark.parametrize(
    "name",
    [
        *("../../escaped", "/tmp/escaped", "a/b", "a\\b", "..", ".hidden", "", "con", "NUL.txt"),
        *("x" * 65, "a\x00b", "a\nb", "naïve", "a b", "trailing."),
    ],
)
def test_a_suites_name_that_leads_elsewhere_is_refused(
    name: str, suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite_file.write_text(
        json.dumps({**json.loads(suite_file.read_text()), "name": name, "description": ""})
    )
    words = ["bench", "--model", "vae", "--suite", str(suite_file), "--out", "out/deep"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert "name" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.json"]
    assert not is_part(name)


@pytest.mark.parametrize("name", ["x" * 64, "digits", "digits-brief", "a.b", "CONsole"])
def test_other_names_are_allowed(name: str) -> None:
    assert load_suite("digits").model_copy(update={"name": name}).name == name
    assert Suite.model_validate({**load_suite("digits").model_dump(), "name": name}).name == name


def test_what_is_registered_is_no_path() -> None:
    things: Registry[object] = Registry("thing")
    for name in ("../x", "a/b", "a\\b", ".x", "a\nb"):
        with pytest.raises(GenrobustError, match="would be a path"):
            things.register(name)(object())


@pytest.mark.parametrize(
    "text", ["../../x", "/etc", "..", "", "con", "a" * 500, "é", "report.html"]
)
def test_any_text_becomes_one_part_of_a_path(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", part_of(text))
    assert is_part(part_of(text))


def test_letters_that_folders_cannot_have_still_tell_names_apart() -> None:
    names = ["模型", "模型2", "модель", "é", "e", "a" * 100, "a" * 101, "con", "co"]
    assert len({part_of(name) for name in names}) == len(names)
    assert part_of("e\u0301") == part_of("\u00e9")  # one letter, written in two ways


@pytest.mark.parametrize(
    ("reference", "weights", "name"),
    [
        ("my_model.py:build", None, "my_model"),
        ("sub/my_model.py:build", None, "my_model"),
        ("my_model.py:VAE", None, "my_model-VAE"),
        ("my_model.py:VAE", "runs/vae.pt", "my_model-VAE+vae"),
        ("package.module:build", None, "module"),
        ("betavae", None, "betavae"),
        ("betavae", "best.pt", "betavae+best"),
    ],
)
def test_a_run_is_called_after_where_its_model_comes_from(
    reference: str, weights: str | None, name: str
) -> None:
    assert name_of(reference, weights) == name
    assert part_of(name) == name


def test_a_relative_out_stays_where_the_command_was_typed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    for name, text in (
        ("at_import", "import os\nos.chdir('away')\n" + MODEL),
        ("in_build", MODEL.replace("return Net()", "import os; os.chdir('away'); return Net()")),
        ("in_init", MODEL.replace("super()", "import os; os.chdir('away'); super()", 1)),
    ):
        (tmp_path / f"{name}.py").write_text(text.replace("{scale}", "1"))
        os.chdir(tmp_path)
        (folder,) = bench("--model", f"{name}.py:build")
        assert folder == tmp_path / "out" / "tiny-v2" / name
    assert not list((tmp_path / "away").iterdir())


def test_a_second_model_is_found_although_the_first_changes_directory(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "first.py").write_text("import os\nos.chdir('away')\n" + MODEL.format(scale=1))
    (tmp_path / "second.py").write_text(MODEL.format(scale=1))
    assert len(bench("--model", "first.py:build", "--model", "second.py:build")) == 2


@pytest.mark.slow
def test_a_curve_has_a_folder_of_its_own_for_each_model_and_setting(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = AttackEntry(attack="fmn", goal="untargeted", settings={"steps": 4})
    monkeypatch.setattr(curves, "SEARCHES", (quick,))

    def curve(reference: str, *words: str) -> Path:
        output = run("curve", "--suite", "tiny.json", "--out", "out", "--model", reference,
                     "--limit", "1", *words)  # fmt: skip
        return Path(re.findall(r"^(.*curve\.json)$", output, re.M)[0]).parent

    home = tmp_path / "out" / "tiny-v2"
    first = curve(model(tmp_path))
    assert first == home / "my_model--limit-1" / "linf"
    edited = curve(model(tmp_path, scale=0.9))
    assert edited.parent.name.startswith("my_model--limit-1-")
    assert curve(model(tmp_path), "--norm", "l2") == home / "my_model--limit-1" / "l2"
    done = {p: p.stat().st_mtime_ns for p in first.rglob("*.safetensors")}
    assert curve(model(tmp_path)) == first
    assert {p: p.stat().st_mtime_ns for p in first.rglob("*.safetensors")} == done


@pytest.mark.parametrize("name", ["no[/kl]", "[bold]x", "[red]", ":smile:", "a\x1b[2Jb", "日本"])
@pytest.mark.parametrize("width", [30, 40, 71, 72, 120])
def test_a_models_name_is_shown_whatever_it_is_and_however_narrow(
    name: str, width: int, tmp_path: Path, whole_record: Record
) -> None:
    found = whole_record.model_copy(
        update={"model": whole_record.model.model_copy(update={"name": name})}
    )
    console = Console(width=width, record=True, file=(tmp_path / "shown").open("w"))
    console.print(score_table([found]))
    text = console.export_text()
    assert name.replace("\x1b", "\ufffd") in text
    assert all(f"{100 * at.robust_accuracy.value:.1f} [" in text for at in found.scores.per_eps)
    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.fixture(scope="module")
def whole_record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return genrobust.bench(model(tmp_path_factory.mktemp("whole")), tiny(), workers=1)
