"""Fixtures that several rooms share: small models whose every answer can be worked out by hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from linear_problems import Plain, linear_judge
from torch import Tensor, nn

import genrobust
from genrobust.judges import Judge
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.suites import Suite, load_suite

torch.set_num_threads(1)
settings.register_profile("genrobust", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("genrobust")

# What a shell starts in the background ignores interrupts, and so would what tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: A package of its own; tests install it, and a part of it cannot be imported on purpose.
collect_ignore = ["demo_plugin"]

LinearBuilder = Callable[[Tensor, Tensor], genrobust.GenerativeModel]


class LinearVAE(nn.Module):
    """x_hat = D E x + 1/2 with unit posterior variance, in the precision of the images."""

    input_shape = (1, 4, 4)

    def __init__(self, encoder: Tensor, decoder: Tensor) -> None:
        super().__init__()
        self.E, self.D = nn.Parameter(encoder), nn.Parameter(decoder)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.flatten(1) @ self.E.to(x).T
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.D.to(z).T + 0.5).view(-1, *self.input_shape)


@pytest.fixture
def linear_vae() -> LinearBuilder:
    """Builds x_hat = D E x + 1/2 on 4x4 images from E (latents, 16) and D (16, latents)."""

    def build(encoder: Tensor, decoder: Tensor) -> genrobust.GenerativeModel:
        return genrobust.wrap(LinearVAE(encoder, decoder), clamp=True)

    return build


@pytest.fixture
def tiny_vae() -> genrobust.GenerativeModel:
    """The thesis' network with one categorical, untrained."""
    spec = NetworkSpec(gaussian=4, categorical=(5,))
    return genrobust.wrap(initialised(spec, seed=3))


@pytest.fixture
def plain(linear_vae: LinearBuilder) -> Plain:
    """A linear-Gaussian model of three latents with four sources and targets."""
    return Plain(linear_vae)


@pytest.fixture
def untrained(tiny_vae: genrobust.GenerativeModel) -> tuple[genrobust.GenerativeModel, Judge]:
    """The untrained model and a linear judge."""
    return tiny_vae, linear_judge(1024)


@pytest.fixture(scope="module")
def shipped() -> tuple[genrobust.GenerativeModel, Judge]:
    """A model and a judge of digits that ship with genrobust."""
    return genrobust.load_model("vae"), genrobust.load_judge("digits", "lenet")


@pytest.fixture
def repository() -> Path:
    """The root of the working tree."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST/raw; the test is skipped where there is none."""
    found = os.environ.get("GENROBUST_DATA") or Path(__file__).parents[2] / "shared" / "data"
    if not (Path(found) / "MNIST" / "raw").is_dir():
        pytest.skip("needs MNIST: set GENROBUST_DATA to the folder that holds MNIST/raw")
    return Path(found)


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder with published checkpoints; the test is skipped where there is none."""
    found = Path(__file__).parents[2] / "shared" / "checkpoints"
    if not found.is_dir():
        pytest.skip("needs the published checkpoints, which do not ship with genrobust")
    return found


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with its evidence, on a small suite that counts as frozen."""
    from evidence_runs import run

    return run(tmp_path_factory.mktemp("tiny") / "vae")


@pytest.fixture(scope="session")
def tiny_entry(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run's entry."""
    from evidence_runs import submitted

    return submitted(tmp_path_factory.mktemp("entries"), tiny_run)


@pytest.fixture(scope="session")
def small_suite() -> Suite:
    """The digits protocol cut to 6 sources in 3 shards, 2 radii and few steps."""
    whole = load_suite("digits")
    cheap = [
        entry.model_copy(update={"settings": {**entry.settings, "steps": 6}})
        if "steps" in entry.settings
        else entry
        for entry in whole.attacks
    ]
    update = {"chunk_size": 2, "eps": (0.05, 0.2), "attacks": tuple(cheap), "resamples": 200}
    return whole.limited(6).model_copy(update=update)
