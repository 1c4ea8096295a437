"""The Fréchet distance against pytorch-fid and closed forms; the paired bootstrap against SciPy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import bootstrap
from torch import Tensor, nn

import genrobust
from genrobust import GenrobustError, metrics
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.judges.judge import Judge
from genrobust.metrics.frechet import feature_statistics, frechet_distance


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.skipif(
    "disp" not in inspect.signature(sqrtm).parameters,
    reason="pytorch-fid calls scipy.linalg.sqrtm with an argument that this SciPy no longer has",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(st.integers(0, 1000), st.integers(2, 12))
def test_the_distance_is_pytorch_fids(seed: int, d: int) -> None:
    torchvision_datasets()
    from pytorch_fid.fid_score import calculate_frechet_distance

    a, b = random(seed, 40, d), random(seed + 1, 30, d) @ random(seed + 2, d, d) + 0.5
    mean_a, cov_a = feature_statistics(a)
    mean_b, cov_b = feature_statistics(b)
    assert np.allclose(cov_a, np.cov(a.numpy(), rowvar=False).reshape(d, d))
    numpy = [t.numpy() for t in (mean_a, cov_a, mean_b, cov_b)]
    expected = calculate_frechet_distance(*numpy)
    assert frechet_distance(mean_a, cov_a, mean_b, cov_b) == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 1000), st.integers(1, 8))
def test_diagonal_gaussians_have_a_closed_form(seed: int, d: int) -> None:
    means, stds = random(seed, 2, d), random(seed + 1, 2, d).abs()
    expected = (means[0] - means[1]).square().sum() + (stds[0] - stds[1]).square().sum()
    found = frechet_distance(means[0], stds[0].diag() ** 2, means[1], stds[1].diag() ** 2)
    assert found == pytest.approx(float(expected), abs=1e-9)


def test_fewer_images_than_features_are_no_trouble() -> None:
    pixels = metrics.Features("pixels", lambda images: images.flatten(1))
    images = random(0, 5, 1, 4, 4).sigmoid() / 2
    assert metrics.fid(images, images, pixels).value == pytest.approx(0, abs=1e-6)
    assert metrics.fid(images, images + 0.5, pixels).value == pytest.approx(4)
    with pytest.raises(GenrobustError, match="n at least 2"):
        metrics.fid(images[:1], images, pixels)
    with pytest.raises(GenrobustError, match="batch_size"):
        metrics.fid(images, images, pixels, batch_size=0)
    with pytest.raises(GenrobustError, match="means and covariances"):
        frechet_distance(torch.zeros(2), torch.eye(3), torch.zeros(2), torch.eye(2))


@pytest.mark.parametrize("wrong", range(4))
def test_a_distance_of_numbers_that_are_none_is_refused(wrong: int) -> None:
    """The largest of 0 and NaN is 0: the best there is."""
    given = [torch.zeros(2), torch.eye(2), torch.ones(2), torch.eye(2)]
    given[wrong] = given[wrong] * torch.nan
    with pytest.raises(GenrobustError, match="NaN or infinite"):
        frechet_distance(*given)


@pytest.mark.parametrize(
    ("extract", "said"),
    [
        (lambda images: images.flatten(1) / 0, "'mine' hold NaN or infinite"),
        (lambda images: images, r"'mine' give \(2, 1, 4, 4\) for 2 images; let extract"),
        (lambda images: images.flatten(1)[:1], r"'mine' give \(1, 16\) for 2 images"),
        (lambda images: None, "what the features 'mine' give is None"),
    ],
)
def test_features_that_are_none_are_told(extract: Callable[[Tensor], Any], said: str) -> None:
    images = random(0, 2, 1, 4, 4).sigmoid()
    with pytest.raises(GenrobustError, match=said):
        metrics.fid(images, images, metrics.Features("mine", extract))


def test_a_set_of_images_on_another_scale_is_refused() -> None:
    images = random(0, 5, 1, 4, 4).sigmoid()
    pixels = metrics.Features("pixels", lambda images: images.flatten(1).numpy())
    assert metrics.fid(images, images, pixels).value == pytest.approx(0, abs=1e-6)
    with pytest.raises(GenrobustError, match="generated has pixels from"):
        metrics.fid(images, 255 * images, pixels)
    wrong: Any = pixels.extract
    with pytest.raises(GenrobustError, match="features is a function; give Features"):
        metrics.fid(images, images, wrong)


def test_batches_do_not_change_the_distance_and_the_answer_says_what_it_is_of() -> None:
    features = metrics.judge_features(genrobust.load_judge("digits", "vgg"))
    images = genrobust.load_images("digits").take(range(60))
    blurred, worse = (torch.nn.functional.avg_pool2d(images, n, 1, n // 2) for n in (5, 9))
    found = [metrics.fid(images, blurred[:50], features, batch_size=n) for n in (7, 64)]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-4)
    assert found[0].value < metrics.fid(images, worse[:50], features).value
    assert (found[0].n_real, found[0].n_generated) == (60, 50)
    assert found[0].features.startswith("digits/vgg@")
    assert "n=60 and 50" in str(found[0])


def test_judge_features_are_what_the_last_layer_gets() -> None:
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for architecture in ("lenet", "vgg", "resnet"):
        judge = genrobust.load_judge("digits", architecture)
        found = metrics.judge_features(judge).extract(x)
        last = list(judge.module)[-1]  # type: ignore[call-overload]
        assert torch.allclose(last(found), judge.logits(x))
    odd = Judge("odd", nn.Sequential(nn.Flatten()), "")
    with pytest.raises(GenrobustError, match="the judge 'odd'"):
        metrics.judge_features(odd)


@pytest.mark.slow
def test_inception_takes_its_weights_from_the_file_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with the right names and shapes is enough to see that the file's numbers are used."""
    torchvision_datasets()
    from pytorch_fid import inception

    def no_download(*_: object, **__: object) -> None:
        raise AssertionError("tried to download")

    monkeypatch.setattr(inception, "load_state_dict_from_url", no_download)
    wrong = tmp_path / "wrong.pth"
    torch.save({"weight": torch.zeros(1)}, wrong)
    with pytest.raises(GenrobustError, match="pytorch-fid's Inception"):
        metrics.inception_features(wrong)
    assert inception.load_state_dict_from_url is no_download  # as it was
    with pytest.raises(GenrobustError, match="no weights file"):
        metrics.inception_features(tmp_path / "none.pth")

    saved: dict[str, Tensor] = {}
    original = nn.Module.load_state_dict

    def fill(module: nn.Module, state: dict[str, Tensor]) -> None:
        draws = torch.Generator().manual_seed(0)
        for name, tensor in module.state_dict().items():
            drawn = 0.1 * torch.rand(tensor.shape, generator=draws)
            saved[name] = (drawn if tensor.is_floating_point() else torch.ones(())).to(tensor)
        original(module, saved)

    with monkeypatch.context() as patched:
        patched.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(nn.Module, "load_state_dict", fill)
        peer = inception.InceptionV3().eval()
    weights = tmp_path / "pt_inception.pth"
    torch.save(saved, weights)
    features = metrics.inception_features(weights)
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = features.extract(x), peer(x.expand(1, 3, 32, 32))[0].flatten(1)
    assert found.shape == (1, 2048)
    assert torch.equal(found, expected)
    assert features.name.startswith("inception@")


