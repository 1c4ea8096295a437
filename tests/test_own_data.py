"""Pictures of one's own: whatever holds them, at the model's shape, drawn into a suite."""

from __future__ import annotations

import shlex
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.cli.app import app
from genrobust.data import DATASETS, Images, load_images
from genrobust.data.pictures import SPLITS, pictures_in
from genrobust.data.pixels import fitted
from genrobust.data.reference import Reference, drawn, images_beside, lent
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges import load_judge
from genrobust.records.record import Record
from genrobust.runner.options import Options
from genrobust.runner.own import keep, placed, referred
from genrobust.suites.draw import _number, _targets, draw
from genrobust.suites.suite import MAX_SAMPLES, load_suite

pytestmark = pytest.mark.usefixtures("brief")

CODE = """
import torch
from torch import nn

class VAE(nn.Module):
    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def encode(self, x):
        return nn.functional.avg_pool2d(x, 4).flatten(1) * self.scale

    def decode(self, z):
        return nn.functional.interpolate(z.view(-1, 3, 4, 4), size=16)

class Judge(nn.Module):
    def __init__(self, sharp=20.0):
        super().__init__()
        self.sharp = nn.Parameter(torch.tensor(sharp))

    def forward(self, x):
        return self.sharp * x.mean((2, 3))

def judge():
    return Judge()

def pictures():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(9, 3, 20, 20, generator=generator), torch.arange(9) % 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``mine.py`` and, in ``shapes``, five red, green and blue pictures each."""
    (tmp_path / "mine.py").write_text(CODE)
    for kind, name in enumerate(("a-red", "b-green", "c-blue")):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for i in range(5):
            pixels = np.random.default_rng(i).integers(0, 80, (20 + 4 * i, 30, 3), "uint8")
            pixels[:, :, kind] += 120
            Image.fromarray(pixels).save(tmp_path / "shapes" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output + str(result.stderr)
    return result.output


def _fails(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2, result.output
    return " ".join((result.output + str(result.stderr)).split())


def _load(text: str, **more: Any) -> Images:
    return load_images(text, "test", **more)


def test_a_folder_of_class_sub_folders_as_torchvision_reads_it(place: Path) -> None:
    images = _load("shapes?shape=3x16x16&classes=3")
    assert images.labels_of(range(15)).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert images.take([0, 5, 10]).mean((2, 3)).argmax(1).tolist() == [0, 1, 2]


def test_a_folder_without_classes_and_one_with_splits(place: Path) -> None:
    assert pictures_in(place / "shapes" / "a-red", "test").labels is None
    (place / "both").mkdir()
    (place / "shapes" / "a-red").rename(place / "both" / "test")
    (place / "shapes").rename(place / "both" / "train")
    assert pictures_in(place / "both", "test").count == 5
    assert pictures_in(place / "both", "train").classes == 2


def test_arrays_of_bytes_or_floats_channels_last_or_first(place: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), "uint8")
    np.savez("bytes.npz", images=pixels, labels=np.arange(4) % 2)
    np.savez("floats.npz", x=pixels.transpose(0, 3, 1, 2).astype("float32") / 255, y=[0, 1, 0, 1])
    np.save("bare.npy", pixels)
    a, b, c = (_load(f"{n}?shape=3x16x16") for n in ("bytes.npz", "floats.npz", "bare.npy"))
    assert torch.allclose(a.take(range(4)), b.take(range(4)))
    assert torch.equal(a.take(range(4)), c.take(range(4)))
    assert a.labels_of(range(4)).tolist() == b.labels_of(range(4)).tolist() == [0, 1, 0, 1]
    assert c.labels is None


@pytest.mark.parametrize(
    "called",
    [
        ("x_train", "y_train", "x_test", "y_test"),  # as Keras writes it
        ("train_images", "train_labels", "test_images", "test_labels"),  # as MedMNIST does
        ("X_train", "Y_train", "X_val", "Y_val"),
    ],
)
def test_arrays_of_splits(place: Path, called: tuple[str, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16), "uint8")
    arrays = (pixels[:4], np.array([[0], [1], [2], [0]]), pixels[4:], np.array([1, 2]))
    np.savez("mine.npz", **dict(zip(called, arrays, strict=True)))
    train, test = (pictures_in(Path("mine.npz"), split, labelled=True) for split in SPLITS)
    assert (train.count, test.count) == (4, 2)
    assert train.labels is not None
    assert test.labels is not None
    assert [*train.labels.tolist(), *test.labels.tolist()] == [0, 1, 2, 0, 1, 2]
    assert torch.equal(test.read(0)[0], torch.from_numpy(pixels[4]))


def test_arrays_of_one_split_are_not_the_other(place: Path) -> None:
    np.savez("mine.npz", train_images=np.zeros((4, 16, 16), "uint8"), test_codes=np.zeros((4, 2)))
    with pytest.raises(GenrobustError, match="the data has train and no test split; call one 'te"):
        pictures_in(Path("mine.npz"), "test")


class _HuggingFace:
    """What ``datasets.Dataset`` is, as far as one needs to know."""

    class Image: ...

    class ClassLabel:
        names = ("cat", "dog", "fish")

    def __init__(self) -> None:
        self.features = {"pixels": self.Image(), "kind": self.ClassLabel()}

    def __len__(self) -> int:
        return 6

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return [i % 2 for i in range(6)]
        return {"pixels": Image.new("RGB", (20, 20), (40 * key, 0, 0)), "kind": key % 2}


class _Torchvision:
    """Items as of torchvision's data sets; a picture is made only when it is asked for."""

    targets = tuple(i % 3 for i in range(12))

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> tuple[Any, int]:
        self.asked.append(i)
        pixels = np.random.default_rng(i).integers(0, 40, (16, 16), "uint8")
        return Image.fromarray(pixels + np.uint8(15 * i)), i % 3


def test_data_sets_as_hugging_face_and_torchvision_have_them() -> None:
    rows = pictures_in({"train": None, "test": _HuggingFace()}, "test")
    assert (rows.count, rows.classes) == (6, 3)
    assert rows.read(2)[:, 0, 0].tolist() == [80, 0, 0]
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 1, 0, 1, 0, 1]
    items = pictures_in(_Torchvision(), "test")
    assert items.read(3).shape == (1, 16, 16)
    assert items.classes == 3


