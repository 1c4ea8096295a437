"""The threat model: what lies inside, how to get there, who is told when something does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.norms import NORMS, Linf
from genrobust.threat import ThreatModel

SHAPE = (2, 1, 3, 3)
threats = st.builds(ThreatModel, st.sampled_from(NORMS.names()), st.floats(0, 2))


def images(low: float, high: float) -> st.SearchStrategy[Tensor]:
    elements = st.floats(low, high, width=32)
    return arrays(np.float32, SHAPE, elements=elements).map(torch.from_numpy)


sources, anywhere = images(0, 1), images(-3, 4)


def length(change: Tensor, norm: str) -> np.ndarray[Any, Any]:
    flat = change.double().numpy().reshape(len(change), -1)
    return np.linalg.norm(flat, ord=np.inf if norm == "linf" else 2, axis=1)


@given(threats, sources, anywhere)
def test_a_projection_lies_in_the_ball_and_in_the_box(
    threat: ThreatModel, x: Tensor, x_adv: Tensor
) -> None:
    found = threat.project(x_adv, x)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert (length(found - x, threat.norm.name) <= threat.eps + 1e-6).all()
    threat.check(found, x, "the projection")


@given(threats, sources, anywhere)
def test_projecting_again_changes_nothing(threat: ThreatModel, x: Tensor, x_adv: Tensor) -> None:
    once = threat.project(x_adv, x)
    torch.testing.assert_close(threat.project(once, x), once, atol=1e-6, rtol=0)


@given(threats, sources, sources)
def test_a_point_inside_stays_where_it_is(threat: ThreatModel, x: Tensor, other: Tensor) -> None:
    longest = length(other - x, threat.norm.name).max()
    inside = x + (other - x) * min(1, 0.999 * threat.eps / max(longest, 1e-9))
    torch.testing.assert_close(threat.project(inside, x), inside, atol=1e-6, rtol=0)


@given(st.floats(0, 1), sources, anywhere)
def test_the_box_projection_is_the_nearest_point(eps: float, x: Tensor, x_adv: Tensor) -> None:
    found = ThreatModel("linf", eps).project(x_adv, x).numpy()
    source, wanted = x.numpy().astype(float), x_adv.numpy().astype(float)
    nearest = np.clip(wanted, np.maximum(source - eps, 0), np.minimum(source + eps, 1))
    np.testing.assert_allclose(found, nearest, atol=1e-6)


def test_the_l2_projection_shrinks_the_change_along_its_direction() -> None:
    x = torch.full((2, 1, 2, 2), 0.5)
    change = torch.tensor([0.3, 0.0, -0.4, 0.0]).view(1, 1, 2, 2) * torch.tensor([1.0, 0.1]).view(
        2, 1, 1, 1
    )
    found = ThreatModel("l2", 0.2).project(x + change, x) - x
    torch.testing.assert_close(found[0], change[0] * 0.4)  # length 0.5 cut to 0.2
    torch.testing.assert_close(found[1], change[1])  # length 0.05 is inside


@given(st.sampled_from(NORMS.names()), sources, anywhere)
def test_eps_0_gives_the_source_back(norm: str, x: Tensor, x_adv: Tensor) -> None:
    threat = ThreatModel(norm, 0.0)
    assert torch.equal(threat.project(x_adv, x), x)
    assert torch.equal(threat.random_start(x, (4, 9), seed=1), x)


@given(st.sampled_from(NORMS.names()), sources, anywhere)
def test_the_distance_is_numpys_norm(norm: str, x: Tensor, x_adv: Tensor) -> None:
    found = ThreatModel(norm, 1.0).distance(x_adv, x)
    np.testing.assert_allclose(found, length(x_adv - x, norm), rtol=1e-5, atol=1e-6)


@given(st.sampled_from(NORMS.names()), sources, anywhere)
def test_an_infinite_radius_leaves_only_the_box(norm: str, x: Tensor, x_adv: Tensor) -> None:
    threat = ThreatModel(norm, float("inf"))
    found = threat.project(x_adv, x)
    torch.testing.assert_close(found, x_adv.clamp(0, 1), atol=1e-6, rtol=0)
    threat.check(found, x, "the projection")


# Random starts


@given(threats, sources, st.integers(0, 2**40), st.integers(0, 3))
def test_a_start_lies_inside(threat: ThreatModel, x: Tensor, seed: int, restart: int) -> None:
    threat.check(threat.random_start(x, (0, 7), seed, restart), x, "the start")


@pytest.mark.parametrize("norm", NORMS.names())
@given(order=st.permutations(range(5)), cut=st.integers(0, 5))
def test_a_start_is_the_samples_own_however_batches_are_made(
    norm: str, order: list[int], cut: int
) -> None:
    threat, ids = ThreatModel(norm, 0.2), (3, 10, 11, 500, 10**7)
    x = torch.linspace(0, 1, 5 * 9).view(5, 1, 3, 3)
    whole = threat.random_start(x, ids, seed=1)
    for part in (order[:cut], order[cut:]):
        if part:
            found = threat.random_start(x[part], [ids[i] for i in part], seed=1)
            assert torch.equal(found, whole[part])


@pytest.mark.parametrize("norm", NORMS.names())
def test_starts_differ_by_sample_seed_restart_and_norm(norm: str) -> None:
    x = torch.full((1, 1, 3, 3), 0.5)
    threat = ThreatModel(norm, 0.1)
    starts = [
        threat.random_start(x, (i,), seed, restart)
        for i in (0, 1)
        for seed in (0, 1)
        for restart in (0, 1)
    ]
    assert len({tuple(start.flatten().tolist()) for start in starts}) == len(starts)


def test_starts_of_a_wide_l2_ball_are_no_farther_out_than_1() -> None:
    grey = torch.full((4, 1, 32, 32), 0.5)
    for eps, far in ((0.3, 0.3), (1.0, 1.0), (5.0, 1.0), (float("inf"), 1.0)):
        threat = ThreatModel("l2", eps)
        away = threat.distance(threat.random_start(grey, range(4), seed=0), grey)
        torch.testing.assert_close(away, torch.full((4,), far))


def test_linf_starts_fill_the_ball_evenly() -> None:
    x = torch.full((400, 1, 3, 3), 0.5)
    noise = (ThreatModel("linf", 0.1).random_start(x, range(400), seed=0) - x) / 0.1
    found, _ = np.histogram(noise.numpy(), bins=8, range=(-1, 1))
    assert found.sum() == noise.numel()
    assert (abs(found - 450) < 5 * np.sqrt(450)).all()


def test_starts_do_not_touch_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    ThreatModel().random_start(torch.rand(SHAPE, generator=torch.Generator()), (0, 1), seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


# What is refused


@pytest.mark.parametrize(
    ("threat", "pixel", "words"),
    [
        (ThreatModel("linf", 0.1), 0.62, "moved an image by 0.12.* in linf where eps 0.1"),
        (ThreatModel("l2", 0.1), 0.62, "moved an image by 0.12.* in l2 where eps 0.1"),
        (ThreatModel("linf", 0.1), float("nan"), "NaN"),
        (ThreatModel("l2", 9.0), float("inf"), "infinite"),
        (ThreatModel("l2", 9.0), 1.01, r"pixels from 0.5000 to 1.0100"),
        (ThreatModel("linf", 9.0), -0.01, r"pixels from -0.0100 to 0.5000"),
    ],
)
def test_one_wrong_pixel_is_reported_with_its_culprit(
    threat: ThreatModel, pixel: float, words: str
) -> None:
    x = torch.full(SHAPE, 0.5)
    threat.check(x, x, "nobody")
    x_adv = x.clone()
    x_adv[1, 0, 2, 2] = pixel
    with pytest.raises(GenrobustError, match=f"the attack 'mine'.*{words}"):
        threat.check(x_adv, x, "the attack 'mine'")


def test_the_edge_of_the_ball_is_allowed_and_a_thousandth_beyond_is_not() -> None:
    x, threat = torch.zeros(1, 1, 3, 3), ThreatModel("linf", 0.1)
    threat.check(x + 0.1, x, "me")
    with pytest.raises(GenrobustError, match="moved an image"):
        threat.check(x + 0.1001, x, "me")


def test_a_distance_that_is_no_number_is_not_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Linf, "length", lambda self, change: change.flatten(1).sum(1) * torch.nan)
    x = torch.zeros(1, 1, 3, 3)
    with pytest.raises(GenrobustError, match="me moved an image by nan"):
        ThreatModel("linf", 0.1).check(x, x, "me")


@pytest.mark.parametrize("norm", ["l1", "Linf", "", None])
def test_an_unknown_norm_is_refused(norm: Any) -> None:
    with pytest.raises(GenrobustError, match=r"unknown norm.*[Kk]nown: l2, linf"):
        ThreatModel(norm, 0.1)


@pytest.mark.parametrize("eps", [-0.1, float("nan"), -float("inf")])
def test_a_radius_that_is_none_is_refused(eps: float) -> None:
    with pytest.raises(GenrobustError, match=r"eps is .* from 0 up"):
        ThreatModel("linf", eps)


def test_a_step_of_an_l2_ball_spends_no_length_on_pixels_that_the_box_stops() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5]).view(1, 1, 1, 5)
    gradient = torch.tensor([3.0, -3.0, 3.0, -3.0, 4.0]).view(1, 1, 1, 5)
    # It goes against the gradient: black cannot get darker, nor white lighter.
    kept = torch.tensor([0.0, -3.0, 3.0, 0.0, 4.0]).view(1, 1, 1, 5)
    found = ThreatModel("l2", 0.5).steepest(gradient, x)
    torch.testing.assert_close(found, kept / kept.norm())
    assert ThreatModel("linf", 0.5).steepest(gradient, x).abs().eq(1).all()
