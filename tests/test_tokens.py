"""Codebook models of other people, read as tokens without a line typed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from brief_signs import brief_signs
from styles import TOKENS
from torch import Tensor, nn

import genrobust
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustWarning
from genrobust.metrics.latent import token_flip_rate
from genrobust.models import GenerativeModel
from genrobust.models.checks.fidelity import fidelity
from genrobust.models.inputs import probe_images
from genrobust.models.portable import export_model, load_portable
from genrobust.posterior import Codebook, Point, Posterior
from genrobust.records.record import Record
from genrobust.seeding import generator
from genrobust.suites import load_suite


class Nearest(nn.Module):
    """A quantiser of (B, N, D); with ``straight`` the gradient goes past it."""

    def __init__(self, book: Tensor, straight: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(book)
        self.straight = straight

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        tokens = torch.cdist(z, self.embedding.weight.expand(len(z), -1, -1)).argmin(-1)
        code = self.embedding(tokens)
        return (z + (code - z).detach() if self.straight else code.detach()), tokens


class Small(nn.Module):
    """Codes of ten numbers about as large as those of a trained model."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 10), nn.Linear(10, 64)
        for weight in self.parameters():
            weight.data.normal_(std=0.3, generator=generator("small", weight.numel()))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior((Point(self.encoder(x.flatten(1))),))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid().view(-1, *self.input_shape)


class Pairs(nn.Module):
    """A model whose latents are quantised two by two, in encode."""

    def __init__(self, straight: bool = False, inner: Any = None) -> None:
        super().__init__()
        self.inner = inner or Small()
        self.input_shape = self.inner.input_shape
        book = 1.5 * torch.randn(48, 2, generator=generator("book"))
        self.quantizer = Nearest(book, straight)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self.quantizer(self.features(x))
        return found

    def features(self, x: Tensor) -> Tensor:
        mean: Tensor = self.inner.encode(x).mode()
        return mean.view(len(x), -1, 2)

    def decode(self, code: Tensor) -> Tensor:
        image: Tensor = self.inner.decode(code.flatten(1))
        return image

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


def part_of(model: GenerativeModel) -> Any:
    (part,) = model.encode(probe_images(model.input_shape)).parts
    return part


@pytest.mark.parametrize("style", TOKENS)
def test_a_quantiser_is_found_however_it_is_written(style: str) -> None:
    module = TOKENS[style]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenrobustWarning)
        model = genrobust.wrap(module)
    part = part_of(model)
    assert isinstance(part, Codebook)
    assert not any("avg" in name for name in model.spec["codebook"]), "a table that is none"
    x = probe_images(model.input_shape)
    torch.testing.assert_close(model.reconstruct(x), module(x)[0])


@pytest.mark.parametrize("most", [1, 4])
def test_a_quantiser_is_found_in_a_module_that_takes_few_images_at_once(most: int) -> None:
    class Few(Pairs):
        def features(self, x: Tensor) -> Tensor:
            assert len(x) <= most
            return super().features(x)

    model = genrobust.wrap(Few(), max_batch=most)
    assert isinstance(part_of(model), Codebook)


class Tied(Pairs):
    """Black images lie near the edge between two entries, of which forward takes the second."""

    def features(self, x: Tensor) -> Tensor:
        edge = self.quantizer.embedding.weight[:2].T @ torch.tensor([0.5005, 0.4995])
        return torch.where(x.amax((1, 2, 3)).view(-1, 1, 1) > 0, super().features(x), edge)

    def encode(self, x: Tensor) -> Any:
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        book = self.quantizer.embedding.weight
        apart = torch.cdist(self.features(x), book.expand(len(x), -1, -1)).square()
        apart[..., 1] -= 1e-4
        return self.decode(book[apart.argmin(-1)])


def test_a_choice_that_rounding_makes_is_no_misreading() -> None:
    model = genrobust.wrap(Tied())
    assert isinstance(part_of(model), Codebook)
    x = torch.rand(4, 1, 8, 8)
    assert fidelity(model, x, real=False).status == "equal"
    black = x * torch.tensor([1, 0, 1, 1]).view(-1, 1, 1, 1)
    assert fidelity(model, black, real=False).status == "equal"
    assert fidelity(model, 0 * x, real=False).status == "differs"