def test_only_the_drawn_pictures_are_read_and_the_hash_is_of_them() -> None:
    data = _Torchvision()
    with lent(data) as reference:
        taken = replace(reference, shape=(1, 16, 16), kinds=3, draw=6)
        images = taken.load("test", None)
        data.asked.clear()
        assert taken.load("test", None).sha256 == images.sha256
    assert sorted(set(data.asked) - {0}) == drawn(torch.tensor(data.targets), 12, 6)[1:]
    assert images.labels_of(range(6)).bincount().tolist() == [2, 2, 2]


@pytest.mark.parametrize("size", [(32, 32), (40, 64), (64, 40)])
def test_smaller_by_area_larger_by_interpolation_after_a_centre_crop(size: tuple[int, int]) -> None:
    picture = torch.rand(3, *size)
    square = min(size)
    top, left = (size[0] - square) // 2, (size[1] - square) // 2
    middle = picture[:, top : top + square, left : left + square]
    by_four = middle.view(3, square // 4, 4, square // 4, 4).mean((2, 4))
    assert torch.allclose(fitted(picture, (3, square // 4, square // 4), None), by_four, atol=1e-6)
    larger = nn.functional.interpolate(middle[None], (70, 70), mode="bilinear")[0]
    assert torch.allclose(fitted(picture, (3, 70, 70), None), larger)


def test_other_channels_only_if_said() -> None:
    grey, colour = torch.rand(1, 8, 8), torch.rand(3, 8, 8)
    assert torch.equal(fitted(grey, (3, 8, 8), "rgb"), grey.expand(3, -1, -1))
    assert fitted(colour, (1, 8, 8), "grey").shape == (1, 8, 8)
    for picture, shape in ((grey, (3, 8, 8)), (colour, (1, 8, 8))):
        with pytest.raises(GenrobustError, match=r"put '\?channels=(rgb|grey)' behind"):
            fitted(picture, shape, None)


def test_grey_is_the_luma_and_bytes_are_rounded_to_the_nearest() -> None:
    colours = torch.eye(3).mul(255).byte().view(3, 1, 3)  # a red, a green and a blue pixel
    assert fitted(colours, (1, 1, 3), "grey").tolist() == [[[76, 150, 29]]]
    for bright, nearest in ((1, 0), (3, 1)):  # of four pixels
        picture = (torch.arange(4) < bright).byte().view(1, 2, 2)
        assert fitted(picture, (1, 1, 1), None).item() == nearest


@pytest.mark.parametrize("number", [0, 1, 7, 30, 44, 45, 60, 100])
def test_sources_are_drawn_evenly_while_classes_last(number: int) -> None:
    labels = torch.tensor([0] * 50 + [1] * 40 + [2] * 10)
    ids = drawn(labels, 100, number)
    assert ids == sorted(set(ids))
    assert len(ids) == number
    counts = labels[ids].bincount(minlength=3).tolist()
    left = [had for had, there in zip(counts, (50, 40, 10), strict=True) if had < there]
    assert not left or max(counts) - min(left) <= 1
    assert drawn(labels, 100, number) == ids
    free = drawn(None, 100, number)
    assert free == sorted(set(free))
    assert len(free) == number


def test_a_target_is_another_picture_and_of_another_class_where_there_are_any() -> None:
    ids = [3, 5, 8, 13, 21, 34]
    labels, raw = torch.arange(40) % 3, torch.arange(40).byte().view(40, 1, 1, 1)
    for given in (labels, None):
        found = [_targets(raw, given, [first, *ids]) for first in range(40) if first not in ids]
        for targets, first in zip(found, (i for i in range(40) if i not in ids), strict=True):
            for source, target in zip([first, *ids], targets, strict=True):
                assert target in {first, *ids} - {source}
                assert given is None or given[source] != given[target]
        assert {target for targets in found for target in targets} >= set(ids), (
            "each is one at times"
        )


def test_no_source_aims_at_a_copy_of_itself() -> None:
    """It would stand by distance, whatever the model does."""
    ids, raw = list(range(30)), (torch.arange(30) % 3).byte().view(30, 1, 1, 1)
    for chosen in (ids, ids[:2], [1, 4, 7, 9]):
        targets = _targets(raw, None, chosen)
        assert set(targets) <= set(chosen)
        assert not any(raw[i] == raw[target] for i, target in zip(chosen, targets, strict=True))
    with pytest.raises(GenrobustError, match="the 25 pictures that are drawn are all the same one"):
        genrobust.bench(_Model(), data=torch.rand(1, 1, 16, 16).repeat(25, 1, 1, 1), **_CHEAP)


def test_alpha_is_left_away_where_channels_are_turned() -> None:
    with_alpha = torch.rand(4, 8, 8)
    for count in (2, 4):
        plain = with_alpha[: count - 1]
        assert torch.equal(fitted(with_alpha[:count], (3, 8, 8), "rgb"), plain.expand(3, -1, -1))
        grey = fitted(plain, (1, 8, 8), "grey")
        assert torch.equal(fitted(with_alpha[:count], (1, 8, 8), "grey"), grey)
    for picture, shape, said in (
        (torch.rand(5, 8, 8), (3, 8, 8), "only grey and colour, with or without alpha"),
        (torch.rand(3, 8, 8), (4, 8, 8), "without alpha; give a .npz"),
    ):
        with pytest.raises(GenrobustError, match=said):
            fitted(picture, shape, "rgb")


@pytest.mark.parametrize("name", ["digits", "own-data"])
def test_a_path_is_never_the_data_set_of_its_name(place: Path, name: str) -> None:
    """Nor what else the last word of a path stands for."""
    (place / "names").mkdir()
    (place / "shapes").rename(place / "names" / name)
    make = ("suite", "make", "--model", "mine.py:VAE", "--eps", "0.1", "--out", "a.json", "--data")
    _run(*make, f"names/{name}")
    suite = load_suite("a.json")
    assert "15 pictures of" in suite.description
    assert "evenly of 3 classes" in suite.description
    assert load_images(suite.dataset, root=place / "names").sha256 == suite.data_sha256
    record = genrobust.bench(
        genrobust.load_model("mine.py:VAE"), data=Path("names", name), **_CHEAP
    )
    assert record.suite.data_sha256 == suite.data_sha256
    assert f"8 of './{name}'" in _run("check", "mine.py:VAE", "--data", str(place / "names" / name))


def test_a_bare_name_is_the_registered_data_set(place: Path) -> None:
    """Also beside a folder of that name, which a path means; one in Python is never a name."""
    (place / "shapes").rename(place / "digits")
    options = Options(data_root="elsewhere")
    assert referred("digits", options) == (Reference("digits"), options)
    assert referred("digits?channels=rgb", options)[0] == Reference("digits", channels="rgb")
    for path in ("./digits", "digits/", Path("digits")):
        assert referred(path, options) == (
            Reference("./digits"),
            replace(options, data_root=place.resolve()),
        )
    (place / "digits").rename(place / "shapes")
    with pytest.raises(GenrobustError, match=r"there is no './digits'"):
        genrobust.bench(_Model(), data=Path("digits"), **_CHEAP)


@pytest.mark.parametrize("highest", [1, 2])
def test_bytes_of_zeros_and_ones_are_refused(place: Path, highest: int) -> None:
    """Masks and black-and-white pictures, which would be as good as black."""
    pixels = np.random.default_rng(0).integers(0, highest + 1, (6, 16, 16), "uint8")
    np.save("masks.npy", pixels)
    words = ("suite", "make", "--model", "mine.py:VAE", "--eps", "0.1", "--out", "a.json")
    words = (*words, "--data", "masks.npy?channels=rgb")
    if highest == 2:
        _run(*words)
        return
    assert "go from 0 to 1, and 255 is white; give 255 * images, or floats" in _fails(*words)
    assert not (place / "a.json").exists()


def test_registered_bytes_of_zeros_and_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Masks:
        name, classes, image_shape = "masks", (), (1, 8, 8)

        def load(self, split: str, root: Path | None) -> Images:
            return Images(torch.ones(3, 1, 8, 8, dtype=torch.uint8), None, (8, 8))

    monkeypatch.setitem(DATASETS._registered, "masks", Masks())
    with pytest.raises(GenrobustError, match=r"split of 'masks': the bytes .* from 0 to 1"):
        load_images("masks")


class _Model(nn.Module):
    input_shape = (1, 16, 16)

    def encode(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 4).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return nn.functional.interpolate(z.view(-1, 1, 4, 4), size=16)


def test_a_suite_is_balanced_aims_at_other_classes_and_is_the_same_again(place: Path) -> None:
    model = genrobust.load_model("mine.py:VAE", dataset="shapes?shape=3x16x16")
    suite = draw(model, Reference("shapes"), ["mine.py:judge"], sources=9)
    images = _load(suite.dataset)
    labels, aims = images.labels_of(suite.sample_ids), images.labels_of(suite.target_ids)
    assert labels.bincount().tolist() == [3, 3, 3]
    assert (labels != aims).all()
    assert images.sha256 == suite.data_sha256
    assert all(abs(255 * e - round(255 * e)) < 1e-9 for e in suite.eps)
    assert suite == draw(model, Reference("shapes"), ["mine.py:judge"], sources=9)
    assert suite.rule == "agreement"
    assert "by a centre crop and area" in suite.description


def test_radii_are_around_where_the_model_falls(place: Path) -> None:
    """Means of two flat pictures 0.2 apart: half of that is where one becomes the other."""
    pixels = torch.stack([torch.full((1, 16, 16), v) for v in (0.4, 0.6)])
    pixels = pixels + 0.001 * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    record = genrobust.bench(
        _Model(), data=pixels, attacks=["output"], workers=1, limit=2, name="flat"
    )
    assert record.suite.eps == (8 / 255, 16 / 255, 32 / 255, 64 / 255)
    assert record.model.name == "flat"


def test_radii_of_another_norm_are_those_that_were_asked_for() -> None:
    """As on a suite that is there; the drawn one has radii of its own, for any norm to come."""
    model, pictures = _Model(), torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    how: dict[str, Any] = {"attacks": ["noise"], "workers": 1, "limit": 2, "norm": "l2"}
    drawn = genrobust.bench(model, data=pictures, eps=[0.5, 5], **how)
    again = genrobust.bench(model, drawn.suite, data=pictures, eps=[0.5, 5], **how)
    for record in (drawn, again):
        assert record.suite.norm == "l2"
        assert [point.eps for point in record.scores.per_eps] == [0.5, 5]
    same = genrobust.bench(model, data=pictures, eps=[0.1], **how | {"norm": "linf"})
    assert same.suite.eps == (0.1,)
    assert not any("norm" in one for one in same.deviations)


@pytest.mark.slow
def test_one_command_from_pictures_to_a_record_and_a_file_for_others(place: Path) -> None:
    words = ("--attack", "noise", "--workers", "1", "--limit", "2", "--out", "runs")
    own = ("--data", "shapes", "--judge", "mine.py:judge", "--sources", "6")
    _run("bench", "--model", "mine.py:VAE", *own, *words)
    home = place / "runs" / "shapes-v1"
    suite = load_suite(str(home / "suite.json"))
    (run,) = home.glob("mine-VAE*")
    report = (run / "report.html").read_text()
    assert "data:image/png" in report
    assert "its file and its pictures must be at hand" in report
    assert "--suite shapes-v1/suite.json" in Record.load(run).command
    assert f"came of: genrobust bench --model {place / 'mine.py'}:VAE" in _run("status", str(run))
    _run("bench", "--model", "mine.py:VAE", *own, *words, "--name", "second")
    assert load_suite(str(home / "suite.json")) == suite, "another model has the same radii"
    assert list(home.glob("second*/record.json"))
    _run("bench", "--model", "mine.py:VAE", "--data", "shapes", "--sources", "6", *words)
    assert (
        len(list((place / "runs").glob("shapes-v1*")))
        + len(list((place / "runs").glob("shapes-*-v1")))
        == 2
    ), "without a judge it is another suite, in a folder of its own"
    assert str(place) not in (home / "suite.json").read_text()


@pytest.mark.parametrize(("draw", "most", "more"), [(4, 3, 3), (9, 3, 0), (7, 3, 2), (0, 3, 0)])
def test_others_than_the_drawn_pictures_come_behind_them(
    draw: int, most: int, more: int, tmp_path: Path
) -> None:
    pixels = np.arange(9, dtype="uint8").repeat(16).reshape(9, 1, 4, 4)
    np.savez(tmp_path / "some.npz", images=pixels, labels=np.arange(9) % 2)
    name = replace(Reference("some.npz", (1, 4, 4), 2), draw=draw).name
    alone, found = (
        load_images(name, "test", tmp_path),
        images_beside(name, "test", most, tmp_path),
    )
    assert torch.equal(found.raw[: len(alone)], alone.raw)
    kinds = found.raw[:, 0, 0, 0].tolist()
    assert len(kinds) == len(set(kinds)) == len(alone) + more
    assert found.labels is not None
    assert found.labels.tolist() == [kind % 2 for kind in kinds]


def test_a_registered_data_set_has_its_others_anyway() -> None:
    assert images_beside("digits", "test", 3).sha256 == load_images("digits").sha256


@pytest.fixture(scope="module")
def evidence_of_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run on 20 pictures, of which four in an array are attacked."""
    place = tmp_path_factory.mktemp("of-pictures")
    (place / "mine.py").write_text(CODE)
    coarse = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    np.savez(place / "pictures.npz", images=nn.functional.interpolate(coarse, 16, mode="bilinear"))
    options = ("--eps", "0.1", "--attack", "damage", "--workers", "1", "--evidence")
    data = ("--data", str(place / "pictures.npz"), "--sources", "4")
    _run("bench", "--model", f"{place / 'mine.py'}:VAE", *data, *options, "--out", str(place))
    (found,) = place.glob("pictures-v1/*/evidence.zip")
    return found


@pytest.mark.slow
def test_evidence_of_own_pictures_is_verified_wherever_they_lie(
    evidence_of_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("verify", str(evidence_of_pictures))
    _run(*words, "--depth", "schema")
    assert "say where the same ones lie here with --data" in _fails(*words)
    there = evidence_of_pictures.parents[2] / "pictures.npz"
    shutil.copy(there, tmp_path / "elsewhere.npz")
    assert "passed, as deep as replay" in _run(*words, "--data", "elsewhere.npz")
    pixels = np.load(there)["images"]
    np.savez("others.npz", images=pixels[::-1])
    others = _fails(*words, "--data", "others.npz")
    assert "images of 'others.npz' are not those of the suite" in others
    assert "give their place alone: --data others.npz" in _fails(
        *words, "--data", "others.npz?draw=4"
    )
    (tmp_path / "code.py").write_text(
        "import numpy\n\ndef pictures():\n    return numpy.load('elsewhere.npz')['images']\n"
    )
    code = ("--data", "code.py:pictures")
    assert "read it, and add --trust-code" in _fails(*words, *code)
    assert "passed, as deep as replay" in _run(*words, *code, "--trust-code")


def test_a_place_of_pictures_is_not_for_evidence_of_a_registered_data_set(
    repository: Path, tmp_path: Path
) -> None:
    entry = repository / "leaderboard" / "entries" / "digits-v2" / "zoo-vae"
    said = _fails("verify", str(entry / "evidence.zip"), "--data", "elsewhere.npz")
    assert "'digits', which is registered" in said


@pytest.mark.parametrize(
    "words", ["bench --model vae", "check vae", "suite make --model vae --out a.json"]
)
def test_a_model_without_weights_for_pictures_names_a_command_that_trains_on_them(
    words: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32), "uint8")
    np.savez("pics.npz", images=pixels)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    problem = _fails(*words.split(), "--data", "../pics.npz")
    command = problem.partition("train them with genrobust ")[2].partition(" and pass --weights")[0]
    assert shlex.split(command)[-2:] == ["--data-root", str(place)]
    _run(*shlex.split(command), "--set", "steps=1", "--set", "batch_size=2", "--out", "trained")
    assert Path("trained/vae.safetensors").is_file()


@pytest.mark.parametrize("shape", ["3x32x32", "2x16x24"])
def test_a_model_of_the_zoo_is_trained_at_the_shape_that_is_said(shape: str, place: Path) -> None:
    sizes = [int(n) for n in shape.split("x")]
    np.savez("pics.npz", images=np.random.default_rng(0).integers(0, 256, (8, *sizes), "uint8"))
    words = ("--set", "steps=1", "--set", "batch_size=2", "--out", "trained")
    data = f"pics.npz?shape={shape}"
    _run("train", "--model", "vae", "--dataset", data, *words)
    model = genrobust.load_model("vae", dataset=data, weights="trained/vae.safetensors")
    assert model.input_shape == tuple(sizes)
    grey = (*words, "--set", "network.input_shape=[1,32,32]")
    problem = _fails("train", "--model", "vae", "--dataset", data, *grey)
    said = f"give it that of the images: --set 'network.input_shape={sizes}'"
    assert said in problem
    _run("train", "--model", "vae", "--dataset", data, *words, *shlex.split(said[28:]))
    problem = _fails("train", "--model", "vae", "--dataset", data, "--set", "network.gaussian=few")
    assert "give another value, as in JSON, such as 8, true or [3, 32, 32]" in problem


def test_what_a_training_on_pictures_of_ones_own_lacks_can_be_typed(place: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 16, 16), "uint8")
    for split in ("train", "test"):
        np.savez(f"{split}.npz", images=pixels[6 * (split == "test") :][:6], labels=[0, 1, 2] * 2)
    (place / "parts.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    held = {s: np.load(f'{s}.npz') for s in ('train', 'test')}\n"
        "    return {s: (h['images'], h['labels']) for s, h in held.items()}\n"
    )
    words = ("train", "--judge", "lenet", "--set", "steps=1", "--out", "trained", "--dataset")
    for name in ("shapes", "train.npz", "parts.py:load"):
        said = f"'{name}' is no data set that is registered; of pictures of your own say behind it"
        assert f"{said} at what shape" in _fails(*words, name)
    problem = _fails(*words, "parts.py:load?shape=3x16x16")
    assert "labels up to 2, and it is not said how many classes" in problem
    _run(*words, shlex.split(problem.rpartition("behind the name: ")[2])[0])
    assert (place / "trained" / "judge-lenet.safetensors").is_file()
    assert "unknown dataset 'nothing'; known" in _fails(*words, "nothing")


def test_pictures_that_no_command_has_are_not_named_in_one(place: Path) -> None:
    pixels = torch.rand(4, 1, 32, 32)
    with pytest.raises(GenrobustError, match=r"'own-data.* give the model itself, with weights"):
        genrobust.bench("vae", data=pixels, workers=1)


def test_suite_make_and_its_use_from_another_folder(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ("suite", "make", "--model", "mine.py:VAE", "--data", str(place / "shapes"))
    _run(*make, "--sources", "6", "--eps", "0.1", "--out", "mine.json")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    run = ("bench", "--model", "../mine.py:VAE", "--suite", "../mine.json", "--workers", "1")
    _run(*run, "--data-root", str(place), "--attack", "output", "--out", "runs")
    Image.new("RGB", (30, 30)).save(place / "shapes" / "a-red" / "0.png")
    Image.new("RGB", (30, 30)).save(place / "shapes" / "b-green" / "0.png")
    Image.new("RGB", (30, 30)).save(place / "shapes" / "a-red" / "1.png")
    for i in range(5):
        Image.new("RGB", (30, 30)).save(place / "shapes" / "c-blue" / f"{i}.png")
    problem = _fails(*run, "--data-root", str(place))
    assert "are not those of the suite" in problem
    assert "they have changed since it was drawn" in problem
    assert "fetch" not in problem, "they are the user's own"


class _Flips(_Torchvision):
    """Each picture either way round, whenever it is asked for."""

    def __getitem__(self, i: int) -> tuple[Any, int]:
        picture, label = super().__getitem__(i)
        if torch.rand(()) < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return picture, label


FLIPS = """
class Flips(torch.utils.data.TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return (x.flip(2) if torch.rand(()) < 0.5 else x), y

def flips():
    return Flips(*pictures())
"""


@pytest.mark.parametrize("given", ["an object", "code"])
def test_pictures_that_are_others_at_each_reading_are_no_suite(given: str, place: Path) -> None:
    said = "are others at each reading, .* take random transforms out of the data set"
    out = place / "out"
    if given == "an object":
        with pytest.raises(GenrobustError, match=said):
            genrobust.bench(_Model(), data=_Flips(), out=out, **_CHEAP)
    else:
        (place / "mine.py").write_text(CODE + FLIPS)
        words = ("--data", "mine.py:flips", "--eps", "0.1", "--out", "out")
        assert "are others at each reading" in _fails("bench", "--model", "mine.py:VAE", *words)
    assert not out.exists()


def test_check_tries_a_model_on_pictures(place: Path) -> None:
    assert "8 of 'shapes'" in _run("check", "mine.py:VAE", "--data", "shapes")


def test_a_data_set_in_python_and_without_labels(place: Path) -> None:
    model = genrobust.wrap(_Model())
    record = genrobust.bench(model, data=_Torchvision(), sources=6, **_CHEAP)
    assert record.scores.sources == 6
    assert record.suite.rule in ("damage", "distance")
    assert record.judges == ()
    with pytest.raises(GenrobustError, match=r"3 channels where 1 are .* turn these yourself"):
        genrobust.bench(model, data={"test": _HuggingFace()}, **_CHEAP)


@pytest.mark.parametrize(
    ("words", "kinds"), [("", 3), ("?classes=3", 3), ("?classes=4", 4), ("?classes=10", 10)]
)
def test_how_many_classes_there_are_may_be_said(words: str, kinds: int, place: Path) -> None:
    np.savez("a.npz", images=torch.rand(9, 3, 16, 16).numpy(), labels=np.arange(9) % 3)
    data = Reference.parse(f"a.npz{words}")
    assert data.native("test", None).kinds == kinds
    suite = draw(genrobust.load_model("mine.py:VAE"), data, sources=6, radii=[0.1])
    assert suite.dataset == f"a.npz?shape=3x16x16&classes={kinds}&draw=6"
    assert len(load_images(suite.dataset)) == 6


def test_fewer_classes_than_there_are_cannot_be_said(place: Path) -> None:
    problem = _fails("bench", "--model", "mine.py:VAE", "--data", "shapes?classes=2")
    assert "'shapes' has 3 classes, and classes=2 is said of it; say classes=3" in problem


def test_a_judge_of_classes_that_no_picture_shows_is_told_what_to_type(place: Path) -> None:
    np.savez("a.npz", images=torch.rand(8, 3, 16, 16).numpy(), labels=np.arange(8) % 2)
    words = ("suite", "make", "--model", "mine.py:VAE", "--judge", "mine.py:judge", "--eps", "0.1")
    problem = _fails(*words, "--out", "a.json", "--data", "a.npz")
    assert "must give (4, 2), or, if pictures of your own lack some" in problem
    assert "put ?classes=3 behind the name of the data" in problem
    _run(*words, "--out", "a.json", "--data", "a.npz?classes=3")
    problem = _fails(*words, "--out", "b.json", "--data", "a.npz?classes=4")
    assert "put ?classes" not in problem
    assert "if labels of your own count from 1 or leave numbers out, number the classes" in problem


def test_a_folder_without_pictures_tells_what_it_has(place: Path) -> None:
    """Such as the tables in which Hugging Face's data sets are kept."""
    (place / "saved" / "test").mkdir(parents=True)
    for name in ("state.json", "info.json", "data-0.arrow"):
        (place / "saved" / "test" / name).write_text("{}")
    problem = _fails("bench", "--model", "mine.py:VAE", "--data", "saved")
    assert ") in it, but 2 .json and 1 .arrow; give a folder that has some, a .npz" in problem
    assert "or FILE.py:FUNCTION, a function that reads what is there, such as by data" in problem


@pytest.mark.parametrize(
    ("low", "high", "white", "said"),
    [
        (0, 16, 16, "go from 0 to 0.06"),  # sixteen greys in a byte
        (0, 1 / 255, 1, r"go from [\d.e-]+ to 0\.003"),  # divided by 255 twice
        (0.45, 0.52, 1, r"go from 0\.45\d* to 0\.5"),
        (0, 0.15, 1, None),
    ],
)
def test_pictures_that_fill_little_of_the_range_are_told(
    low: float, high: float, white: float, said: str | None
) -> None:
    """Radii are shares of all of it: such pictures are as good as grey in the smallest of them."""
    pixels = low + (high - low) * torch.rand(8, 1, 16, 16, generator=torch.manual_seed(0))
    pixels = pixels.round().byte() if white > 1 else pixels
    words = rf"the pixels of 'own-data.*' {said}.* stretch them, such as by images / images.max"
    with pytest.warns(GenrobustWarning, match=words) if said else nullcontext():
        genrobust.bench(_Model(), data=pixels, sources=4, **_CHEAP)


_CHEAP: dict[str, Any] = {"attacks": ["output"], "eps": [0.1], "workers": 1}


@pytest.mark.slow
def test_a_function_gives_the_data(place: Path) -> None:
    words = ("bench", "--model", "mine.py:VAE", "--data", "mine.py:pictures", "--eps", "0.1")
    _run(*words, "--attack", "output", "--judge", "mine.py:judge", "--workers", "1")
    assert (place / "genrobust-runs" / "mine-pictures-v1" / "suite.json").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rule", "single"), "'single' needs exactly one of scoring_judges, and there are 0"),
        (("--rule", "agreement"), "'agreement' needs scoring_judges, and there are 0"),
        (("--rule", "most"), "unknown rule 'most'"),
        (("--eps", "-1"), "eps is -1.0; it must be a finite eps from 0 up"),
        (("--eps", "inf"), "eps is inf"),
        (("--eps", "nan"), "eps is nan"),
        (("--eps", "10000.1"), "eps is 10000.1"),
        (("--sources", "150000"), "has 15 pictures, and 150000 are asked for; give --sources 15"),
    ],
)
def test_what_no_suite_can_say_is_refused_before_it_is_drawn(
    place: Path, words: tuple[str, ...], said: str
) -> None:
    make = ("suite", "make", "--model", "mine.py:VAE", "--data", "shapes", "--out", "a.json")
    assert said in _fails(*make, *words)
    assert not (place / "a.json").exists()


def test_a_suite_has_no_more_sources_than_it_can_list() -> None:
    with pytest.raises(GenrobustError, match=f"give --sources {MAX_SAMPLES} or fewer"):
        _number("faces", MAX_SAMPLES + 1, 2 * MAX_SAMPLES)
    assert _number("faces", MAX_SAMPLES, 2 * MAX_SAMPLES) == MAX_SAMPLES


def test_the_advice_on_a_judge_for_own_data_can_be_typed(place: Path) -> None:
    problem = _fails("bench", "--model", "mine.py:VAE", "--data", "shapes", "--judge", "vgg")
    train = problem[problem.index("genrobust train") : problem.index(" and give its")]
    words = shlex.split(train)[1:]
    assert words[words.index("--dataset") + 1] == "shapes?shape=3x16x16&classes=3"
    assert words[words.index("--data-root") + 1] == str(place.resolve())
    trained = CliRunner().invoke(app, [*words, "--set", "steps=1"])
    assert trained.exit_code == 0, trained.output
    assert "training and the test images" in " ".join(str(trained.stderr).split())
    weights = "genrobust-training/shapes?shape=3x16x16&classes=3/judge-vgg/judge-vgg.safetensors"
    load_judge("shapes?shape=3x16x16&classes=3&draw=6", weights)


def _broken(place: Path) -> None:
    (place / "shapes" / "a-red" / "0.png").write_bytes(b"no picture")


def _one_class(place: Path) -> None:
    (place / "shapes" / "all").mkdir()
    for folder in (place / "shapes").iterdir():
        for file in folder.glob("*.png"):
            file.rename(place / "shapes" / "all" / f"{folder.name}-{file.name}")


def _empty(place: Path) -> None:
    for file in (place / "shapes").rglob("*.png"):
        file.unlink()


def _loose(place: Path) -> None:
    (place / "shapes" / "a-red" / "0.png").rename(place / "shapes" / "0.png")


def _colon(place: Path) -> None:
    (place / "shapes").rename(place / "a:b")


def _unlabelled(place: Path) -> None:
    _one_class(place)
    for file in (place / "shapes" / "all").iterdir():
        file.rename(place / "shapes" / file.name)


def _grey(place: Path) -> None:
    for file in (place / "shapes").rglob("*.png"):
        Image.open(file).convert("L").save(file)


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (_broken, (), "0.png' cannot be read"),
        (_one_class, (), "are of one class, and judges need two"),
        (_empty, (), "has no pictures"),
        (_loose, (), "pictures beside class sub-folders, such as '0.png'"),
        (_grey, (), "put '?channels=rgb' behind"),
        (_unlabelled, (), "'shapes' have no labels, by which judges go; put those of each class"),
        (None, ("--data", "shapes?channels=grey"), "channels=grey is said of 'shapes', and images"),
        (None, ("--data", "shapes?draw=1"), "1 of the pictures of 'shapes' are asked for, and a s"),
        (None, ("--sources", "16"), "has 15 pictures, and 16 are asked for"),
        (None, ("--data", "nowhere"), "there is no 'nowhere', seen from the current folder or"),
        (None, ("--data", "nowhere.py:f"), "there is no 'nowhere.py', seen from"),
        (None, ("--data", "shapes?size=3"), "is no reference to data"),
        (None, ("--suite", "digits"), "leave --suite out"),
        (None, ("--data", "mine.py"), "neither a folder nor a .npz"),
        (
            None,
            ("--data", "http://pictures.org/a.npz"),
            "is an address, and pictures are read from",
        ),
        (_colon, ("--data", "a:b"), "'a:b' has a ':' in its name, behind which stands a function"),
        (None, ("--data", ""), "the name of the data is empty; give that of a data set"),
        (None, ("--rule", "damage"), "'damage' scores without judges; leave --judge out"),
        (None, ("--judge", "vgg", "--rule", "single"), "no judge 'vgg' ships"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    place: Path, spoil: Any, words: tuple[str, ...], said: str
) -> None:
    if spoil is not None:
        spoil(place)
    given = ("bench", "--model", "mine.py:VAE", "--data", "shapes", "--judge", "mine.py:judge")
    problem = _fails(*given, *words)
    assert said in problem
    assert "Traceback" not in problem


def test_a_drawn_suite_is_given_again_with_the_pictures_that_it_was_drawn_from(
    place: Path,
) -> None:
    pictures = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    how: dict[str, Any] = {"attacks": ["noise"], "workers": 1}
    model = genrobust.load_model("mine.py:VAE")
    first = genrobust.bench(model, data=pictures, sources=3, eps=[0.1], rule="distance", **how)
    again = genrobust.bench(model, first.suite, data=pictures, **how)
    assert (again.suite, again.scores) == (first.suite, first.scores)
    for suite, more, said in (
        ("digits", {}, "is of 'digits', and data= gives other pictures; leave suite= out"),
        (first.suite, {"sources": 2}, "sources is 2, and the suite 'own-data' has 3 already"),
    ):
        with pytest.raises(GenrobustError, match=said):
            genrobust.bench(model, suite, data=pictures, **how, **more)
    with pytest.raises(GenrobustError, match=r"genrobust.bench takes them again as data=; all"):
        genrobust.bench(model, first.suite, **how)


def test_other_pictures_take_the_place_of_a_suite_in_a_folder_that_goes_by_no_name(
    tmp_path: Path,
) -> None:
    """And going back to the first ones gives the first suite, so that records compare."""
    one = load_suite("digits").limited(4).model_copy(update={"name": "own-data"})
    other = one.model_copy(update={"data_sha256": "0" * 64})
    for suite in (one, other, one):
        found, file = placed(suite, lambda _: tmp_path, radii=True)
        keep(found, file, over=True)
        assert found == suite == load_suite(str(file))
    named, file = placed(other, lambda suite: tmp_path / suite.name, radii=True)
    keep(named, file)
    assert named == other, "there was none"
    named, file = placed(one, lambda suite: tmp_path / suite.name, radii=True)
    assert named.name == file.parent.name != one.name


def test_of_suites_of_the_same_pictures_that_are_drawn_at_once_the_first_stays(
    tmp_path: Path,
) -> None:
    """So that no two records are of one suite at different radii."""
    one = load_suite("digits").limited(4).model_copy(update={"name": "own-data"})
    both = [one, one.with_eps([0.3])]
    drawn = [placed(suite, lambda suite: tmp_path / suite.name, radii=False) for suite in both]
    for _ in range(2):
        keep(*drawn[0])
    with pytest.raises(GenrobustError, match=r"drawn meanwhile by another command, .* type this"):
        keep(*drawn[1])
    assert load_suite(str(drawn[0][1])) == one
    assert placed(both[1], lambda suite: tmp_path / suite.name, radii=False) == drawn[0]


def test_a_run_that_is_refused_leaves_no_suite_behind(place: Path) -> None:
    said = "the attack 'classifier' needs a judge or labels"
    pictures = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(GenrobustError, match=said):
        genrobust.bench(_Model(), data=pictures, out="out", **_CHEAP | {"attacks": ["classifier"]})
    words = ("bench", "--model", "mine.py:VAE", "--data", "shapes", "--eps", "0.1", "--out", "out")
    assert said in _fails(*words, "--attack", "classifier")
    assert not (place / "out").exists()


def test_a_place_that_may_be_either_of_two_is_refused(place: Path) -> None:
    """One in the current folder took the place of that below --data-root, without a word."""
    words = ("suite", "make", "--model", "mine.py:VAE", "--eps", "0.1", "--data", "shapes")
    (place / "far").mkdir()
    for root in (".", "far", "nowhere"):
        _run(*words, "--out", f"{root}.a.json", "--data-root", root)
    shutil.copytree("shapes", "far/shapes")
    shutil.copy("mine.py", "far/mine.py")
    told = f"as a whole path, such as '{place.resolve()}/far/shapes'"
    assert told in _fails(*words, "--out", "b.json", "--data-root", "far")
    code = (*words[:-1], "mine.py:pictures", "--out", "b.json", "--data-root", "far")
    assert "there is 'mine.py' in the current folder and in the data's root 'far'" in _fails(*code)
    whole = str(place / "shapes")
    _run(*words[:-1], whole, "--out", "b.json", "--data-root", "far")
    _run("check", "mine.py:VAE", "--data", whole, "--data-root", "far")


def test_a_suite_is_not_written_over_by_another(place: Path) -> None:
    """It is what others measure by, and what records are of."""
    make = ("suite", "make", "--model", "mine.py:VAE", "--data", "shapes", "--eps", "0.1")
    for _ in range(2):
        _run(*make, "--out", "a.json", "--sources", "4")
    before = Path("a.json").read_bytes()
    assert "'a.json' is there already, and is not" in _fails(*make, "--out", "a.json")
    assert Path("a.json").read_bytes() == before
    Path("b.json").write_text("{}")
    assert "give another --out, or remove it first" in _fails(*make, "--out", "b.json")


@pytest.mark.parametrize("sources", [0, 1, -1])
def test_a_suite_has_two_sources_or_more(sources: int) -> None:
    pictures = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(GenrobustError, match=f"{sources} of the .* a suite needs two sources"):
        genrobust.bench(_Model(), data=pictures, **_CHEAP | {"sources": sources})


@pytest.mark.parametrize("sources", [None, 1, 2])
def test_one_picture_is_told_what_helps(sources: int | None) -> None:
    """No number of sources does."""
    with pytest.raises(GenrobustError, match=r"has one picture, .*; give two pictures or more"):
        genrobust.bench(_Model(), data=torch.rand(1, 1, 16, 16), **_CHEAP | {"sources": sources})


@pytest.mark.slow
def test_what_ships_is_benched_on_a_suite_that_is_drawn_from_its_data_set(place: Path) -> None:
    """At the shape that it was trained at, which is not that of the files."""
    record = genrobust.bench("vae", data="digits", **_CHEAP | {"sources": 3})
    assert (record.suite.dataset, record.scores.sources) == ("digits", 3)
    assert "ready" in _run("check", "vae", "--data", "digits")


def test_labels_of_an_array_by_another_name_are_told_theirs(place: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), "uint8")
    np.savez("mine.npz", images=pictures, label=np.arange(6) % 3)
    words = ("bench", "--model", "mine.py:VAE", "--data", "mine.npz", "--judge", "mine.py:judge")
    assert "call the array of classes in a .npz 'labels', or give (images, labels)" in _fails(
        *words
    )
    train = ("train", "--judge", "lenet", "--dataset", "mine.npz?shape=3x16x16&classes=3")
    assert "the pictures of 'mine.npz' have no labels" in _fails(*train)


def test_of_a_registered_data_set_so_many_are_drawn_as_its_name_says() -> None:
    suite = draw(genrobust.load_model("vae"), Reference("digits", draw=6), radii=[0.1])
    assert (suite.dataset, len(suite.sample_ids)) == ("digits", 6)
