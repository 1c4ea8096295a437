"""Posteriors of extreme variance: divergences are right and finite, and records readable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diagnosed import sound
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import genrobust
from genrobust import metrics
from genrobust.batch import Batch, Context
from genrobust.evidence import bundle
from genrobust.evidence.bundle import read_evidence, write_evidence
from genrobust.metrics.latent import gaussian_moments
from genrobust.objectives.divergence import LatentDivergence, LatentWasserstein
from genrobust.objectives.elbo import TargetELBO
from genrobust.objectives.kuzina import PosteriorMatch
from genrobust.outcomes.outcome import DAMAGE, Outcome
from genrobust.outcomes.scores import scores as scores_of
from genrobust.posterior import Categorical, Gaussian, Posterior
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.record import Flag, Record
from genrobust.site.serve import boards_with_runs
from genrobust.suites import Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")

HALVES = (torch.float16, torch.bfloat16)


def gaussian(mean: float, logvar: float, dtype: torch.dtype = torch.float32) -> Posterior:
    at = torch.tensor([[mean]], dtype=dtype), torch.tensor([[logvar]], dtype=dtype)
    return Posterior((Gaussian(*at),))


def kl_in_words(m: float, v: float, n: float, w: float) -> float:
    """KL(N(m, e^v) || N(n, e^w)) with plain floats."""
    return 0.5 * (math.exp(v - w) - 1 - (v - w) + (m - n) ** 2 * math.exp(-w))


# Values


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES])
@pytest.mark.parametrize("logvar", [-600.0, -200.0, -24.0, 0.0, 24.0, 88.0, 89.0, 300.0])
def test_the_kl_to_the_prior_is_its_closed_form(logvar: float, dtype: torch.dtype) -> None:
    q = gaussian(3.0, logvar, dtype)
    held = float(torch.tensor(logvar, dtype=dtype))
    expected = kl_in_words(3, held, 0, 0)
    assert float(q.kl_to_prior()) == pytest.approx(expected, rel=1e-12)
    prior = gaussian(0.0, 0.0, dtype)
    assert float(q.kl(prior)) == pytest.approx(expected, rel=1e-12)


def test_a_variance_that_has_no_root_in_float32_gives_half_the_log_variance() -> None:
    assert float(gaussian(0.0, -200.0).kl_to_prior()) == pytest.approx(99.5)
    assert float(gaussian(20.0, -200.0).kl_to_prior()) == pytest.approx(299.5)


@given(
    *(st.floats(-100, 100, width=32) for _ in range(2)),
    *(st.floats(-340, 340, width=32) for _ in range(2)),
)
def test_divergences_of_any_two_are_their_closed_forms(
    m: float, n: float, v: float, w: float
) -> None:
    q, p = gaussian(m, v), gaussian(n, w)
    there, back = kl_in_words(m, v, n, w), kl_in_words(n, w, m, v)
    assert float(q.kl(p)) == pytest.approx(there, rel=1e-9, abs=1e-12)
    assert float(q.symmetric_kl(p)) == pytest.approx((there + back) / 2, rel=1e-9, abs=1e-12)
    apart = math.hypot(m - n, math.exp(v / 2) - math.exp(w / 2))
    assert float(q.wasserstein2(p)) == pytest.approx(apart, rel=1e-9, abs=1e-12)
    moved = abs(n - m) * math.exp(-v / 2)
    assert float(metrics.mahalanobis_displacement(q, p)) == pytest.approx(moved, rel=1e-9)


@pytest.mark.parametrize("logvar", [-1e30, -1e4, -690.0, 690.0, 1e4, 1e30])
def test_beyond_every_number_they_stay_finite(logvar: float) -> None:
    q, p = gaussian(1.0, logvar), gaussian(0.0, -logvar)
    values = (q.kl_to_prior(), q.symmetric_kl(q), q.wasserstein2(p), *gaussian_moments(q))
    assert all(bool(value.isfinite().all()) for value in values)
    assert float(q.kl(q)) == 0
    assert bool((gaussian_moments(q)[1] > 0).all())


def test_the_kl_of_categoricals_holds_in_half_precision() -> None:
    q, p = (Categorical(torch.tensor([[a, 0.0]]).half()) for a in (60_000.0, -60_000.0))
    assert float(q.kl(p)) == 60_000
    assert float(q.kl_to_prior()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_draws_stay_within_the_precision(dtype: torch.dtype) -> None:
    noise = [torch.tensor([[2.0]], dtype=dtype)]
    for logvar in (-1e4, 24.0, 200.0, 1e4):
        drawn = gaussian(1.0, logvar, dtype).sample(noise)
        assert drawn.dtype == dtype
        assert bool(drawn.isfinite().all())
    assert float(gaussian(1.0, -1e4, dtype).sample(noise)) == 1
    assert float(gaussian(1.0, 4 * math.log(2), torch.float32).rsample([noise[0].float()])) == 9


# Gradients


OBJECTIVES: dict[str, Callable[[Posterior, Posterior], Tensor]] = {
    "kl": Posterior.kl,
    "the reverse": lambda q, p: p.kl(q),
    "symmetric": Posterior.symmetric_kl,
    "wasserstein": Posterior.wasserstein2,
    "prior": lambda q, _: q.kl_to_prior().sum(1),
    "draw": lambda q, _: q.rsample([torch.full((1, 1), 3.0)]).flatten(1).sum(1),
    "mahalanobis": lambda q, p: metrics.mahalanobis_displacement(p, q),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("logvar", [-1e4, -800.0, -200.0, 0.0, 89.0, 200.0, 800.0, 1e4])
def test_gradients_are_finite_and_point_where_they_should(name: str, logvar: float) -> None:
    mean = torch.tensor([[1.0]], requires_grad=True)
    spread = torch.tensor([[logvar]], requires_grad=True)
    q = Posterior((Gaussian(mean, spread),))
    for p in (q.detach(), gaussian(0.5, 0.0), gaussian(0.5, logvar / 2)):
        value = OBJECTIVES[name](q, p).sum()
        found = torch.autograd.grad(value, (mean, spread), allow_unused=True)
        for gradient in found:
            assert gradient is None or bool(gradient.isfinite().all())
    steep = torch.autograd.grad(q.kl_to_prior().sum(), spread)[0]
    assert float(steep) == pytest.approx(0.5 * (math.exp(min(logvar, 50)) - 1), rel=1e-5) or (
        logvar > 50 and float(steep) == pytest.approx(1e18)
    )


class Spread(nn.Module):
    """An encoder whose log-variance is what it is built with, or bends a little with the image."""

    input_shape = (1, 32, 32)

    def __init__(self, logvar: float, latents: int = 3, *, constant: bool = False) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.down = nn.Parameter(torch.randn(1024, latents, generator=stream) / 32)
        self.up = nn.Parameter(torch.randn(latents, 1024, generator=stream))
        self.logvar, self.constant = logvar, constant

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.down
        mean = 0 * mean if self.constant else mean
        return mean, self.logvar + 0 * mean

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.up).sigmoid().view(-1, 1, 32, 32)


@pytest.mark.parametrize("logvar", [-1e4, -200.0, 89.0, 300.0])
@pytest.mark.parametrize(
    "objective",
    [
        *(LatentDivergence(), LatentDivergence(as_published=True), LatentWasserstein()),
        *(PosteriorMatch("skl"), PosteriorMatch("kl-forward"), TargetELBO()),
    ],
)
def test_objectives_on_such_a_model_have_losses_and_gradients(
    objective: Callable[[Tensor, Context], Tensor], logvar: float
) -> None:
    x = genrobust.load_images("digits").take([0, 1])
    model = genrobust.wrap(Spread(logvar))
    context = Context(model, Batch(x, (0, 1), target_x=x.flip(0)))
    x = x.clone().requires_grad_()
    loss = objective(x, context)
    assert bool(loss.isfinite().all())
    assert bool(torch.autograd.grad(loss.sum(), x)[0].isfinite().all())


# Records

ODD = {
    "no variance": lambda: genrobust.wrap(Spread(-1e4), name="odd"),
    "little variance": lambda: genrobust.wrap(Spread(-200.0), name="odd"),
    "much variance": lambda: genrobust.wrap(Spread(89.0), name="odd"),
    "huge variance": lambda: genrobust.wrap(Spread(1e4), name="odd"),
    "one latent": lambda: genrobust.wrap(Spread(0.0, 1), name="odd"),
    "no latent that varies": lambda: genrobust.wrap(
        Spread(-1.0, constant=True), differentiable=False, name="odd"
    ),
}


@pytest.fixture
def quick(small_suite: Suite) -> Suite:
    """Two attacks on three sources."""
    kept = [e for e in small_suite.attacks if e.attack in ("noise", "classifier")][:2]
    update = {"attacks": tuple(kept), "chunk_size": 3, "eps": (0.1,), "resamples": 50}
    update |= {"attacker_judge": load_suite("digits-v1").attacker_judge}
    return small_suite.limited(3).model_copy(update=update)


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_a_run_of_an_odd_model_is_read_back_everywhere(
    name: str, quick: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_portable", lambda *_: (None, {}))  # the model stays here
    model, folder = ODD[name](), tmp_path / "run"
    record = genrobust.bench(model, quick, out=folder, workers=1)
    written = (folder / "record.json").read_text()
    json.loads(written, parse_constant=pytest.fail)
    assert Record.model_validate_json(written) == record
    assert record.scores.kl is not None
    assert math.isfinite(record.scores.kl.high)
    write_evidence(folder, model)
    assert read_evidence(folder / "evidence.zip").record == record
    [board] = boards_with_runs(None, tmp_path)
    assert [row.contender.record for row in board.rows] == [record]


@pytest.mark.parametrize("name", ["much variance", "no latent that varies"])
def test_a_curve_of_an_odd_model_is_read_back(name: str, quick: Suite, tmp_path: Path) -> None:
    record = genrobust.minimum_norm(ODD[name](), quick.limited(1), out=tmp_path, workers=1)
    written = (tmp_path / "curve.json").read_text()
    json.loads(written, parse_constant=pytest.fail)
    assert MinimumNormRecord.model_validate_json(written) == record


NUMBERS = st.one_of(
    st.floats(width=32), st.sampled_from([math.inf, -math.inf, math.nan, 3e38, 0.0])
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=2, max_size=4))
def test_scores_of_any_numbers_are_read_back(rows: list[tuple[float, float, float]]) -> None:
    kl, moved, mean = torch.tensor(rows, dtype=torch.float64).T
    count = len(rows)
    zeros, images = torch.zeros(count, dtype=torch.int64), torch.zeros(count, 1, 1, 2)
    tensors = {
        **{n: zeros for n in Outcome.table() if DAMAGE not in n},
        **sound(count, 1),
        **dict.fromkeys(("label", "input_verdict", "clean_verdict", "ignore.radius"), zeros),
        **{"target_label": zeros + 1, "target.radius": zeros, "eligible": zeros == 0},
        **dict.fromkeys(("source", "reconstruction", "ignore.x_adv"), images),
        **{"ignore.reconstruction": images, "kl": kl, "mean": mean[:, None]},
        **dict.fromkeys(("ignore.source_similarity", "ignore.reconstruction_similarity"), moved),
        **dict.fromkeys(("ignore.displacement", "ignore.symmetric_kl"), moved),
    }
    scores = scores_of(Outcome.of(tensors), _suite(count))
    again = type(scores).model_validate_json(scores.model_dump_json())
    assert again == scores
    assert (scores.kl is None) == (not bool(kl.mean().isfinite()))


def _suite(count: int) -> Suite:
    return load_suite("digits").limited(count).model_copy(update={"eps": (0.1,), "resamples": 20})


@pytest.mark.parametrize("eps", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_have_are_read_back_wherever_they_are(eps: float) -> None:
    flag = Flag(name="any", evidence="any", value=eps, limit=0.1)
    written = flag.model_dump_json()
    json.loads(written, parse_constant=pytest.fail)
    again = Flag.model_validate_json(written)
    assert again.value == eps or (math.isnan(again.value) and math.isnan(eps))