class Unused(Pairs):
    """It has a table, and takes no entry of it."""

    def encode(self, x: Tensor) -> Any:
        return self.features(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def test_a_table_that_nothing_is_taken_from_is_no_codebook() -> None:
    assert isinstance(part_of(genrobust.wrap(Unused())), Point)


class Blind(Unused):
    """Its decoder hardly sees the code, so that the nearest entries would do as well."""

    def decode(self, code: Tensor) -> Tensor:
        return super().decode(1e-6 * code)


def test_a_decoder_to_which_all_codes_are_alike_proves_no_codebook() -> None:
    assert isinstance(part_of(genrobust.wrap(Blind())), Point)


class Own(nn.Module):
    """A linear layer of one's own: of its table nobody knows that it is no codebook."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return torch.tanh(x @ self.table.mT)


class Deep(nn.Module):
    """No quantiser, and eight tables that might be one's."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Own(64, 32), *(Own(32, 32) for _ in range(2)), Own(32, 6))
        self.decoder = nn.Sequential(Own(6, 32), *(Own(32, 32) for _ in range(2)), Own(32, 64))

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.encoder(x.flatten(1))
        return code

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid().view(-1, 1, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def test_tables_that_do_not_fit_are_told_by_their_sizes() -> None:
    """Each was tried at each of 9 places by running the model: its layers 14,374 times."""
    module = Deep()
    assert not isinstance(genrobust.wrap(module).encode(torch.rand(1, 1, 8, 8)).parts[0], Codebook)
    assert sum(layer.runs for layer in module.modules() if isinstance(layer, Own)) < 2000


def test_what_the_user_says_is_not_searched_for() -> None:
    module = Pairs(straight=True)
    model = genrobust.wrap(module, encode=lambda x: module.encode(x)[0])
    assert isinstance(part_of(model), Point)


@pytest.mark.slow
def test_a_found_quantiser_goes_into_an_archive() -> None:
    model = genrobust.wrap(Pairs())
    read = load_portable(*export_model(model))
    x = probe_images(model.input_shape)
    assert torch.equal(read.encode(x).tokens(), model.encode(x).tokens())


def test_a_relaxed_code_has_a_gradient_far_from_all_entries() -> None:
    features = torch.tensor([[40.0, 30.0]], requires_grad=True)
    book = torch.tensor([[0.0, 0.0], [0.0, 0.01], [0.01, 0.0]])
    (gradient,) = torch.autograd.grad(Codebook(features, book).relaxed(1.0).sum(), features)
    assert gradient.any()


# In full


def untargeted(model: GenerativeModel) -> Record:
    suite = load_suite("digits-v1")
    known, goal = ("noise", "classifier", "code-switch"), "untargeted"
    attacks = tuple(e for e in suite.attacks if e.attack in known and e.goal == goal)
    with brief_signs():
        return genrobust.bench(
            model, suite.model_copy(update={"attacks": attacks, "eps": (0.03,)}), limit=20
        )


@pytest.mark.slow
def test_a_hidden_quantiser_makes_no_model_look_more_robust() -> None:
    """Beside its straight-through twin, and read as what only passes a gradient straight."""
    hidden_one, straight = (
        Pairs(straight, genrobust.load_model("vae").module) for straight in (False, True)
    )
    alone = genrobust.wrap(hidden_one, encode=lambda x: hidden_one.encode(x)[0])
    assert alone.straight == ("quantizer",)
    found = (genrobust.wrap(hidden_one), genrobust.wrap(straight), alone)
    hidden, twin, own = map(untargeted, found)
    assert hidden.scores.clean_accuracy.value > 0.8
    assert 0 < (hidden.scores.per_eps[0].token_flips or 0) < 1
    for a, b, c in zip(*(r.scores.per_eps for r in (hidden, twin, own)), strict=True):
        assert abs(a.robust_accuracy.value - b.robust_accuracy.value) <= 0.05
        assert a.robust_accuracy.value <= c.robust_accuracy.value + 0.05


def _pythae() -> GenerativeModel:
    models = pytest.importorskip("pythae.models", exc_type=(ImportError, RuntimeError))
    config = models.VQVAEConfig(input_dim=(1, 32, 32), latent_dim=6, num_embeddings=16)
    return genrobust.wrap(models.VQVAE(config))


def _monai() -> GenerativeModel:
    nets = pytest.importorskip("monai.networks.nets", exc_type=(ImportError, RuntimeError))
    one = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "num_res_layers": 1}
    two = {"channels": (8, 8), "num_res_channels": (8, 8)}
    two |= {"downsample_parameters": ((2, 4, 1, 1),) * 2}
    two |= {"upsample_parameters": ((2, 4, 1, 1, 0),) * 2}
    book = {"num_embeddings": 16, "embedding_dim": 4}
    return genrobust.wrap(nets.VQVAE(**one, **two, **book), input_shape=(1, 32, 32), clamp=True)


def _diffusers() -> GenerativeModel:
    diffusers = pytest.importorskip("diffusers", exc_type=(ImportError, RuntimeError))
    module = diffusers.VQModel(
        **{"in_channels": 1, "out_channels": 1, "sample_size": 32, "latent_channels": 3},
        **{"block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2},
        **{"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4},
        num_vq_embeddings=16,
    )
    return genrobust.wrap(module, value_range=(-1, 1), clamp=True)


@pytest.mark.slow
@pytest.mark.parametrize("build", [_pythae, _monai, _diffusers])
def test_a_librarys_codebook_model_is_benched(build: Callable[[], GenerativeModel]) -> None:
    with suppress(Exception):
        torchvision_datasets()  # makes torchvision importable, which some of them import
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    assert isinstance(part_of(model), Codebook)
    suite = load_suite("digits").with_attacks(["code-switch", "latent"]).with_eps([0.1])
    with brief_signs():
        record = genrobust.bench(model, suite, limit=3)
    assert record.model.latents == part_of(model).describe()
    # With random weights no picture is recognised, so what they do is looked at beside the run.
    x, judge = (
        genrobust.load_images("digits").take(range(6)),
        genrobust.load_judge("digits", "lenet"),
    )
    target = x.flip(0)
    aim = model.encode(target)
    found = genrobust.attack("latent", model, x, target=target, steps=20)
    moved = model.encode(found.x_adv)
    assert (moved.wasserstein2(aim) < model.encode(x).wasserstein2(aim)).all()
    labels = judge.labels(model.reconstruct(x))
    found = genrobust.attack("code-switch", model, x, labels=labels, judge=judge)
    flips = token_flip_rate(model.encode(x), model.encode(found.x_adv))
    assert flips.isfinite().all()
    assert flips.any()
