"""A bound on what goes through a model at once changes no result but by rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from brief_signs import brief_signs
from torch import Tensor, nn

import genrobust
from genrobust import GenrobustError
from genrobust.judges import load_judge
from genrobust.posterior import Categorical, Gaussian, Posterior
from genrobust.runner.curve import prepare_curve
from genrobust.runner.options import Options
from genrobust.suites import Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")

LIMIT = 4


class Narrow(nn.Module):
    """The zoo's jointvae, which takes four images at once and no more."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.net = genrobust.load_model("jointvae").module
        self.most = 0

    def encode(self, x: Tensor) -> Posterior:
        self.note(x)
        found: Posterior = self.net.encode(x)  # type: ignore[operator]
        return found

    def decode(self, z: Tensor) -> Tensor:
        self.note(z)
        image: Tensor = self.net.decode(z)  # type: ignore[operator]
        return image

    def note(self, batch: Tensor) -> None:
        self.most = max(self.most, len(batch))
        if len(batch) > LIMIT:
            raise RuntimeError("too many")


@pytest.fixture
def images() -> Tensor:
    return genrobust.load_images("digits").take(range(9))


@pytest.mark.parametrize("count", [1, LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT, 9])
def test_all_that_a_model_gives_is_the_same_in_pieces(count: int, images: Tensor) -> None:
    whole = genrobust.load_model("jointvae")
    model, x = whole.at_most(LIMIT), images[:count]
    found, wanted = model.encode(x), whole.encode(x)
    assert [type(part) for part in found.parts] == [Gaussian, Categorical]
    assert torch.allclose(found.vector(), wanted.vector(), atol=1e-5)
    assert torch.allclose(model.reconstruct(x), whole.reconstruct(x), atol=1e-5)
    gradients = []
    for one in (model, whole):
        y = x.clone().requires_grad_()
        total = one.surrogate(y, "softmax").square().sum() + one.encode(y).kl_to_prior().sum()
        gradients += torch.autograd.grad(total, y)
    assert torch.allclose(*gradients, atol=1e-4, rtol=1e-4)


def test_a_deployment_of_its_own_is_bounded_too(images: Tensor) -> None:
    module = Narrow()

    def deploy(x: Tensor) -> Tensor:
        return module.decode(module.encode(x).mode())

    model = genrobust.wrap(module, deploy=deploy, max_batch=LIMIT)
    expected = genrobust.load_model("jointvae").reconstruct(images)
    assert torch.allclose(model.reconstruct(images), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["nearest", "kos-classifier", "gondim-latent", "latent", "alma"])
def test_every_attack_keeps_to_it(name: str, images: Tensor) -> None:
    module = Narrow()
    model = genrobust.wrap(module, max_batch=LIMIT)
    train = genrobust.load_images("digits", "train")
    ids, chosen = range(20), [0, 1, 2]
    settings = {"points": 5} if name == "gondim-latent" else {}
    if name == "alma":
        settings = {"passes": 2}
    elif name == "kos-classifier":
        settings = {"epochs": 1}
    labels = genrobust.load_images("digits").labels_of(torch.tensor(chosen))
    found = []
    for one in (model, genrobust.load_model("jointvae")):
        found.append(
            genrobust.attack(
                name,
                one,
                images[chosen],
                labels=labels,
                target=None if name in ("nearest", "alma") else images[[3, 4, 5]],
                target_labels=None if name in ("nearest", "alma") else labels.flip(0),
                judge=load_judge("digits", "lenet"),
                references=(train.take(ids), train.labels_of(torch.tensor(ids))),
                **({} if "passes" in settings else {"steps": 2}),
                **settings,
            )
        )
    assert module.most == LIMIT
    if name != "kos-classifier":  # Adam's first steps are signs of gradients that are nearly 0
        assert torch.allclose(found[0].x_adv, found[1].x_adv, atol=1e-3)
    assert found[0].forwards.tolist() == found[1].forwards.tolist()


def test_grill_says_that_it_cannot(images: Tensor) -> None:
    model = genrobust.load_model("vae").at_most(LIMIT)
    genrobust.attack("grill", model, images[:LIMIT], passes=1)
    with pytest.raises(GenrobustError, match=r"takes 4 at once; raise --batch-size"):
        genrobust.attack("grill", model, images[: LIMIT + 1], passes=1)


@pytest.mark.slow
def test_runs_have_an_option_for_it(tmp_path: Path) -> None:
    suite = load_suite("digits").limited(6).with_attacks(["noise"]).with_eps([0.1])
    file = tmp_path / "narrow.py"
    file.write_text(Path(__file__).read_text() + "\n\ndef build():\n    return Narrow()\n")
    with pytest.raises(GenrobustError, match=r"too many.*max_batch= or --batch-size"):
        genrobust.bench(f"{file}:build", suite, workers=1)
    record = genrobust.bench(f"{file}:build", suite, workers=1, batch_size=LIMIT)
    free = genrobust.bench("jointvae", suite, workers=1)
    assert record.scores.per_eps[0].robust_accuracy == free.scores.per_eps[0].robust_accuracy
    assert record.provenance.device == "cpu, at most 4 images at once"
    assert "--batch-size 4" in record.provenance.command
    curve = prepare_curve(f"{file}:build", suite, Options(batch_size=LIMIT))
    assert curve.loaded.scorer.model.max_batch == LIMIT
    assert curve.command.startswith("genrobust curve")
    assert "--batch-size 4" in curve.command


