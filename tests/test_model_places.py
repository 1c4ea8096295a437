"""load_model() of what a reference leads to: a function of a file or of a module, or the zoo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from genrobust.errors import GenrobustError
from genrobust.models import check_model, load_model
from genrobust.models.families import NETWORKS
from genrobust.models.zoo import WEIGHTS

FILE = """
import torch, genrobust
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.enc, self.dec = nn.Linear(1024, 3), nn.Linear(3, 1024)
    def encode(self, x):
        return self.enc(x.flatten(1))
    def decode(self, z):
        return self.dec(z).sigmoid()

def plain():
    return Net()

def wrapped():
    return genrobust.wrap(Net(), input_shape=(1, 32, 32), name="chosen")

def sided():
    net = Net()
    net.img_size = 32
    return net

def broken():
    raise RuntimeError("no weights here")

def number():
    return 3

def wants(path):
    return Net()

def refused():
    return genrobust.wrap(Net())

constant = 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_models.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def keep_rng() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.usefixtures("keep_rng")
def test_a_function_of_a_file_gives_the_model_with_the_datasets_shape(file: Path) -> None:
    model = load_model(f"{file}:plain")
    assert model.name == "plain"
    assert model.input_shape == (1, 32, 32)
    assert model.reconstruct(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)
    assert load_model(f"{file}:wrapped").name == "chosen"
    assert load_model(f"{file}:sided").input_shape == (1, 32, 32)


@pytest.mark.usefixtures("keep_rng")
def test_a_function_of_an_importable_module_gives_the_same_model(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(file.parent))
    by_module, by_file = load_model("my_models:plain"), load_model(f"{file}:plain")
    assert by_module.fingerprint() == by_file.fingerprint()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("{}:missing", "has no function 'missing'; it has .*plain"),
        ("{}:plian", r"has no function 'plian'; did you mean 'plain'\? it has .*plain"),
        ("{}:constant", "has no function 'constant'"),
        ("{}:", "has no function ''"),
        ("{}:broken", r"failed \(RuntimeError: no weights here; my_models.py, line \d+\)"),
        ("{}:wants", "TypeError.*let it take no arguments"),
        ("{}:number", "returned a int; it must return a torch.nn.Module"),
        ("{}:refused", "image shape of Net is not known"),
        ("{}", "names a file but no function in it"),
        ("{}.py:plain", "there is no file"),
        ("nowhere/models.py:plain", "there is no file 'nowhere/models.py'"),
        ("no_such_module_at_all:plain", "'no_such_module_at_all' cannot be imported"),
        ("math:nothing", "'math' has no function 'nothing'"),
        ("jointva", "unknown model 'jointva'; did you mean 'jointvae'"),
    ],
)
@pytest.mark.usefixtures("keep_rng")
def test_a_reference_that_leads_nowhere(reference: str, words: str, file: Path) -> None:
    with pytest.raises(GenrobustError, match=words):
        load_model(reference.format(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", r"cannot be imported \(SyntaxError"),
        ("import torch\n1 / 0\n", r"ZeroDivisionError: division by zero; bad.py, line 2"),
        ("import a_module_that_nobody_has\n", "ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_imported_names_the_line(
    text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(GenrobustError, match=words):
        load_model(f"{tmp_path / 'bad.py'}:f")


@pytest.mark.usefixtures("keep_rng")
@pytest.mark.parametrize("late", [False, True], ids=["at the top", "inside the function"])
def test_a_file_can_import_its_neighbours(late: bool, tmp_path: Path) -> None:
    neighbour = f"neighbour_{'late' if late else 'early'}"
    (tmp_path / f"{neighbour}.py").write_text(FILE)
    line = f"from {neighbour} import Net"
    text = f"def f():\n    {line}\n    return Net()\n" if late else f"{line}\nf = Net\n"
    (tmp_path / "main.py").write_text(text)
    assert load_model(f"{tmp_path / 'main.py'}:f").input_shape == (1, 32, 32)


@pytest.mark.usefixtures("keep_rng")
def test_a_file_may_define_dataclasses_with_postponed_annotations(tmp_path: Path) -> None:
    head = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    config = "\n@dataclass\nclass Config:\n    latents: int = 3\n"
    (tmp_path / "postponed.py").write_text(head + FILE + config)
    assert load_model(f"{tmp_path / 'postponed.py'}:plain").name == "plain"


@pytest.mark.usefixtures("keep_rng")
def test_loading_a_file_leaves_the_import_path_alone(file: Path) -> None:
    import sys

    before = list(sys.path)
    load_model(f"{file}:plain")
    with pytest.raises(GenrobustError):
        load_model(f"{file}:broken")
    assert sys.path == before
    assert "my_models" not in sys.modules or sys.modules["my_models"].__spec__ is not None


def test_a_zoo_model_that_does_not_ship_says_how_to_train_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrobust.models.zoo.WEIGHTS", tmp_path)
    with pytest.raises(GenrobustError, match="genrobust train --model vae-wd --dataset mnist"):
        load_model("vae-wd", "mnist")


@pytest.mark.slow
def test_what_ships_passes_the_checks_and_they_change_nothing() -> None:
    models = [p for p in sorted(WEIGHTS.glob("*/*.safetensors")) if p.stem in NETWORKS]
    assert len(models) >= 10
    for path in models:
        model = load_model(path.stem, path.parent.name)
        checked = check_model(model).model
        assert vars(checked) == vars(model), path
