"""Codes from lists, on grids and in layers: what each part answers, in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from part_models import READERS, Nearest, positions, shows_the_brightest
from torch import Tensor

import genrobust
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.metrics.latent import token_flip_rate
from genrobust.models.portable import export_model, load_portable
from genrobust.objectives.divergence import LatentDivergence, LatentWasserstein
from genrobust.objectives.kos import LatentMatch
from genrobust.optimizers import Problem
from genrobust.posterior import FREE, Categorical, Codebook, Gaussian, Grid, Posterior
from genrobust.seeding import generator

BOOK = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]])


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("parts", *shape))


def test_a_codebooks_code_is_the_nearest_entry_in_the_features_own_shape() -> None:
    features = draw(2, 2, 3, 4)
    q = Codebook(features, BOOK)
    apart = (features[..., None] - BOOK.T[:, None, None]).square().sum(1)
    assert torch.equal(q.tokens(), apart.argmin(-1).flatten(1))
    torch.testing.assert_close(q.mode(), BOOK[apart.argmin(-1)].permute(0, 3, 1, 2))
    last = Codebook(features.flatten(2).transpose(1, 2), BOOK)
    assert torch.equal(last.tokens(), q.tokens())
    torch.testing.assert_close(last.mode().transpose(1, 2), q.mode().flatten(2))


def test_a_straight_through_code_has_the_features_gradient() -> None:
    for q in (
        Codebook(draw(2, 2, 3, 4).requires_grad_(), BOOK),
        Grid(draw(2, 2).requires_grad_(), Grid.levels([3, 4])),
    ):
        code = q.straight_through()
        torch.testing.assert_close(code, q.mode())
        (gradient,) = torch.autograd.grad(code.sum(), q.features)
        assert torch.equal(gradient, torch.ones_like(gradient))


def test_a_cold_relaxed_code_is_the_deployed_one() -> None:
    parts = (Codebook(draw(20, 2), BOOK), Codebook(draw(20, 2), torch.stack([BOOK, BOOK / 4])))
    for part in (*parts, Grid(draw(2, 2), Grid.levels([3, 4]))):
        torch.testing.assert_close(part.relaxed(1e-4), part.mode(), atol=1e-4, rtol=0)


def test_a_residual_quantisers_levels_take_what_is_left() -> None:
    q = Codebook(torch.tensor([[2.1, 0.3]]), torch.stack([BOOK, BOOK / 4]))
    assert q.tokens().tolist() == [[1, 2]]
    torch.testing.assert_close(q.mode(), torch.tensor([[2.0, 0.25]]))
    # With the first level at entry 2, the second chooses anew for what is then left.
    torch.testing.assert_close(q.pinned(torch.tensor([[2, FREE]])), torch.tensor([[0.5, 1.0]]))


def test_a_grid_rounds_each_channel_to_its_own_values() -> None:
    q = Grid(torch.tensor([[0.4, 0.4, 0.4]]), Grid.levels([3, 2, 5]))
    torch.testing.assert_close(q.mode(), torch.tensor([[0.0, 1.0, 0.5]]))
    prior = q.kl_to_prior()
    torch.testing.assert_close(prior, torch.tensor([[3.0, 2.0, 5.0]]).double().log())
    assert q.kl(q).item() == 0


@pytest.mark.parametrize("part", [Codebook(draw(2, 2, 2, 2), BOOK), Categorical(draw(2, 2, 3))])
def test_switches_begin_with_the_one_that_lacks_least(part: Codebook | Categorical) -> None:
    wanted = part.switches(100)
    positions = part.tokens().shape[1]
    assert wanted.shape == (2, positions * 2, positions), "all entries of three but the own"
    lacking = torch.stack([part.lead(one) for one in wanted.transpose(0, 1)])
    assert (lacking < 0).all()
    assert (lacking[1:] <= lacking[:-1] + 1e-5).all()
    for one in wanted.transpose(0, 1):
        pinned = type(part)(part.pinned(one), *([BOOK] if isinstance(part, Codebook) else []))
        places = one != FREE
        assert torch.equal(pinned.tokens()[places], one[places])
        assert torch.equal(pinned.tokens()[~places], part.tokens()[~places])


def test_switches_towards_a_target_pin_all_of_it_then_the_half_that_lacks_least() -> None:
    source, target = Codebook(draw(3, 2, 2, 2), BOOK), Codebook(-draw(3, 2, 2, 2), BOOK)
    whole, half, quarter = source.switches_towards(target, 3).transpose(0, 1)
    differ = source.tokens() != target.tokens()
    assert torch.equal(whole != FREE, differ)
    assert torch.equal(half != FREE, differ & (half != FREE))
    assert ((half != FREE).sum(1) == (differ.sum(1) / 2).ceil()).all()
    assert (source.lead(quarter) >= source.lead(half)).all()


def test_divergences_of_a_codebook_are_as_its_module_says() -> None:
    one, other = Codebook(draw(2, 2), BOOK), Codebook(draw(2, 2) + 1, BOOK)
    p, q = (part.scores().double().softmax(-1) for part in (one, other))
    torch.testing.assert_close(one.kl(other), (p * (p / q).log()).sum((1, 2)))
    moved = (one.features - other.features).double().square().sum(1)
    torch.testing.assert_close(one.squared_wasserstein2(other), moved)
    assert one.kl_to_prior().tolist() == [[math.log(3)]] * 2


def test_a_posterior_of_pieces_keeps_one_codebook() -> None:
    q = Posterior((Codebook(draw(4, 2), BOOK), Gaussian(draw(4, 3), draw(4, 3))))
    index = torch.arange(4)
    joined = Posterior.joined([q[index[:1]], q[index[1:]]])
    assert torch.equal(joined.mode(), q.mode())
    assert isinstance(joined.parts[0], Codebook)
    assert joined.parts[0].codebook is BOOK


def test_the_flip_rate_is_the_share_of_tokens_that_changed() -> None:
    features = torch.zeros(2, 4, 2)
    moved = features.clone()
    moved[0, 0] = 2
    one, other = (Posterior((Codebook(f, BOOK),)) for f in (features, moved))
    assert token_flip_rate(one, other).tolist() == [0.25, 0]
    plain = Posterior((Gaussian(draw(2, 3), draw(2, 3)),))
    assert token_flip_rate(plain, plain).isnan().all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 4), (2,)])
def test_features_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GenrobustError, match=r"give features \(B, D, H, W\)"):
        Codebook(torch.zeros(shape), BOOK)
    with pytest.raises(GenrobustError, match="such as Grid"):
        Grid(torch.zeros(shape), Grid.levels([3, 3]))


@pytest.fixture
def nearest() -> tuple[genrobust.GenerativeModel, Tensor, Tensor]:
    """The linear codebook model, and sources and their classes."""
    x = 0.3 + 0.4 * torch.rand(4, 1, 4, 4, generator=generator("sources"))
    model = genrobust.wrap(Nearest())
    return model, x, model.encode(x).tokens()[:, 0]


@pytest.mark.parametrize(
    ("norm", "order"), [("linf", 1), pytest.param("l2", 2, marks=pytest.mark.slow)]
)
def test_a_code_switch_reaches_the_smallest_change_that_flips_a_token(
    norm: str, order: int, nearest: tuple[genrobust.GenerativeModel, Tensor, Tensor]
) -> None:
    """To leave a Voronoi cell is to cross the nearest of its hyperplanes."""
    model, x, labels = nearest
    judge = shows_the_brightest()
    assert isinstance(model.module, Nearest)
    for i, least in enumerate(model.module.smallest(x[:2], order).tolist()):
        one = {"labels": labels[i : i + 1], "judge": judge, "norm": norm, "categories": 3}
        for factor, falls in ((1.02, True), (0.98, False)):
            found = genrobust.attack("code-switch", model, x[i : i + 1], eps=factor * least, **one)
            flipped = model.encode(found.x_adv).tokens()[0, 0] != labels[i]
            assert bool(flipped) == falls


def test_a_quantiser_hidden_from_gradients_is_measured_as_one_with_a_straight_through_gradient(
    nearest: tuple[genrobust.GenerativeModel, Tensor, Tensor],
) -> None:
    """``encode`` gives features alone, ``decode`` rounds them with no gradient to follow."""
    model, x, labels = nearest
    module = model.module
    assert isinstance(module, Nearest)
    x = torch.cat([x, 0.3 + 0.4 * torch.rand(36, 1, 4, 4, generator=generator("more"))])
    labels = model.encode(x).tokens()[:, 0]
    judge, quantised = shows_the_brightest(), lambda z: Codebook(z, module.book).mode()
    hidden = genrobust.wrap(
        module,
        encode=lambda image: module.map(image.flatten(1)),
        decode=lambda z: module.decode(z),
        deploy=lambda image: module.decode(quantised(module.map(image.flatten(1)))),
        clamp=True,
    )
    with pytest.raises(GenrobustError, match="no gradient reaches the image"):
        genrobust.wrap(
            module,
            encode=lambda image: module.map(image.flatten(1)),
            decode=lambda z: module.decode(quantised(z)),
        )
    least = module.smallest(x, 1)
    eps = float(least.median()) * 1.05  # about half of the sources can fall
    rates = []
    for one in (model, hidden):
        fell = torch.zeros(len(x), dtype=torch.bool)
        for name in ("classifier", "multi-target"):
            found = genrobust.attack(name, one, x, labels=labels, judge=judge, eps=eps)
            fell |= judge.logits(one.reconstruct(found.x_adv)).argmax(1) != labels
        rates.append(float(fell.double().mean()))
    assert abs(rates[0] - rates[1]) <= 0.05
    assert abs(rates[0] - float((least < eps).double().mean())) <= 0.05


@pytest.mark.parametrize("kind", READERS)
def test_latent_attacks_run_on_every_kind_of_part(kind: str) -> None:
    model = positions(kind)
    x, target = torch.rand(2, 2, 1, 8, 8, generator=generator("images"))
    context = Context(model, Batch(x, (0, 1), target_x=target))
    for objective in (LatentMatch(), LatentDivergence(), LatentWasserstein()):
        loss, gradient = Problem.of(objective, context).gradient(x)
        assert loss.isfinite().all()
        assert gradient.flatten(1).any(1).all(), f"nothing to follow for {objective}"
    gap = lambda images: model.encode(images).vector() - model.encode(target).vector()  # noqa: E731
    found = genrobust.attack("latent", model, x, target=target, eps=0.2, steps=10)
    assert (gap(found.x_adv).norm(dim=1) < gap(x).norm(dim=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != "codebook"])  # in layers
def test_every_kind_of_part_can_be_given_as_data(kind: str) -> None:
    model = positions(kind)
    again = load_portable(*export_model(model))
    x = torch.rand(3, 1, 8, 8, generator=generator("data"))
    torch.testing.assert_close(again.reconstruct(x), model.reconstruct(x))
    assert again.encode(x).describe() == model.encode(x).describe()


def test_a_hierarchys_decoder_gets_a_list_of_codes_in_their_shapes() -> None:
    model = positions("layers")
    x = torch.rand(3, 1, 8, 8, generator=generator("layers"))
    codebook, mean = model.encode(x).parts
    expected = model.module.decode([codebook.mode(), mean.mode()])
    torch.testing.assert_close(model.reconstruct(x), expected)
    assert model.at_most(2).reconstruct(x).shape == x.shape