@pytest.mark.slow
def test_a_run_under_another_bound_does_not_take_over_shards(
    small_suite: Suite, tmp_path: Path
) -> None:
    suite = small_suite.limited(2).model_copy(update={"eps": (0.1,)}).with_attacks(["noise"])
    with brief_signs():
        genrobust.bench("vae", suite, workers=1, out=tmp_path)
        before = set((tmp_path / "shards").iterdir())
        genrobust.bench("vae", suite, workers=1, batch_size=1, out=tmp_path)
    after = set((tmp_path / "shards").iterdir())
    assert before < after  # those of the other bound stay
    assert len(after) == 2 * len(before)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_bound_is_one_or_more(limit: int, small_suite: Suite) -> None:
    with pytest.raises(GenrobustError, match="1 or more"):
        genrobust.bench("vae", small_suite, batch_size=limit)
    with pytest.raises(GenrobustError, match="1 or more"):
        genrobust.wrap(genrobust.load_model("vae").module, max_batch=limit)


def test_the_smaller_of_two_bounds_holds() -> None:
    model = genrobust.load_model("vae")
    assert model.at_most(None).max_batch is None
    assert model.at_most(4).at_most(2).max_batch == 2
    assert model.at_most(2).at_most(4).max_batch == 2


class Fixed(nn.Module):
    """It takes batches of one size alone, as code does that names it, and as exports do."""

    input_shape = (1, 8, 8)

    def __init__(self, size: int, pair: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.size, self.pair = size, pair
        self.enc, self.dec = nn.Linear(64, 8), nn.Linear(4, 64)

    def encode(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        mean, logvar = self.enc(x.view(self.size, 64)).chunk(2, 1)
        return (mean, logvar) if self.pair else mean

    def decode(self, z: Tensor) -> Tensor:
        image: Tensor = self.dec(z.view(self.size, 4)).sigmoid().view(self.size, 1, 8, 8)
        return image


class Whole(nn.Module):
    """A forward alone, of any number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc, self.dec = nn.Linear(64, 4), nn.Linear(4, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.enc(x.flatten(1))
        return self.dec(mean).sigmoid().view(-1, 1, 8, 8), mean


def typed(module: nn.Module, refusal: str) -> genrobust.GenerativeModel:
    """What the line in a refusal makes of a module."""
    line = refusal.split("or pass ")[1].replace(" and max_batch", ", max_batch")
    names = {"torch": torch, "module": module, "genrobust": genrobust}
    model: genrobust.GenerativeModel = eval(
        f"genrobust.wrap(module, input_shape=(1, 8, 8), {line})", names
    )
    return model


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("pair", [True, False])
def test_a_batch_of_a_fixed_size_is_filled_up_by_the_line_that_is_named(
    size: int, pair: bool
) -> None:
    module, x = Fixed(size, pair), torch.rand(3, 1, 8, 8)
    with pytest.raises(GenrobustError, match=f"takes batches of {size} alone") as refused:
        genrobust.wrap(module, max_batch=None if size == 8 else 3)
    found = typed(module, str(refused.value)).reconstruct(x)
    assert torch.allclose(found, genrobust.wrap(Fixed(-1, pair)).reconstruct(x), atol=1e-6)


def test_an_export_of_a_fixed_batch_is_told_how_it_is_filled_up() -> None:
    whole, x = Whole().eval(), torch.rand(3, 1, 8, 8)
    module = torch.export.export(whole, (torch.rand(8, 1, 8, 8),)).module()
    with pytest.raises(GenrobustError, match="takes batches of 8 alone") as refused:
        genrobust.wrap(module, input_shape=(1, 8, 8), max_batch=8)
    found = typed(module, str(refused.value)).reconstruct(x)
    assert torch.allclose(found, whole(x)[0], atol=1e-6)
    module = torch.export.export(whole, (torch.rand(1, 1, 8, 8),)).module()
    with pytest.raises(GenrobustError, match=r"takes one at once: .*max_batch=1"):
        genrobust.wrap(module, input_shape=(1, 8, 8))
    found = genrobust.wrap(module, input_shape=(1, 8, 8), max_batch=1).reconstruct(x)
    assert torch.allclose(found, whole(x)[0], atol=1e-6)


def test_torchscript_has_its_gradient_in_pieces_too() -> None:
    """Its second run, once it is optimised, remembers other tensors than its first."""
    whole = Whole().eval()
    module = torch.jit.trace(whole, torch.rand(2, 1, 8, 8))
    x, gradients = torch.rand(5, 1, 8, 8, requires_grad=True), []
    for one, most in ((whole, None), (module, 2)):
        model = genrobust.wrap(one, input_shape=(1, 8, 8), max_batch=most)
        gradients += torch.autograd.grad(model.surrogate(x, "deployed").square().sum(), x)
    assert torch.allclose(*gradients, atol=1e-6)
