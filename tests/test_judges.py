"""Judges of one's own: by place, by name, trained; tried before they judge; known by their hash."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data.base import DATASETS, Images, data_at
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges import JUDGES, Judge, load_judge, roles
from genrobust.judges.check import check_gradient, check_recognises
from genrobust.judges.judge import Panel
from genrobust.judges.networks import ARCHITECTURES
from genrobust.runner.options import Options
from genrobust.runner.plan import plan
from genrobust.runner.prepare import prepare
from genrobust.suites import JudgeRef, Suite, load_suite
from genrobust.training.judge import train_judge
from genrobust.verify.verify import VerifyOptions, verify

pytestmark = pytest.mark.usefixtures("brief")

#: The nearest class mean, scaled so that attacks stop: right on nine in ten digits.
MEANS = """
import torch
from torch import nn
import genrobust
from scale import SCALE

class Means(nn.Module):
    def __init__(self):
        super().__init__()
        images = genrobust.load_images("digits", "train")
        x, labels = images.take(range(len(images))), images.labels
        means = torch.stack([x[labels == k].mean(0) for k in range(10)])
        self.means = nn.Parameter(means)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(x) * SCALE
        return -(x[:, None] - self.means).flatten(2).square().sum(2)

def build():
    return Means()

def wrapped():
    return genrobust.judges.Judge("mine", Means(), "")

def nothing():
    return [1, 2]
"""


@pytest.fixture
def means(tmp_path: Path) -> str:
    (tmp_path / "scale.py").write_text("SCALE = 1.0\n")
    (tmp_path / "means.py").write_text(MEANS)
    return f"{tmp_path / 'means.py'}:build"


@pytest.fixture
def noise() -> Suite:
    """One attack that needs no gradient, at two radii."""
    return load_suite("digits").limited(6).with_attacks(["noise"]).with_eps([0.05, 0.3])


@pytest.fixture
def colours() -> Iterator[str]:
    """Three classes of colour images, neither square nor of the zoo's size."""

    class Colours:
        name, classes, image_shape = "colours", ("red", "green", "blue"), (3, 20, 24)

        def load(self, split: str, root: object) -> Images:
            labels = torch.arange(60 if split == "train" else 30) % 3
            draws = torch.Generator().manual_seed(len(labels))
            raw = 0.5 * torch.rand(len(labels), 3, 20, 24, generator=draws)
            raw[torch.arange(len(labels)), labels] += 0.5
            return Images(raw, labels, (20, 24))

    DATASETS.register("colours")(Colours())
    yield "colours"
    del DATASETS._registered["colours"]


# By place


def test_a_function_of_a_file_gives_a_frozen_judge(means: str) -> None:
    judge = load_judge("digits", means)
    assert judge.name == means
    assert not any(module.training for module in judge.module.modules())
    assert not any(p.requires_grad for p in judge.module.parameters())
    images = genrobust.load_images("digits", "test")
    right = judge.labels(images.take(range(100))) == images.labels_of(range(100))
    assert right.float().mean() > 0.8


def test_a_judge_is_known_by_its_weights_and_its_code(means: str) -> None:
    file, _, _ = means.rpartition(":")
    first = load_judge("digits", means).sha256
    assert load_judge("digits", means).sha256 == first
    assert load_judge("digits", f"{file}:wrapped").sha256 == first
    Path(file).write_text(MEANS.replace("square()", "abs()"))
    other = load_judge("digits", means).sha256
    assert other != first
    Path(file).write_text(MEANS)
    (Path(file).parent / "scale.py").write_text("SCALE = 0.5\n")
    assert load_judge("digits", means).sha256 not in (first, other)
    (Path(file).parent / "scale.py").write_text("SCALE = 1.0\n")
    Path(file).write_text(MEANS.replace("nn.Parameter(means)", "nn.Parameter(means + 0.25)"))
    assert load_judge("digits", means).sha256 not in (first, other)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere.py:build", "no file 'nowhere.py'"),
        ("{}:no", "no function 'no'; it has .*build"),
        ("{}:nothing", "returned a list; it must return a torch.nn.Module that gives logits"),
        ("{}", "no judge by itself; type FILE.py:FUNCTION"),
        ("judge.pt", "no judge by itself; .* give the .safetensors"),
        ("no.safetensors", "no weights file 'no.safetensors'"),
        ("../lenet", "unknown judge '../lenet'"),
    ],
)
def test_what_is_no_judge_is_one_sentence(reference: str, message: str, means: str) -> None:
    with pytest.raises(GenrobustError, match=message):
        load_judge("digits", reference.format(means.rpartition(":")[0]))


