"""What torch is set to by the caller changes no result, and is as he left it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.metrics import encoder_jacobian
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.suites import AttackEntry, load_suite

pytestmark = pytest.mark.usefixtures("brief")


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "float64": lambda: _default_dtype(torch.float64),
    "bfloat16": lambda: _default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def settings() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_autocast_enabled("cpu"),
    )


@pytest.fixture(scope="module")
def model() -> genrobust.GenerativeModel:
    """A network of the zoo's parts, small."""
    spec = NetworkSpec(layers="dense", gaussian=3, categorical=(4,))
    return genrobust.wrap(initialised(spec, seed=3))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return genrobust.load_images("digits").take(range(4))


FEW: dict[str, dict[str, int]] = {
    "latent": {"steps": 5},
    "noise": {},
    "khan": {"directions": 2, "scales": 3},
    "kuzina-linearised": {"steps": 10, "chains": 2},
    "output": {"steps": 5},
}


def attacked(name: str, model: genrobust.GenerativeModel, images: Tensor) -> Tensor:
    return genrobust.attack(name, model, images, norm="l2", eps=1.0, **FEW[name]).x_adv


#: What an attack finds in no mode at all, which is the same for every mode.
unmoded = cache(attacked)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FEW)
def test_an_attack_finds_the_same_in_any_mode(
    mode: str, name: str, model: genrobust.GenerativeModel, images: Tensor
) -> None:
    wanted = unmoded(name, model, images)
    assert float((wanted - images).abs().max()) > 0
    with MODES[mode]():
        before = settings()
        again = attacked(name, model, images)
        assert settings() == before
    assert torch.equal(again, wanted)


def test_images_that_were_made_in_inference_mode_are_attacked(
    model: genrobust.GenerativeModel, images: Tensor
) -> None:
    labels = torch.arange(4)
    judge = genrobust.load_judge("digits", "lenet")
    with torch.inference_mode():
        x, y = images + 0.0, labels + 0
    for name in ("latent", "classifier"):
        given = {"eps": 0.1, "steps": 5, "judge": judge}
        wanted = genrobust.attack(name, model, images, labels=labels, **given)
        assert torch.equal(genrobust.attack(name, model, x, labels=y, **given).x_adv, wanted.x_adv)


@pytest.mark.parametrize("mode", MODES)
def test_a_jacobian_is_the_same_in_any_mode(
    mode: str, model: genrobust.GenerativeModel, images: Tensor
) -> None:
    wanted = encoder_jacobian(model, images[:2])
    assert float(wanted.norm()) > 0
    with MODES[mode]():
        assert torch.equal(encoder_jacobian(model, images[:2]), wanted)


def run(network: nn.Module) -> tuple[str, genrobust.Record]:
    """What wrapping gives, and a run."""
    attack = AttackEntry(attack="latent", goal="targeted", settings={"steps": 5})
    judge = load_suite("digits-v1").attacker_judge  # not the whole committee
    update = {"attacks": (attack,), "eps": (0.05,), "resamples": 50, "attacker_judge": judge}
    suite = load_suite("digits").limited(2).model_copy(update=update)
    fingerprint = genrobust.wrap(network).fingerprint()
    # Serial, as a thread does not have what is set in its starter.
    return fingerprint, genrobust.bench(genrobust.load_model("vae"), suite, executor="serial")


@cache
def network_and_run() -> tuple[nn.Module, tuple[str, genrobust.Record]]:
    network = initialised(NetworkSpec(input_shape=(1, 8, 8), gaussian=3, layers="dense"), 0)
    return network, run(network)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_models_and_runs_are_the_same_in_any_mode(mode: str) -> None:
    network, (fingerprint, wanted) = network_and_run()
    with MODES[mode]():
        again, found = run(network)
    assert again == fingerprint
    assert found.model.fingerprint == wanted.model.fingerprint
    assert found.scores == wanted.scores