def test_a_paired_difference_is_scipys() -> None:
    draws = torch.Generator().manual_seed(0)
    first = torch.rand(300, generator=draws) < 0.6
    second = torch.where(torch.rand(300, generator=draws) < 0.7, first, ~first)
    found = metrics.paired_difference(first, second, resamples=20_000)
    change = first.double().numpy() - second.double().numpy()
    expected = bootstrap((change,), np.mean, n_resamples=20_000, method="percentile", rng=0)
    interval = expected.confidence_interval
    assert found.value == pytest.approx(change.mean())
    assert found.low == pytest.approx(interval.low, abs=0.01)
    assert found.high == pytest.approx(interval.high, abs=0.01)
    swapped = metrics.paired_difference(second, first, resamples=20_000)
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.low == pytest.approx(-found.high, abs=0.01)
    assert found == metrics.paired_difference(first, second, resamples=20_000)


def test_a_paired_difference_of_equals_is_exactly_none() -> None:
    same = torch.tensor([1, 0, 1])
    found = metrics.paired_difference(same, same)
    assert (found.value, found.low, found.high, found.n) == (0, 0, 0, 3)
    with pytest.raises(GenrobustError, match="0 and 1"):
        metrics.paired_difference(same, same * 2)
    with pytest.raises(GenrobustError, match="one shape"):
        metrics.paired_difference(same, same[:2])
    with pytest.raises(GenrobustError, match="confidence"):
        metrics.paired_difference(same, same, confidence=95)
    with pytest.raises(GenrobustError, match="B at least 1"):
        metrics.paired_difference(same[:0], same[:0])


def test_every_metric_is_documented() -> None:
    for name in metrics.__all__:
        metric = getattr(metrics, name)
        if not isinstance(metric, type):
            # The example would need weights that are not shipped.
            parts = ("Args:", "Returns:", *(() if name == "inception_features" else (">>>",)))
            assert not [part for part in parts if part not in (metric.__doc__ or "")], name