# What is asked of a judge


class Does(nn.Module):
    """Scores made by a function of the images."""

    def __init__(self, scores: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.scores = scores
        self.calls = 0

    def forward(self, x: Tensor) -> object:
        self.calls += 1
        return self.scores(x)


def ten(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda x: nn.functional.conv2d(x, torch.ones(1, 3, 1, 1)), "failed .*convert colours"),
        (lambda x: x, r"shape \(4, 1, 32, 32\) for .* must give \(4, 10\)"),
        (lambda x: x.flatten(1)[:, :3], r"shape \(4, 3\) .* 10 classes"),
        (lambda x: x.flatten(1)[:, :1], "one number an image.*torch.stack"),
        (lambda x: {"logits": ten(x)}, "gives a dict; .*logits alone"),
        (lambda x: ten(x).long(), "as floats"),
        (lambda x: ten(x) / 0, "NaN or infinite"),
        (lambda x: ten(x) + torch.rand(10), "differently when it is asked again"),
        (lambda x: ten(x).softmax(0), "beside others than alone"),
        (lambda x: ten(x.sub_(0.5)), "changes the images that it is given"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
        (lambda x: exit("bye"), "SystemExit: bye"),
    ],
)
def test_what_cannot_judge_is_one_sentence(
    scores: Callable[[Tensor], object], message: str
) -> None:
    JUDGES.register("made")(lambda dataset: Does(scores))
    try:
        with pytest.raises(GenrobustError, match=message) as refused:
            load_judge("digits", "made")
    finally:
        del JUDGES._registered["made"]
    assert str(refused.value).startswith("the judge 'digits/made' ")
    assert "\n" not in str(refused.value)


def test_probabilities_are_as_good_as_logits_and_generators_are_left_alone() -> None:
    JUDGES.register("made")(lambda dataset: Does(lambda x: ten(x).softmax(1)))
    before = torch.get_rng_state()
    try:
        judge = load_judge("digits", "made")
    finally:
        del JUDGES._registered["made"]
    assert judge.name == "digits/made"
    assert torch.equal(torch.get_rng_state(), before)


def test_a_judge_looks_at_images_in_any_precision() -> None:
    judge, x = genrobust.load_judge("digits", "lenet"), genrobust.load_images("digits").take([0, 3])
    for given in (x, x.double(), x.bfloat16()):
        assert judge.labels(given).tolist() == judge.labels(x).tolist()
    model = genrobust.load_model("vae")
    exact = genrobust.wrap(copy.deepcopy(model.module).double(), input_shape=(1, 32, 32))
    asked: dict[str, Any] = {"judge": judge, "labels": torch.tensor([0, 3]), "steps": 5}
    found = genrobust.attack("classifier", exact, x.double(), eps=0.1, **asked)
    assert found.x_adv.dtype == torch.float64
    assert not torch.equal(found.x_adv, x.double())


def test_attacks_cannot_follow_a_judge_without_a_gradient() -> None:
    x = torch.rand(2, 1, 32, 32)
    for scores in (lambda x: ten(x.detach()), lambda x: 0 * ten(x).sqrt() + (-ten(x)).sqrt()):
        with pytest.raises(GenrobustError, match="no gradient, or none that is finite"):
            check_gradient(Judge("mine", Does(scores), ""), x)


