"""What cannot be trained is refused before it begins; what goes wrong leaves no result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data import DATASETS, Images
from genrobust.errors import GenrobustError
from genrobust.models.families import FAMILIES
from genrobust.training.judge import train_judge
from genrobust.training.recipes import recipe
from genrobust.training.vae import train_vae

DATA = "refused-data"
Register = Callable[..., None]


def train(folder: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["train", *words, "--out", str(folder)])
    return done.exit_code, done.output


def test_the_last_of_many_seeds_is_one_as_well(tmp_path: Path) -> None:
    words = ("--model", "vae", "--set", "steps=2", "--seeds", "2", "--seed")
    code, said = train(tmp_path / "out", *words, str(2**63 - 1))
    assert code == 2, said
    assert f"--seeds 2 from --seed {2**63 - 1} on go up to {2**63}" in said
    assert f"give --seed as {2**63 - 2} or less" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "near"),
    [
        ("stps=3", "did you mean 'steps'?"),
        ("penlty.beta=3", "did you mean 'penalty.beta'?"),
        ("network.gausian=3", "did you mean 'network.gaussian'?"),
    ],
)
def test_a_key_that_a_recipe_lacks_has_one_near_it(change: str, near: str, tmp_path: Path) -> None:
    code, said = train(tmp_path / "out", "--model", "betavae", "--set", change)
    assert code == 2, said
    assert f"--set {change} changes nothing; {near} give KEY=VALUE" in said


@pytest.fixture
def register() -> Iterator[Register]:
    """Registers a data set of these images, labels and classes under the name DATA."""

    def add(
        raw: Tensor,
        size: tuple[int, int] | None = None,
        labels: Tensor | None = None,
        test: Tensor | None = None,
    ) -> None:
        both = {"train": raw, "test": raw if test is None else test}

        class Data:
            name = DATA
            classes = ("dark", "light")
            image_shape = (raw.shape[1], *(size or tuple(raw.shape[2:])))

            def load(self, split: str, root: Path | None) -> Images:
                chosen = both[split]
                classes = torch.arange(len(chosen)) % 2 if labels is None else labels
                return Images(chosen, classes, size or (chosen.shape[2], chosen.shape[3]))

        DATASETS.register(DATA)(Data())

    from genrobust.data import base

    yield add
    DATASETS._registered.pop(DATA, None)
    base._load.cache_clear()


SETTINGS = [
    *("steps=0", "steps=-5", "steps=1.5", "steps=true", "steps=many", "steps=NaN", "steps=null"),
    *("steps=10000000000", f"steps={'9' * 5000}", "steps=[[", f"steps={'[' * 100_000}"),
    *("batch_size=0", "batch_size=-1", "batch_size=2.5", "batch_size=[8]"),
    *("learning_rate=0", "learning_rate=-1", "learning_rate=NaN", "learning_rate=Infinity"),
    *("learning_rate=1e400", "learning_rate=1e38", "learning_rate=true", "learning_rate=fast"),
    *("weight_decay=-0.1", "weight_decay=NaN", "weight_decay=Infinity"),
    *("temperature=0", "temperature=-1", "temperature=NaN", "temperature=Infinity"),
    *("augment=2", "augment=1", "augment=maybe"),
    *("penalty.gamma=-1", "penalty.gamma=NaN", "penalty.gaussian=-1", "penalty.categorical=-1"),
    *("penalty.ramp_steps=0", "penalty.ramp_steps=-1", "penalty.kind=gamma", "penalty.beta=1"),
    *("network.gaussian=-1", "network.gaussian=true", "network.categorical=10"),
    *("network.categorical=[0]", "network.categorical=[-2]", "network.categorical=[1.5]"),
    *("network.input_shape=[1,28,28]", "network.input_shape=[0,32,32]", "network.input_shape=[32]"),
    *("network.input_shape=[3,32,32]", "network.input_shape=[1,64,64]"),
    *("step=3", "network.width=3", "network=3", "penalty=null", "steps", "=3", "steps.x=3", ""),
]


@pytest.mark.parametrize("change", SETTINGS, ids=lambda change: change[:30])
def test_a_setting_that_cannot_be_is_one_sentence_and_nothing_is_written(
    change: str, tmp_path: Path
) -> None:
    words = ("--model", "jointvae", "--set", "steps=1", "--set", change)
    code, output = train(tmp_path / "out", *words)
    assert code == 2, output[-500:]
    assert output.startswith("Error: ")
    assert output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("vae", ["network.gaussian=0"]),
        ("betavae", ["penalty.beta=-1"]),
        ("betavae", ["penalty.beta=NaN"]),
        ("betavae", ["penalty.beta=1e39"]),
        ("vae", ["steps=5", "batch_size=0"]),
    ],
)
def test_the_setting_that_is_wrong_is_the_one_that_is_named(
    model: str, changes: list[str], tmp_path: Path
) -> None:
    words = [word for change in changes for word in ("--set", change)]
    code, output = train(tmp_path / "out", "--model", model, *words)
    assert code == 2, output
    if "gaussian" not in changes[-1]:
        assert output.startswith(f"Error: --set {changes[-1]} cannot be taken (")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["steps=0", "steps=-5", "steps=²", "steps=x", "batch_size=3"])
def test_a_judges_setting_that_cannot_be(change: str, tmp_path: Path) -> None:
    code, output = train(tmp_path / "out", "--judge", "lenet", "--set", change)
    assert code == 2, output
    assert output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ["steps=1", "batch_size=1"],
        ["steps=1", "batch_size=1000000000"],  # more than there are images: all of them
        ["steps=1", "weight_decay=0", "penalty.gamma=0", "penalty.ramp_steps=1"],
        ["steps=1", "network.gaussian=0", "network.categorical=[2]"],
        ["steps=1", "network.categorical=[]", "network.gaussian=1"],
    ],
    ids=str,
)
def test_settings_at_their_bounds_are_taken(changes: list[str], tmp_path: Path) -> None:
    words = [word for change in changes for word in ("--set", change)]
    code, output = train(tmp_path / "out", "--model", "jointvae", *words)
    assert code == 0, output
    model = genrobust.load_model("jointvae", "digits", tmp_path / "out" / "jointvae.safetensors")
    assert model.input_shape == (1, 32, 32)


@pytest.mark.parametrize("what", ["model vae", "judge lenet"])
@pytest.mark.parametrize("device", ["cuda:99", "meta", "gpu"])
def test_a_device_that_torch_has_not_is_one_sentence(
    device: str, what: str, tmp_path: Path
) -> None:
    kind, name = what.split()
    code, said = train(tmp_path / "out", f"--{kind}", name, "--device", device)
    assert code == 2
    assert said.startswith(f"Error: the device '{device}' cannot be used (")
    assert said.endswith("; choose cpu, or one that torch sees\n")
    assert not (tmp_path / "out").exists()


def test_lack_of_memory_names_what_can_be_lowered(tmp_path: Path) -> None:
    words = ("--model", "vae", "--set", "network.gaussian=100000000000")
    code, output = train(tmp_path / "out", *words)
    assert code == 2, output
    assert "too little memory" in output
    assert "--set" in output


# Data


@pytest.mark.parametrize(
    ("family", "shape"), [*((family, (2, 16, 24)) for family in FAMILIES), ("vae", (3, 32, 32))]
)
def test_a_model_is_trained_on_images_of_any_channels(
    family: str, shape: tuple[int, int, int], register: Register, tmp_path: Path
) -> None:
    register(torch.rand(12, *shape))
    words = ("--model", family, "--dataset", DATA, "--set", "steps=2")
    code, output = train(tmp_path, *words)
    assert code == 0, output
    trained = tmp_path / f"{family}.safetensors"
    for beside in (True, False):  # with the card that names the network, and by the data set alone
        if not beside:
            trained.with_suffix(".json").unlink()
        assert genrobust.load_model(family, DATA, trained).input_shape == shape


def test_images_that_the_network_cannot_read_are_refused_before(
    register: Register, tmp_path: Path
) -> None:
    register(torch.rand(12, 1, 7, 28))
    words = ("--model", "vae", "--dataset", DATA, "--set", "steps=1")
    code, output = train(tmp_path / "out", *words)
    assert code == 2
    assert "8 x 8 and more, not 1 x 7 x 28" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("architecture", ["vgg", "thesis"])
def test_images_that_are_too_small_for_a_judge_are_refused_before(
    architecture: str, register: Register, tmp_path: Path
) -> None:
    register(torch.rand(12, 1, 6, 32))
    words = ("--judge", architecture, "--dataset", DATA, "--set", "steps=1")
    code, output = train(tmp_path / "out", *words)
    assert code == 2, output
    assert f"cannot read images of 6 x 32, as those of '{DATA}' are" in output
    assert list(tmp_path.iterdir()) == []


def test_a_judge_is_trained_on_colours_and_on_fewer_images_than_a_batch(
    register: Register, tmp_path: Path
) -> None:
    register(torch.rand(3, 3, 28, 28), size=(32, 32))
    code, output = train(tmp_path, "--judge", "vgg", "--dataset", DATA, "--set", "steps=2")
    assert code == 0, output


EMPTY = torch.zeros(0, 1, 32, 32)
FINE = torch.rand(4, 1, 32, 32)
DATA_SETS: dict[str, tuple[dict[str, Any], str]] = {
    "no training images": ({"raw": EMPTY, "test": FINE}, "train split .* at least one"),
    "no test images": ({"raw": FINE, "test": EMPTY}, "test split .* at least one"),
    "bytes as floats": ({"raw": 255 * FINE}, "pixels from"),
    "below 0": ({"raw": FINE - 0.5}, "pixels from"),
    "NaN": ({"raw": FINE.clone().fill_(torch.nan)}, "NaN or infinite pixels"),
    "one NaN of the test images": (
        {"raw": FINE, "test": FINE.index_fill(0, torch.tensor([2]), torch.nan)},
        "test split .* NaN or infinite pixels",
    ),
    "another shape in the test": ({"raw": FINE, "test": torch.rand(4, 3, 32, 32)}, "one shape"),
}


@pytest.mark.parametrize("what", ["model vae", "judge lenet"])
@pytest.mark.parametrize("case", DATA_SETS)
def test_data_that_nothing_can_be_learned_from(
    case: str, what: str, register: Register, tmp_path: Path
) -> None:
    data, reason = DATA_SETS[case]
    register(**data)
    words = f"--{what} --dataset {DATA} --set steps=1".split()
    code, output = train(tmp_path / "out", *words)
    assert code == 2, output
    assert re.search(reason, output), output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1, 2, 0]), torch.tensor([0, -1, 0, 1]), torch.tensor([0, 1])]
)
def test_labels_that_fit_no_class_or_no_image(
    labels: Tensor, register: Register, tmp_path: Path
) -> None:
    register(FINE, labels=labels)
    told = r"labels (from .* for 4 images of 2 classes|have shape|go from)"
    with pytest.raises(GenrobustError, match=told):
        train_judge("lenet", DATA, tmp_path / "out", steps=1)
    assert list(tmp_path.iterdir()) == []


# Divergence


def diverging(folder: Path, rate: float, steps: int, **more: Any) -> str:
    plan = recipe("vae", "digits").model_copy(
        update={"steps": steps, "batch_size": 4, "learning_rate": rate}
    )
    with pytest.raises(GenrobustError) as problem:
        train_vae("vae", "digits", plan, folder, **more)
    return str(problem.value)


def test_the_advice_of_a_loss_that_is_no_number_can_be_followed(tmp_path: Path) -> None:
    said = diverging(tmp_path, 1e20, 20, checkpoint_every=1)
    assert "--set learning_rate=1e+19" in said
    assert not list(tmp_path.glob("vae.*"))
    # In the same folder: what did not come to anything is not in the way.
    change = said.partition("--set ")[2].partition(",")[0].replace("1e+19", "1e-4")
    code, output = train(tmp_path, "--model", "vae", "--set", "steps=1", "--set", change)
    assert code == 0, output


def test_a_judge_whose_loss_is_no_number_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrobust.training.judge.LEARNING_RATE", 1e30)
    with pytest.raises(GenrobustError, match=r"loss is .* at step"):
        train_judge("lenet", "digits", tmp_path, steps=20)
    assert not list(tmp_path.glob("judge-lenet.safetensors"))


# Folders


@pytest.mark.parametrize("what", ["model vae", "judge lenet"])
def test_a_folder_that_cannot_be_written_is_told_before_the_training(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **named: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr("genrobust.training.vae._train_step", never)
    monkeypatch.setattr("genrobust.training.judge._fit", never)
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/genrobust")):
        code, output = train(folder, *f"--{what}".split())
        assert code == 2, output
    assert (tmp_path / "file").read_text() == "mine"


def test_of_two_trainings_in_one_folder_the_first_is_told_and_writes_no_more(
    tmp_path: Path,
) -> None:
    plan = recipe("vae", "digits").model_copy(update={"steps": 4, "batch_size": 4})

    def begin_another(step: int, loss: float) -> None:
        if step == 1:
            train_vae("vae", "digits", plan, tmp_path, seed=1)

    with pytest.raises(GenrobustError, match="another training has begun in"):
        train_vae("vae", "digits", plan, tmp_path, seed=0, on_step=begin_another)
    assert json.loads((tmp_path / "vae.json").read_text())["seed"] == 1
    other = tmp_path.with_name("alone")
    train_vae("vae", "digits", plan, other, seed=1)
    for name in ("vae.safetensors", "vae.json", "log.jsonl"):
        assert (tmp_path / name).read_bytes() == (other / name).read_bytes(), name


def test_of_two_trainings_of_a_judge_in_one_folder_the_first_is_told(tmp_path: Path) -> None:
    def begin_another(step: int, loss: float) -> None:
        if step == 1:
            train_judge("lenet", "digits", tmp_path, steps=1, seed=1)

    with pytest.raises(GenrobustError, match="another training has begun in"):
        train_judge("lenet", "digits", tmp_path, steps=2, seed=0, on_step=begin_another)
    assert json.loads((tmp_path / "judge-lenet.json").read_text())["seed"] == 1


def test_two_equal_trainings_in_one_folder_are_one(tmp_path: Path) -> None:
    plan = recipe("vae", "digits").model_copy(update={"steps": 3, "batch_size": 4})

    def begin_again(step: int, loss: float) -> None:
        if step == 1:
            train_vae("vae", "digits", plan, tmp_path)

    card = train_vae("vae", "digits", plan, tmp_path, on_step=begin_again)
    assert json.loads((tmp_path / "vae.json").read_text()) == card.model_dump(mode="json")
