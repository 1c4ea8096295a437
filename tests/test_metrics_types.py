"""Every public metric on numbers of every type: what float64 gives, or one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust import metrics
from genrobust.errors import GenrobustError
from genrobust.metrics.distortion import DistortionCurve
from genrobust.metrics.frechet import Features
from genrobust.metrics.geometry import Spectrum
from genrobust.posterior import Categorical, Gaussian, Posterior

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TYPES = (*WHOLE, *REAL, torch.bool)


class Both(nn.Module):
    """A small model of images 1x8x8 with a bend in encoder and decoder."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        stream = torch.Generator().manual_seed(0)
        self.down = nn.Parameter(torch.randn(64, 3, generator=stream) / 8)
        self.up = nn.Parameter(torch.randn(3, 64, generator=stream))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.down
        return mean, -1 + mean.sin()

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.up).sigmoid().view(-1, 1, 8, 8)


def levels(seed: int, *shape: int, low: int = 0, high: int = 2) -> Tensor:
    """Whole numbers that every type holds, so that each is given the same ones."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=stream)


def images(seed: int, count: int = 4) -> Tensor:
    return levels(seed, count, 1, 8, 8)


def posterior(of: Callable[[Tensor], Any], seed: int) -> Posterior:
    mean, spread = of(levels(seed, 4, 3)), of(levels(seed + 1, 4, 3))
    return Posterior((Gaussian(mean, spread), Categorical(of(levels(seed + 2, 4, 2)))))


def tokens(of: Callable[[Tensor], Any], seed: int) -> Posterior:
    return Posterior((Categorical(of(levels(seed, 4, 5, 3))),))


MODEL = genrobust.wrap(Both())


def codes(of: Callable[[Tensor], Any]) -> tuple[Any, Tensor]:
    """Codes and factors of the same images."""
    return of(levels(1, 60, 3, high=4)), levels(2, 60, 2, high=3)


IDS = [0, 1, 2, 3]
LABELS = levels(5, 4)
#: A metric by name, from a function that gives its numbers the type in question.
CASES: dict[str, Callable[[Callable[[Tensor], Any]], Any]] = {
    "l0": lambda of: metrics.l0(of(images(1)), of(images(2))),
    "l2": lambda of: metrics.l2(of(images(1)), of(images(2))),
    "linf": lambda of: metrics.linf(of(images(1)), of(images(2))),
    "rmse": lambda of: metrics.rmse(of(images(1)), of(images(2))),
    "ssim": lambda of: metrics.ssim(of(images(1)), of(images(2)), window=7),
    "ms_ssim_small": lambda of: metrics.ms_ssim_small(of(images(1)), of(images(2))),
    "fid": lambda of: (
        metrics.fid(
            of(images(1)), of(images(2)), Features("half", lambda x: x.flatten(1)[:, :3])
        ).value
    ),
    "target_log_likelihood": lambda of: metrics.target_log_likelihood(
        MODEL, of(images(1)), of(images(2))
    ),
    "robust_probability": lambda of: metrics.robust_probability(
        MODEL, of(images(1)), of(images(2)), 1.5, sample_ids=IDS
    ),
    "robustness_margin": lambda of: metrics.robustness_margin(
        MODEL, of(images(1)), lambda x, r, _: x + r / 8, 1.0, radii=[0.5, 1.0], sample_ids=IDS
    ),
    "first_order_margin": lambda of: metrics.first_order_margin(
        MODEL, of(images(1)), 3.0, sample_ids=IDS, draws=50
    ),
    "encoder_jacobian": lambda of: metrics.encoder_jacobian(MODEL, of(images(1)), "std"),
    "pullback_spectrum": lambda of: metrics.pullback_spectrum(MODEL, of(images(1))).eigenvalues,
    "distortion_curves": lambda of: [
        metrics.auddc(curve)
        for curve in metrics.distortion_curves(
            MODEL,
            of(images(0, 2)),
            of(images(2, 2)),
            [of(images(0, 2)), of(images(0, 2) * images(2, 2))],
        )
    ],
    "auddc": lambda of: metrics.auddc(
        DistortionCurve(
            *map(of, (levels(1, 2), levels(2, 2, low=1, high=3), torch.tensor([2, 2]))),
            *map(of, (torch.tensor([0, 0]), torch.tensor([3, 3]))),
        )
    ),
    "largest_eigenvalue": lambda of: metrics.largest_eigenvalue(
        Spectrum(of(levels(1, 2, 3, low=1, high=9)), of(images(1)))
    ),
    "von_neumann_entropy": lambda of: metrics.von_neumann_entropy(
        Spectrum(of(levels(1, 2, 3, low=1, high=9)), of(images(1)))
    ),
    "as_target": lambda of: (
        metrics.as_target(of(LABELS), of(levels(6, 4)), of(1 - LABELS), of(levels(7, 4))).pooled
    ),
    "as_ignore_target": lambda of: (
        metrics.as_ignore_target(of(LABELS), of(levels(6, 4)), of(1 - LABELS)).pairs
    ),
    "as_target_of_wrong": lambda of: (
        metrics.as_target_of_wrong(
            of(LABELS), of(levels(6, 4)), of(1 - LABELS), of(levels(7, 4))
        ).pairs
    ),
    "success_rate": lambda of: (
        metrics.success_rate(of(levels(6, 4)), LABELS, 1 - LABELS, of(levels(7, 4))).pairs
    ),
    "robust_accuracy": lambda of: metrics.robust_accuracy(
        of(LABELS), of(levels(6, 4)), of(levels(7, 4))
    ),
    "robust_area": lambda of: metrics.robust_area(
        of(torch.tensor([1])), of(torch.tensor([0])), of(torch.tensor(1))
    ),
    "eps50": lambda of: metrics.eps50(
        of(torch.tensor([1])), of(torch.tensor([0])), of(torch.tensor(1))
    ),
    "exact_accuracy": lambda of: metrics.exact_accuracy(of(levels(1, 9, high=5)), [0, 1.5, 3]),
    "exact_area": lambda of: metrics.exact_area(of(levels(1, 9, high=5)), 2.5),
    "exact_eps50": lambda of: metrics.exact_eps50(of(levels(1, 9, high=5))),
    "paired_difference": lambda of: (
        metrics.paired_difference(of(levels(1, 9)), of(levels(2, 9)), resamples=50).low
    ),
    "probe_accuracy": lambda of: metrics.probe_accuracy(
        metrics.Probe(torch.tensor([[-0.4], [0.4]]), torch.tensor([0.3, 0.0])),
        of(levels(1, 9, 1, high=3)),
        levels(2, 9),
    ),
    "probe_agreement": lambda of: metrics.probe_agreement(
        metrics.Probe(torch.tensor([[-0.4], [0.4]]), torch.tensor([0.3, 0.0])),
        of(levels(1, 9, 1)),
        of(levels(2, 9, 1)),
    ),
    "fit_probe": lambda of: metrics.fit_probe(of(levels(1, 20, 2, high=5)), levels(2, 20)).weight,
    "latent_displacement": lambda of: metrics.latent_displacement(
        posterior(of, 1), posterior(of, 4)
    ),
    "mahalanobis_displacement": lambda of: metrics.mahalanobis_displacement(
        posterior(of, 1), posterior(of, 4)
    ),
    "symmetric_kl": lambda of: metrics.symmetric_kl(posterior(of, 1), posterior(of, 4)),
    "mig": lambda of: metrics.mig(*codes(of)),
    "modularity": lambda of: metrics.modularity(*codes(of)),
    "sap": lambda of: metrics.sap(*codes(of)),
    "factor_score": lambda of: metrics.factor_score(*codes(of), votes=40),
    "dci": lambda of: list(metrics.dci(*codes(of))),
    "beta_score": lambda of: metrics.beta_score(*codes(of), pairs=40),
    "active_latents": lambda of: metrics.active_latents(of(levels(1, 9, 3))),
    "token_flip_rate": lambda of: metrics.token_flip_rate(tokens(of, 1), tokens(of, 4)),
}

#: Numbers or a model, no tensors; and what makes features or holds results.
WITHOUT_TENSORS = {"certified_margin", "certified_margin_fixed_std", "disentanglement_of"}
HOLDERS = {"FID", "Disentanglement", "Features", "Probe", "DistortionCurve"}
NEED_FILES = {"inception_features", "judge_features"}


def test_every_public_metric_has_a_case() -> None:
    public = set(metrics.__all__) - WITHOUT_TENSORS - HOLDERS - NEED_FILES
    assert public == set(CASES)


def as_array(tensor: Tensor) -> Any:
    return tensor.float().numpy().astype("float16" if tensor.dtype == torch.float16 else "float64")


def tried(name: str, of: Callable[[Tensor], Any]) -> Any:
    """The result as float64, or the sentence."""
    try:
        return torch.as_tensor(CASES[name](of)).double()
    except GenrobustError as problem:
        sentence = str(problem)
        assert "\n" not in sentence
        return sentence


#: Posteriors are made by models, whose tensors are floats.
FLOATS_ONLY = ("latent_displacement", "mahalanobis_displacement", "symmetric_kl", "token_flip_rate")
#: What images, classes and outcomes may not be.
REFUSED = {
    **dict.fromkeys(
        (
            *("ssim", "ms_ssim_small", "fid", "target_log_likelihood", "robust_probability"),
            *("robustness_margin", "first_order_margin", "encoder_jacobian"),
            *("pullback_spectrum", "distortion_curves"),
        ),
        (*WHOLE, torch.bool),
    ),
    **dict.fromkeys(("robust_area", "eps50"), (torch.bool,)),
    **dict.fromkeys(
        ("as_target", "as_ignore_target", "as_target_of_wrong", "robust_accuracy"), REAL
    ),
}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_a_metric_gives_what_float64_gives(name: str, dtype: torch.dtype) -> None:
    if name in FLOATS_ONLY and dtype not in REAL:
        return
    exact = torch.float64 if name not in REFUSED or dtype in REAL else torch.int64
    if name in REFUSED and REFUSED[name] == REAL:
        exact = torch.int64
    # Bools hold 0 and 1 alone: what they are compared with is given the same.
    held = (lambda t: (t > 0).long()) if dtype == torch.bool else (lambda t: t)
    found = tried(name, lambda t: t.to(dtype))
    if dtype in REFUSED.get(name, ()):
        assert isinstance(found, str)
        return
    expected = tried(name, lambda t: held(t).to(exact))
    assert not isinstance(expected, str)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6, equal_nan=True)


@pytest.mark.parametrize("name", sorted(CASES.keys() - set(FLOATS_ONLY)))
def test_arrays_give_what_tensors_give(name: str) -> None:
    kind = torch.int64 if REFUSED.get(name) == REAL else torch.float64
    expected = tried(name, lambda t: t.to(kind))
    found = tried(name, lambda t: t.to(kind).numpy())
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["l0", "l2", "linf", "rmse", "ssim", "ms_ssim_small"])
@pytest.mark.parametrize("other", [torch.float16, torch.float64, torch.uint8], ids=str)
def test_two_of_different_types_are_compared_as_numbers(name: str, other: torch.dtype) -> None:
    if name.endswith(("ssim", "small")) and other == torch.uint8:
        pytest.skip("images of whole numbers are refused")
    x, y = images(1), images(2)
    args = {"window": 7} if name == "ssim" else {}
    found = getattr(metrics, name)(x.to(other), y.float(), **args)
    expected = getattr(metrics, name)(x.double(), y.double(), **args)
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-5, atol=1e-6)


def test_bytes_are_subtracted_as_numbers() -> None:
    x, y = (torch.tensor([[value]], dtype=torch.uint8) for value in (12, 10))
    assert metrics.linf(x, y).tolist() == metrics.linf(y, x).tolist() == [2]
    assert metrics.l2(x, y).tolist() == metrics.rmse(y, x).tolist() == [2]
    assert metrics.l0(x, x).tolist() == [0]
    far = torch.tensor([[-(2**31)]], dtype=torch.int32), torch.tensor([[2**31 - 1]])
    assert metrics.linf(far[0], far[1].int()).tolist() == [2**32 - 1]


def test_classes_held_in_bytes_do_not_overflow() -> None:
    source, target = torch.tensor([200, 17]), torch.tensor([17, 200])
    wide = metrics.as_target(source, target, target)
    narrow = metrics.as_target(*(t.to(torch.uint8) for t in (source, target, target)))
    assert torch.equal(wide.n, narrow.n)


def test_half_precision_holds_lengths_that_it_cannot_square() -> None:
    x = torch.zeros(1, 4).half()
    assert metrics.l2(x, x + 30_000).tolist() == [60_000]
    assert metrics.rmse(x, x + 60_000).tolist() == [60_000]
    assert metrics.linf(x - 60_000, x + 60_000).tolist() == [120_000]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.linf("a", "b"), "x is 'a'; give a tensor or an array"),
        (lambda: metrics.l2(None, torch.zeros(1, 2)), "x is None; give a tensor"),
        (lambda: metrics.l2(torch.zeros(1, 2) * 1j, torch.zeros(1, 2)), "plain tensor of real"),
        (lambda: metrics.l2(*[torch.zeros(1, 2, device="meta")] * 2), "with its data"),
        (lambda: metrics.linf(torch.zeros(2, 0), torch.zeros(2, 0)), "without a value"),
        (lambda: metrics.l0(*[torch.zeros(1, 2)] * 2, tolerance="0"), "tolerance is '0'; give a"),
        (lambda: metrics.ssim(*[torch.zeros(1, 1, 9, 9)] * 2, window=7.5), "window is 7.5"),
        (lambda: metrics.exact_area(torch.ones(2), "1"), "radius is '1'; give a number"),
        (lambda: metrics.exact_accuracy(torch.ones(2), 0.1), r"eps is 0.1; give a list"),
        (lambda: metrics.robust_area(0.1, [1.0], 1.0), r"eps is 0.1; give a list"),
        (lambda: metrics.eps50([0.1], [0.5], "1"), "clean is '1'; give a number"),
        (lambda: metrics.paired_difference([0, 2], [0, 1]), "True and False, or 0 and 1"),
        (lambda: metrics.paired_difference([0, 1], [0, 1], seed="0"), "seed is '0'"),
        (lambda: metrics.robust_accuracy([0, -1], [0, 0]), "a source has a negative class"),
        (lambda: metrics.exact_accuracy([1.0], [0.1, float("nan")]), "numbers from 0 up"),
        (lambda: metrics.robust_accuracy([0.5], [0]), "source are torch.float64; give classes"),
        (
            lambda: metrics.fit_probe(torch.tensor([[torch.nan], [1.0]]), torch.tensor([0, 1])),
            "NaN or infinite",
        ),
        (
            lambda: metrics.encoder_jacobian(MODEL, torch.zeros(1, 1, 9, 9)),
            r"x has shape \(1, 1, 9, 9\); the model takes \(B, 1, 8, 8\)",
        ),
        (lambda: metrics.pullback_spectrum(MODEL, np.zeros((1, 1, 8, 8), "uint8")), "torch.uint8"),
    ],
)
def test_what_is_no_number_is_one_sentence(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(GenrobustError, match=words) as found:
        call()
    assert "\n" not in str(found.value)