@pytest.mark.parametrize(
    ("factor", "shift", "pixels"), [(255, 0, r"\[0, 255\]"), (2, -1, r"\[-1, 1\]")]
)
def test_a_judge_of_other_pixels_is_refused(factor: float, shift: float, pixels: str) -> None:
    lenet, images = load_judge("digits", "lenet"), genrobust.load_images("digits", "test")
    x, labels = images.take(range(40)), images.labels_of(range(40))
    check_recognises(lenet, x, labels)
    other = Judge("mine", Does(lambda x: lenet.module((x - shift) / factor)), "")
    with pytest.raises(GenrobustError, match=f"pixels in {pixels}; let its forward convert"):
        check_recognises(other, x, labels)


def test_a_judge_that_recognises_little_is_said_to() -> None:
    images = genrobust.load_images("digits", "test")
    judge = Judge("mine", Does(lambda x: -ten(x).cumsum(1) - torch.arange(10.0)), "")
    with pytest.warns(GenrobustWarning, match="recognises 1.% of the sources .* not robust"):
        check_recognises(judge, images.take(range(40)), images.labels_of(range(40)))


@pytest.mark.parametrize(("right", "said"), [(20, False), (19, True)])
def test_a_judge_that_recognises_half_is_enough(right: int, said: bool) -> None:
    labels = torch.arange(40) % 10
    answers = torch.where(torch.arange(40) < right, labels, (labels + 1) % 10)
    judge = Judge("mine", Does(lambda x: nn.functional.one_hot(answers, 10).float()), "")
    words = pytest.warns(GenrobustWarning, match="recognises 48% of the sources")
    with words if said else nullcontext():
        check_recognises(judge, torch.zeros(40, 1, 4, 4), labels)


def test_a_panel_gives_no_verdict_where_one_of_three_differs() -> None:
    votes = torch.tensor([[1, 1, 1, 2, 0], [1, 1, 2, 1, 1], [1, 2, 1, 1, 2]])
    judges = [
        Judge(str(i), Does(lambda x, row=row: nn.functional.one_hot(row, 3).float()), "")
        for i, row in enumerate(votes)
    ]
    assert Panel(tuple(judges)).verdict(torch.zeros(5, 1, 4, 4)).tolist() == [1, -1, -1, -1, -1]


def test_threads_may_share_a_judge_that_keeps_something_as_it_runs() -> None:
    class Keeps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.held = x
            time.sleep(0.002)
            return ten(self.held)

    JUDGES.register("made")(lambda dataset: Keeps())
    try:
        judge = load_judge("digits", "made")
    finally:
        del JUDGES._registered["made"]
    images = torch.rand(8, 1, 1, 32, 32)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(judge.logits, images))
    assert all(torch.equal(scores, ten(x)) for scores, x in zip(found, images, strict=True))


# Roles


def test_the_first_attacks_and_the_others_score() -> None:
    assert roles(["a", "b", "c"]) == ("a", ("b", "c"), False)
    assert roles(["a"]) == ("a", ("a",), True)
    with pytest.raises(GenrobustError, match="'a' is given twice"):
        roles(["a", "b", "a"])
    with pytest.raises(GenrobustError, match="there is no judge"):
        roles([])


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.slow
def test_one_judge_attacks_and_scores_and_everything_says_so(
    means: str, noise: Suite, tmp_path: Path
) -> None:
    path, out = tmp_path / "noise.json", tmp_path / "out"
    path.write_text(noise.model_dump_json())
    words = ("bench", "--model", "vae", "--suite", str(path), "--out", str(out), "--evidence")
    code, said = run(*words, "--judge", means)
    assert code == 0, said
    assert "is attacker and scorer: attacks may fool it" in said
    (folder,) = (out / "digits-v2").iterdir()
    assert folder.name == "vae--judge-means.py-build"
    record = json.loads((folder / "record.json").read_text())
    assert [(j["name"], j["role"]) for j in record["judges"]] == [
        (means, "attacker"),
        (means, "scorer"),
    ]
    assert record["suite"]["rule"] == "agreement"
    assert any("one judge is attacker and scorer" in d for d in record["deviations"])
    assert f"--judge {means}" in record["provenance"]["command"]
    page = " ".join((folder / "report.html").read_text().split())
    assert "is attacker and scorer: attacks see it" in page
    assert "never see another" not in page

    with pytest.raises(GenrobustError, match=r"is code that would be run; .*--trust-code"):
        verify(folder)
    with pytest.warns(GenrobustWarning, match="is attacker and scorer"):
        assert verify(folder, VerifyOptions(trust_code=True)).verification.passed


