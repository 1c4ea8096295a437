"""The Python API's border: what works, and what is one sentence with what to type instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from principal import principal
from torch import Tensor, nn

import genrobust
from genrobust import metrics
from genrobust.attacks.base import make_attack
from genrobust.data.base import DATASETS, Images
from genrobust.defences import center_bound, certified_radius
from genrobust.errors import GenrobustError
from genrobust.reproduce import Setup
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.suites import Suite, load_suite
from genrobust.threat import ThreatModel
from genrobust.training.judge import train_judge
from genrobust.training.recipes import recipe
from genrobust.training.vae import train_vae
from genrobust.verify.verify import VerifyOptions

pytestmark = pytest.mark.usefixtures("brief")


def refused(words: str, call: Callable[[], Any]) -> None:
    """It is one sentence, with what was given and what to do."""
    with pytest.raises(GenrobustError, match=words) as found:
        call()
    assert "\n" not in str(found.value)


X = genrobust.load_images("digits").take(range(3))
LABELS = genrobust.load_images("digits").labels_of(range(3))
lenet = cache(partial(genrobust.load_judge, "digits", "lenet"))


def attack(name: str = "classifier", x: Any = X, **given: Any) -> genrobust.AttackResult:
    asked = {"labels": LABELS, "judge": lenet(), **given}
    settings = {} if name == "noise" else {"steps": 3}
    model = asked.pop("model", None)
    model = principal() if model is None else model
    return genrobust.attack(name, model, x, **settings, **asked)


@cache
def attacked() -> Tensor:
    """What the plain call leads to."""
    return attack().x_adv


# Images and labels of any type


@pytest.mark.parametrize(
    "given",
    [
        X.double(),
        X.numpy(),
        X.numpy().astype("float64"),
        X.numpy().astype(">f4"),
        X.numpy()[:, :, ::-1, ::-1][:, :, ::-1, ::-1],
        X.clone().requires_grad_(),
        X.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2),
        X.tolist(),
    ],
    ids=[
        "double",
        "array",
        "float64 array",
        "big-endian",
        "flipped view",
        "with gradient",
        "strided",
        "lists",
    ],
)
def test_images_in_any_form_are_attacked_in_float32(given: Any) -> None:
    found = attack(x=given)
    assert found.x_adv.dtype == torch.float32
    assert not found.x_adv.requires_grad
    assert torch.equal(found.x_adv, attacked())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_images_in_half_precision_are_attacked_in_float32(dtype: torch.dtype) -> None:
    found = attack(x=X.to(dtype))
    assert found.x_adv.dtype == torch.float32
    assert torch.equal(found.x_adv, attack(x=X.to(dtype).float()).x_adv)


@pytest.mark.parametrize(
    "given",
    [
        LABELS.int(),
        LABELS.to(torch.uint8),
        LABELS.numpy(),
        LABELS.numpy().astype("int16"),
        LABELS.numpy().astype(">i8"),
        LABELS.tolist(),
    ],
    ids=["int32", "uint8", "array", "int16 array", "big-endian", "list"],
)
def test_labels_in_any_form_are_classes(given: Any) -> None:
    assert torch.equal(attack(labels=given).x_adv, attacked())
    targets = (LABELS + 1) % 10
    aimed = attack(target_labels=type(given)(targets) if isinstance(given, list) else targets)
    assert aimed.success is not None


def test_a_double_model_is_attacked_in_double(linear_vae: Any) -> None:
    stream = torch.Generator().manual_seed(0)
    E = torch.randn(3, 16, generator=stream).double()
    model = linear_vae(E, E.T)
    x = torch.rand(2, 1, 4, 4, generator=stream).double()
    found = genrobust.attack("latent", model, x, steps=2)
    assert found.x_adv.dtype == torch.float64
    assert genrobust.attack("latent", model, x.float(), steps=2).x_adv.dtype == torch.float32


ZERO = torch.zeros(3, 1, 32, 32)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"x": (255 * X).byte()}, r"x is torch.uint8; pass floats in \[0, 1\], such as x / 255"),
        ({"x": X > 0.5}, r"x is torch.bool; pass floats in \[0, 1\], such as x.float\(\)"),
        ({"x": X * torch.nan}, "x has NaN or infinite pixels"),
        ({"x": torch.where(X > 0.5, torch.inf, X)}, "x has NaN or infinite pixels"),
        (
            {"x": 2 * X - 1},
            r"x has pixels from -1 to 0.9\d*; .*give \(x \+ 1\) / 2 of pixels from -1 to 1; .* "
            r"undo it by x \* std \+ mean; the range",
        ),
        (
            {"x": (X - 0.1307) / 0.3081},
            r"from -0.42\d* to 2.7\d*; \[0, 1\] is allowed: leave out what normalised .* undo it "
            r"by x \* std \+ mean; the range",
        ),
        (
            {"x": 255 * X},
            "pixels from .* by what white is in them, which is 255 in bytes; the range",
        ),
        (
            {"x": (X > 0.5) * (1 + 2e-7)},
            r"to 1\.0000002\d*; .* by x.clip\(0, 1\); the range",
        ),
        ({"x": X - 1e-8 * (X < 0.5)}, r"from -\d.* to .* by x.clip\(0, 1\); the range"),
        ({"x": X[0]}, r"x has shape \(1, 32, 32\); the model takes \(B, 1, 32, 32\)"),
        ({"x": X[:0]}, "x holds no images"),
        ({"x": "picture.png"}, "x is 'picture.png'; give a tensor or an array"),
        ({"x": None}, "x is None; give a tensor or an array"),
        ({"x": X.to("meta")}, "with its data"),
        ({"x": X * 1j}, "plain tensor of real numbers"),
        ({"target": X[:2]}, "target has 2 entries for 3 images"),
        ({"target": X.numpy() * np.nan}, "target has NaN"),
        ({"labels": LABELS.float()}, "labels are torch.float32; give classes as whole numbers"),
        ({"labels": LABELS.numpy() / 2}, "labels are torch.float64; give classes"),
        ({"labels": LABELS + 10}, r"labels go from \d+ to \d+; classes are from 0 to 9"),
        ({"labels": LABELS - 8}, "labels go from -8 to"),
        ({"target_labels": torch.tensor([0, 1, 10])}, "target_labels go from 0 to 10; classes are"),
        ({"target_labels": [0, -1, 1]}, "target_labels go from -1 to 1"),
        ({"labels": LABELS[:2]}, "labels has 2 entries for 3 images"),
        ({"labels": LABELS[:, None]}, r"labels has shape \(3, 1\); give \(B,\)"),
        ({"labels": torch.tensor(3)}, r"labels has shape \(\); give \(B,\)"),
        ({"labels": "three"}, "labels is 'three'; give a tensor"),
        ({"labels": LABELS.to("meta")}, "labels is a Tensor .*; give a plain tensor"),
        ({"references": X}, "references is a Tensor; pass two"),
        ({"references": (X, LABELS[:2])}, r"references\[1\] has 2 entries for 3 images"),
        ({"references": (X, -LABELS - 1)}, r"references\[1\] go from -"),
        ({"references": (X[:, :, 1:], LABELS)}, r"references\[0\] has shape"),
        ({"judge": "lenet"}, "judge is a str; pass a judge, such as"),
        ({"sample_ids": [0, 1]}, "sample_ids has 2 entries for 3 images"),
        ({"sample_ids": [0, 1, 1]}, "sample_ids has an id twice"),
        ({"sample_ids": [0, 1, 1.5]}, r"sample_ids\[2\] is 1.5; give a whole number"),
        ({"sample_ids": "012"}, "sample_ids is '012'; give a list"),
        ({"sample_ids": 3}, "sample_ids is 3; give a list"),
        ({"eps": "0.1"}, "eps is '0.1'; give a number, such as eps=0.1"),
        ({"eps": [0.1]}, r"eps is \[0.1\]; give a number"),
        ({"eps": None}, "eps is None; give a number"),
        ({"eps": True}, "eps is True; give a number"),
        ({"eps": float("nan")}, "eps is nan; it must be a number from 0 up"),
        ({"eps": -0.1}, "eps is -0.1; it must be a number from 0 up"),
        ({"norm": "linfinity"}, "unknown norm 'linfinity'; did you mean 'linf'"),
        ({"norm": 2}, "unknown norm '2'; did you mean 'l2'"),
        ({"norm": ["l2"]}, "unknown norm"),
        ({"seed": "0"}, "seed is '0'; give a whole number, such as seed=0"),
        ({"seed": 0.5}, "seed is 0.5; give a whole number"),
        ({"seed": None}, "seed is None; give a whole number"),
        ({"model": "vae"}, r"model is the name 'vae'; load it first: .*load_model\('vae'\)"),
        ({"model": nn.Linear(2, 2)}, "model is a bare Linear; wrap it first"),
        ({"model": 3}, "model is a int; pass what genrobust.wrap"),
        ({"name": 3}, "attack is 3; give a string, such as attack='latent'"),
        ({"name": ["fgsm"]}, r"attack is \['fgsm'\]; give a string"),
    ],
)
def test_what_attack_cannot_take_is_one_sentence(given: dict[str, Any], words: str) -> None:
    refused(words, lambda: attack(**given))


def test_a_judge_of_other_images_is_one_sentence(linear_vae: Any) -> None:
    model = linear_vae(torch.eye(16)[:3], torch.eye(16)[:, :3])
    judge = genrobust.load_judge("digits", "thesis")
    x = torch.zeros(2, 1, 4, 4)
    refused(
        r"judge 'digits/thesis' cannot look at images of shape \(1, 4, 4\)",
        lambda: genrobust.attack("fgsm", model, x, labels=[0, 1], judge=judge),
    )


def test_numbers_may_be_those_of_numpy_and_torch() -> None:
    plain = attack(eps=0.25, seed=3, sample_ids=[5, 6, 7])
    other = attack(eps=np.float32(0.25), seed=np.int64(3), sample_ids=np.array([5, 6, 7]))
    assert torch.equal(plain.x_adv, other.x_adv)
    third = attack(eps=torch.tensor(0.25), seed=torch.tensor(3), sample_ids=torch.arange(5, 8))
    assert torch.equal(plain.x_adv, third.x_adv)
    assert ThreatModel("l2", 1).eps == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_setting_that_is_no_finite_number_is_refused(value: float) -> None:
    refused("must be a finite number", lambda: make_attack("classifier", {"confidence": value}))


# bench and minimum_norm

BENCH = [
    ({"evidence": "evidence.zip"}, "evidence is 'evidence.zip'; give True or False"),
    ({"evidence": True, "out": None}, "evidence is written .* out is not given; give one, such as"),
    ({"eps": 0.1}, r"eps is 0.1; give a list, such as eps=\[0.1\]"),
    ({"eps": "0.1"}, r"eps is '0.1'; give a list"),
    ({"eps": ["0.1"]}, r"eps\[0\] is '0.1'; give a number"),
    ({"eps": [float("inf")]}, "finite eps from 0 up"),
    (
        {"eps": [float("inf")], "attacks": ["carlini-wagner"], "norm": "l2"},
        "finite eps from 0 up",
    ),
    ({"attacks": "fgsm"}, r"attacks is 'fgsm'; give a list, such as attacks=\['latent'\]"),
    ({"attacks": [3]}, r"attacks\[0\] is 3; give a string"),
    (
        {"attacks": []},
        r"attacks is empty; give at least one, such as attacks=\['latent'\], or leave",
    ),
    ({"eps": []}, r"eps is empty; give at least one, such as eps=\[0.1\], or leave it out"),
    ({"eps": np.array([])}, "eps is empty; give at least one"),
    ({"judge": []}, "judge is empty; give at least one"),
    ({"judge": 3}, "judge is 3; give a list"),
    ({"judge": ["lenet", "d\udce9j.py:judge"]}, r"judge\[1\] 'd\\xe9j.py:judge' is not in UTF-8"),
]
BOTH = [
    ({"limit": "5"}, "limit is '5'; give a whole number, such as limit=20"),
    ({"limit": 2.5}, "limit is 2.5; give a whole number"),
    ({"limit": True}, "limit is True; give a whole number"),
    ({"limit": 0}, "it must be 1 or more"),
    ({"seed": "1"}, "seed is '1'; give a whole number"),
    ({"seed": None}, "seed is None; give a whole number"),
    ({"workers": "2"}, "workers is '2'; give a whole number"),
    ({"workers": 0}, "it must be 1 or more"),
    ({"batch_size": 2.5}, "batch_size is 2.5; give a whole number, such as batch_size=64"),
    ({"batch_size": "8"}, "batch_size is '8'; give a whole number"),
    ({"batch_size": True}, "batch_size is True; give a whole number"),
    ({"norm": "l3"}, "unknown norm 'l3'; did you mean 'l2'"),
    ({"norm": 2}, "norm is 2; give a string"),
    ({"device": "meta"}, "the device 'meta' cannot be used"),
    ({"device": "gpu"}, "the device 'gpu' cannot be used"),
    ({"data_root": 3}, "data_root is 3; give a path"),
    ({"out": 3}, "out is 3; give a path"),
    ({"out": "d\udce9j"}, r"out '.*d\\xe9j' is not in UTF-8, as results are; rename"),
    ({"data_root": Path("d\udce9j")}, r"data_root '.*d\\xe9j' is not in UTF-8"),
    ({"model": "d\udce9j.py:build"}, r"model 'd\\xe9j.py:build' is not in UTF-8"),
    ({"model": "\ud800"}, r"model '.*' is not in UTF-8"),
    ({"model": 3}, "model is a int; give a name such as 'vae'"),
    ({"model": None}, "model is a NoneType; give a name"),
    ({"suite": 3}, "suite is a int; give a name such as 'digits'"),
    ({"suite": {"name": "digits"}}, "suite is a dict; give a name"),
    ({"suite": Path("none.json")}, "the suite 'none.json' cannot be read"),
]


@pytest.mark.parametrize(("given", "words"), [*BENCH, *BOTH])
def test_what_bench_cannot_take_is_one_sentence(
    given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    asked = {"model": "vae", "suite": "digits", "limit": 1, "out": tmp_path / "run", **given}
    refused(words, lambda: genrobust.bench(**asked))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *BOTH,
        ({"radius": "0.1"}, "radius is '0.1'; give a number"),
        ({"radius": [0.1]}, r"radius is \[0.1\]; give a number"),
    ],
)
def test_what_minimum_norm_cannot_take_is_one_sentence(
    given: dict[str, Any], words: str, tmp_path: Path
) -> None:
    asked = {"model": "vae", "suite": "digits", "limit": 1, "out": tmp_path / "run", **given}
    refused(words, lambda: genrobust.minimum_norm(**asked))
    assert not (tmp_path / "run").exists()


def test_a_range_of_pixels_in_an_array_or_a_tensor_is_that_of_its_numbers() -> None:
    """No fingerprint or record could hold the array itself."""
    module = principal().module
    known = genrobust.wrap(module, value_range=(0.0, 1.0), clamp=True)
    for given in (np.array([0.0, 1.0]), torch.tensor([0.0, 1.0]), (np.float32(0), torch.ones(()))):
        same = genrobust.wrap(module, value_range=given, clamp=True)
        assert same.fingerprint() == known.fingerprint()
    for wrong in (torch.zeros(2, 3), ((0, 0, 0), (1, 1, 1)), (torch.zeros(3), torch.ones(3))):
        refused("value_range is .lowest", partial(genrobust.wrap, module, value_range=wrong))


@pytest.mark.parametrize("most", [2.5, "8", True])
def test_a_bound_on_images_at_once_is_a_whole_number(most: Any) -> None:
    module = principal().module
    refused("max_batch is .*; give a whole number", lambda: genrobust.wrap(module, max_batch=most))
    refused(
        "max_batch is .*; give a whole number",
        lambda: genrobust.load_model("vae", max_batch=most),
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clamp": "yes"}, "clamp is 'yes'; give True or False"),
        ({"differentiable": "no"}, "differentiable is 'no'; give True or False"),
        ({"differentiable": None}, "differentiable is None; give True or False"),
        ({"draws": True}, "draws is True; give a whole number, such as draws=16"),
        ({"draws": 0}, "draws is 0; it is 1, or more"),
        ({"name": 3}, "name is 3; give a string, such as name='mine'"),
    ],
)
def test_what_wrap_cannot_take_is_one_sentence(given: dict[str, Any], words: str) -> None:
    refused(words, lambda: genrobust.wrap(principal().module, **given))


def test_numbers_and_truths_of_numpy_are_those_of_wrap() -> None:
    module = principal().module
    found = genrobust.wrap(module, clamp=np.bool_(True), max_batch=np.int64(2), draws=np.int64(1))
    assert (found.clamp, found.max_batch, type(found.max_batch)) == (True, 2, int)


def test_options_are_kept_as_plain_values() -> None:
    options = Options(limit=np.int64(3), eps=np.array([0.5]), attacks=["noise"], seed=np.int32(2))
    assert options == Options(limit=3, eps=(0.5,), attacks=("noise",), seed=2)
    assert [type(v) for v in (options.limit, options.seed, *options.eps)] == [int, int, float]


# Data


def made(**change: Any) -> Images:
    return Images(
        **{"raw": torch.rand(3, 1, 8, 8), "labels": torch.arange(3), "size": (8, 8), **change}
    )


def test_images_may_be_arrays() -> None:
    raw = np.arange(2 * 64, dtype="uint8").reshape(2, 1, 8, 8)
    images = Images(raw, np.array([3, 1], dtype="int32"), np.array([8, 8]))
    assert torch.equal(images.take([1]), torch.from_numpy(raw)[1:] / 255)
    assert images.labels_of(np.array([1, 0])).tolist() == [1, 3]
    same = Images(torch.from_numpy(raw), torch.tensor([3, 1]), (8, 8))
    assert images.sha256 == same.sha256
    assert Images(raw / 255.0, None, (4, 4)).take(range(2)).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"raw": torch.rand(3, 8, 8)}, r"raw has shape \(3, 8, 8\); give images \(N, C, H, W\)"),
        ({"raw": torch.rand(0, 1, 8, 8)}, "at least one"),
        ({"raw": torch.zeros(3, 1, 8, 8).long()}, r"raw is torch.int64; give bytes \(uint8\)"),
        ({"raw": torch.zeros(3, 1, 8, 8).bool()}, r"raw is torch.bool; give bytes \(uint8\)"),
        ({"raw": 255 * torch.ones(3, 1, 8, 8)}, "raw has pixels from 255 to 255"),
        ({"raw": torch.full((3, 1, 8, 8), torch.nan)}, "raw has NaN or infinite pixels"),
        ({"raw": "digits"}, "raw is 'digits'; give a tensor"),
        ({"labels": torch.arange(2)}, r"labels have shape \(2,\) for 3 images"),
        ({"labels": torch.zeros(3, 1).long()}, r"labels have shape \(3, 1\) for 3 images"),
        ({"labels": torch.rand(3)}, "labels are torch.float32; give classes"),
        ({"labels": torch.arange(3) - 1}, "labels go from -1; classes are numbered from 0"),
        ({"labels": ["a", "b", "c"]}, "labels is .*; give a tensor"),
        ({"size": 8}, "size is 8; give a list"),
        ({"size": (8,)}, r"size is \(8,\); give \(height, width\)"),
        ({"size": (8, 0)}, r"size is \(8, 0\); give \(height, width\)"),
        ({"size": (8, 8.5)}, r"size\[1\] is 8.5"),
    ],
)
def test_images_that_are_none_are_one_sentence(change: dict[str, Any], words: str) -> None:
    refused(words, lambda: made(**change))


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([3], "ids go from 3 to 3; these images have 0 to 2"),
        ([-1, 0], "ids go from -1 to 0"),
        ([0.5], "ids are torch.float64; give classes|ids are torch.float64"),
        ([True, False, True], "ids are torch.bool"),
        ([[0]], "ids are torch.int64 of shape"),
        (torch.tensor(1), "ids are torch.int64 of shape"),
        ("0", "ids is '0'; give a tensor"),
    ],
)
def test_positions_that_are_none_are_one_sentence(ids: Any, words: str) -> None:
    refused(words, lambda: made().take(ids))
    refused(words, lambda: made().labels_of(ids))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"split": "tset"}, "a split is 'train' or 'test', not 'tset'"),
        ({"split": None}, "a split is 'train' or 'test', not None"),
        ({"split": ["train"]}, "a split is 'train' or 'test'"),
        ({"name": 3}, "name is 3; give a string, such as name='digits'"),
        ({"root": 3}, "root is 3; give a path"),
        ({"root": __file__}, "is a file; give the folder"),
        ({"name": "mnist", "root": __file__}, "is a file; give the folder"),
    ],
)
def test_data_that_is_not_there_is_one_sentence(given: dict[str, Any], words: str) -> None:
    refused(words, lambda: genrobust.load_images(**{"name": "digits", **given}))


# Suites that do not fit their data


def changed(suite: Suite, **update: Any) -> Suite:
    return suite.limited(3).model_copy(update=update)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"sample_ids": (0, 1, 599)}, "names the image 599 in sample_ids, .* 0 to 598"),
        ({"sample_ids": (0, 1, -1)}, r"sample_ids\.2: Input should be greater"),
        ({"target_ids": (0, 1, 10**6)}, "names the image 1000000 in target_ids"),
        ({"target_ids": (-5, 1, 2)}, r"target_ids\.0: Input should be greater"),
        ({"sample_ids": (0, 1, 0)}, "names the image 0 twice in sample_ids"),
        ({"target_ids": (0, 1, 2), "sample_ids": (0, 1, 2)}, "a target of its own class"),
    ],
)
@pytest.mark.parametrize("run", [genrobust.bench, genrobust.minimum_norm])
def test_a_suite_that_does_not_fit_its_data_is_refused_before_anything(
    run: Any, update: dict[str, Any], words: str, small_suite: Suite, tmp_path: Path
) -> None:
    suite = changed(small_suite, **update)
    refused(words, lambda: run("vae", suite, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_target_of_the_own_class_is_told_by_the_labels(small_suite: Suite) -> None:
    images = genrobust.load_images("digits")
    first = small_suite.sample_ids[0]
    assert images.labels is not None
    same = (images.labels == images.labels[first]).nonzero()[:, 0].tolist()
    other = next(i for i in same if i != first)
    suite = changed(small_suite, target_ids=(other, *small_suite.target_ids[1:3]))
    refused(f"gives the image {first} a target of its own class", lambda: prepare_(suite))


def prepare_(suite: Suite) -> Any:
    return prepare("vae", suite, Options())


class Misnumbered:
    """Images of class 7 in a data set that names five classes."""

    name = "misnumbered"
    classes = tuple("01234")
    image_shape = (1, 32, 32)

    def load(self, split: str, root: Path | None) -> Images:
        labels = torch.tensor([0, 1, 7, 3])
        return Images(
            torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), labels, (32, 32)
        )


def test_a_class_that_the_data_set_does_not_name_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DATASETS._registered, "misnumbered", Misnumbered())
    images = Misnumbered().load("test", None)
    update = {
        "dataset": "misnumbered",
        "data_sha256": images.sha256,
        "sample_ids": (0, 2),
        "target_ids": (1, 3),
    }
    suite = load_suite("digits").model_copy(update=update)
    refused("has an image of class 7 and names 5 classes", lambda: prepare_(suite))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_the_command_line_refuses_is_refused_here(seed: int, tmp_path: Path) -> None:
    refused(f"seed is {seed}; give a whole number from 0 to", lambda: Options(seed=seed))
    sentence = f"seed is {seed}; give a whole number from 0 to {2**63 - 1}, such as seed=0"
    ids = range(3)
    codes = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(2, 1)
    model = principal()
    calls: tuple[Callable[[], Any], ...] = (
        lambda: genrobust.bench("vae", limit=1, seed=seed),
        lambda: attack(seed=seed),
        lambda: metrics.paired_difference(LABELS > 5, LABELS > 6, seed=seed),
        lambda: metrics.sap(codes.float(), codes, seed),
        lambda: metrics.dci(codes.float(), codes, seed),
        lambda: metrics.robust_probability(model, X, X, 1.0, sample_ids=ids, seed=seed),
        lambda: metrics.target_log_likelihood(model, X, X, sample_ids=ids, draws=1, seed=seed),
        lambda: certified_radius(lambda x: x[:, 0, 0, 0].long(), X, 1, sample_ids=ids, seed=seed),
        lambda: center_bound(model, X, 0.2, 0.1, sample_ids=ids, seed=seed),
        lambda: Setup(Path("reproduced"), seed=seed),
        lambda: train_vae("mine", "digits", recipe("vae", "digits"), tmp_path / "a", seed=seed),
        lambda: train_judge("lenet", "digits", tmp_path / "a", seed=seed),
        lambda: VerifyOptions(seed=seed),
    )
    for call in calls:
        refused(sentence, call)
    assert not list(tmp_path.iterdir())


def test_a_seed_of_numpy_draws_what_the_number_draws() -> None:
    def drawn(seed: Any) -> metrics.Difference:
        return metrics.paired_difference(LABELS > 5, LABELS > 6, seed=seed)

    assert drawn(np.int64(7)) == drawn(7)
    largest = 2**63 - 1  # more than scikit-learn takes
    factors = torch.cartesian_prod(torch.arange(2), torch.arange(2)).repeat(8, 1)
    assert 0 <= metrics.sap(factors.float(), factors, largest) <= 1


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_smallest_and_the_largest_seed_are_taken(seed: int) -> None:
    assert Options(seed=seed).seed == seed


@pytest.mark.parametrize("load", [genrobust.Record.load, genrobust.MinimumNormRecord.load])
@pytest.mark.parametrize("given", [None, 1, b"run", X])
def test_a_record_is_loaded_from_a_path(load: Callable[[Any], Any], given: Any) -> None:
    refused("path is .*; give a path, such as path='genrobust-runs/", lambda: load(given))


@pytest.mark.parametrize(
    ("name", "settings", "plain"),
    [
        ("latent", {"steps": np.int64(5)}, {"steps": 5}),
        ("latent", {"steps": torch.tensor(5)}, {"steps": 5}),
        ("classifier", {"confidence": np.float32(0.5)}, {"confidence": 0.5}),
        ("classifier", {"confidence": np.array(0.5)}, {"confidence": 0.5}),
    ],
)
def test_a_setting_of_numpy_or_torch_is_the_number(
    name: str, settings: dict[str, Any], plain: dict[str, Any]
) -> None:
    found = make_attack(name, settings).settings()
    assert found == make_attack(name, plain).settings()
    (key,) = plain
    assert type(found[key]) is type(plain[key])


def test_an_image_that_shows_its_own_class_is_no_success() -> None:
    found = attack(target_labels=LABELS)
    shown = lenet().labels(principal().reconstruct(found.x_adv))
    assert torch.equal(shown, LABELS)
    assert found.success is not None
    assert not found.success.any()