@pytest.mark.slow
def test_two_judges_share_the_work_without_a_warning(means: str, noise: Suite) -> None:
    record = genrobust.bench("vae", noise, judge=["lenet", means])
    assert [(j.name, j.role) for j in record.judges] == [
        ("digits/lenet", "attacker"),
        (means, "scorer"),
    ]
    assert f"success by the judges {means}, attacks by lenet" in record.deviations


def test_a_rule_of_one_judges_word_keeps_the_attackers(noise: Suite) -> None:
    suite = noise.judged_by(["thesis"], "single")
    assert suite.attacker_judge == noise.attacker_judge
    assert [ref.architecture for ref in suite.scoring_judges] == ["thesis"]
    assert suite.shared_judges == ()
    with pytest.raises(GenrobustError, match="exactly one of scoring_judges, and there are 2"):
        noise.judged_by(["thesis", "lenet"], "single")
    with pytest.raises(GenrobustError, match="'distance' scores without judges; write a suite"):
        noise.judged_by([], "distance")
    with pytest.raises(GenrobustError, match="unknown rule 'sinlge'; did you mean 'single'"):
        noise.judged_by([], "sinlge")


def test_a_judge_that_has_changed_is_refused(means: str, noise: Suite) -> None:
    suite = noise.judged_by(["lenet", means])
    file = Path(means.rpartition(":")[0])
    file.write_text(MEANS.replace("square()", "abs()"))
    with pytest.raises(GenrobustError, match=r"not the one the suite 'digits' names .* or make"):
        prepare("vae", suite, Options())


def test_a_judge_that_is_not_there_is_told_with_the_suite_that_names_it(
    means: str, noise: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _, function = means.rpartition(":")
    monkeypatch.chdir(Path(file).parent)
    suite = noise.judged_by(["lenet", f"{Path(file).name}:{function}"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = rf"the suite 'digits' names the judge '{Path(file).name}:\w+', looked for from the curr"
    with pytest.raises(GenrobustError, match=words + r".*there is no file"):
        prepare("vae", suite, Options())


def test_a_run_is_the_same_wherever_its_judge_lies(noise: Suite) -> None:
    def keys(reference: str) -> list[str]:
        ref = JudgeRef(architecture=reference, sha256="0" * 64)
        suite = noise.model_copy(update={"attacker_judge": ref, "scoring_judges": (ref,)})
        return [spec.key for spec in plan(suite, "f", 0, "cpu")]

    assert keys("mine.py:build") == keys("/home/me/mine.py:build")
    assert keys("mine.py:build") != keys("mine.py:other")


# Trained ones


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_judge_is_trained_on_any_images_and_judges_them(
    architecture: str, colours: str, tmp_path: Path
) -> None:
    card = train_judge(architecture, colours, tmp_path, steps=6)
    judge = load_judge(colours, str(tmp_path / f"judge-{architecture}.safetensors"))
    assert judge.sha256 == card.weights_sha256
    test = genrobust.load_images(colours, "test")
    right = judge.labels(test.take(range(30))) == test.labels_of(range(30))
    assert right.float().mean() == pytest.approx(card.metrics["accuracy"], abs=1e-3)
    assert (tmp_path / f"judge-{architecture}.safetensors").stat().st_size < 1 << 20


def test_a_judge_of_other_pictures_is_told_wherever_their_place_is_counted_from(
    tmp_path: Path,
) -> None:
    for number in range(24):
        folder = tmp_path / "mine" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(folder / f"{number}.png")
    behind = "?shape=1x32x32&classes=2"
    with pytest.warns(GenrobustWarning, match="the same, so that what is trained has seen"):
        train_judge("lenet", f"{tmp_path}/mine{behind}", tmp_path, steps=2)
    weights = str(tmp_path / "judge-lenet.safetensors")
    with data_at(tmp_path):
        load_judge(f"mine{behind}&draw=10", weights)
        load_judge(f"./mine{behind}", weights)
    (tmp_path / "mine").rename(tmp_path / "others")
    with data_at(tmp_path), pytest.warns(GenrobustWarning, match="was trained on .*mine"):
        load_judge(f"others{behind}", weights)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64), (1, 40, 56), (3, 32, 32)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_networks_read_images_of_many_sizes_one_by_one(
    architecture: str, shape: tuple[int, int, int]
) -> None:
    network = ARCHITECTURES[architecture](shape[0], 3).eval()
    x = torch.rand(3, *shape)
    assert network(x).shape == (3, 3)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]))


@pytest.mark.parametrize("architecture", ["vgg", "committee"])
def test_networks_that_ship_are_read_in_the_quick_memory_format(architecture: str) -> None:
    """It is a matter of layout: the numbers are those of the plain one but for rounding."""
    judge = load_judge("digits", architecture)
    kernels = [w for w in judge.module.parameters() if w.ndim == 4]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in kernels)
    plain = copy.deepcopy(judge.module)
    for weights in plain.parameters():
        weights.data = weights.data.clone(memory_format=torch.contiguous_format)
    x = genrobust.load_images("digits").take(range(8))
    torch.testing.assert_close(judge.logits(x), plain(x), atol=1e-4, rtol=1e-5)


def test_the_card_says_how_often_judges_agree(colours: str, tmp_path: Path) -> None:
    first = ("train", "--judge", "thesis", "--dataset", colours, "--set", "steps=9", "--out")
    code, said = run(*first, str(tmp_path / "a"))
    assert code == 0, said
    reference = str(tmp_path / "a" / "judge-thesis.safetensors")
    words = [*first, str(tmp_path / "b"), "--seed", "1", "--beside", reference]
    code, said = run(*words)
    assert code == 0, said
    judge = load_judge(colours, reference)
    key = f"agreement with judge-thesis.safetensors@{judge.sha256[:12]}"
    assert key in said
    card = json.loads((tmp_path / "b" / "judge-thesis.json").read_text())
    other = load_judge(colours, str(tmp_path / "b" / "judge-thesis.safetensors"))
    x = genrobust.load_images(colours, "test").take(range(30))
    same = (judge.labels(x) == other.labels(x)).float().mean()
    assert card["metrics"][key] == pytest.approx(float(same), abs=1e-3)
    code, said = run("train", "--model", "vae", "--beside", "lenet")
    assert code == 2
    assert "--beside is about judges" in said


def test_weights_and_card_belong_together(colours: str, tmp_path: Path) -> None:
    train_judge("resnet", colours, tmp_path, steps=1)
    path, beside = tmp_path / "judge-resnet.safetensors", tmp_path / "judge-resnet.json"
    card = json.loads(beside.read_text())
    with (
        pytest.warns(GenrobustWarning, match="trained on 'colours' and is to judge 'digits'"),
        pytest.raises(GenrobustError, match=r"the judge '.*' failed on images"),
    ):
        load_judge("digits", str(path))
    beside.write_text(json.dumps(card | {"weights_sha256": "0" * 64}))
    with pytest.raises(GenrobustError, match=r"not those that their card 'judge-resnet.json'"):
        load_judge(colours, str(path))
    for wrong in ("{", json.dumps(card | {"architecture": {"name": "no"}})):
        beside.write_text(wrong)
        with pytest.raises(GenrobustError, match="not the card of a judge"):
            load_judge(colours, str(path))
    beside.unlink()
    with pytest.raises(GenrobustError, match=re.escape(f"'{beside}' is not there")):
        load_judge(colours, str(path))
