"""Training goes on as if nothing had been measured, whatever a module holds and is read by."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust import GenerativeModel, ThreatModel
from genrobust.attacks import ATTACKS, Context
from genrobust.attacks.noise import Noise
from genrobust.callbacks import DuringTraining
from genrobust.models.reading.kept import Attributes
from genrobust.optimizers import Minimum, Problem
from genrobust.seeding import seeded

GENERATORS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "torch": (torch.Generator(), lambda one: torch.rand(2, generator=one).tolist()),
    "numpy": (np.random.default_rng(0), lambda one: one.random(2).tolist()),
    "numpy's bits": (np.random.PCG64(0), lambda one: one.random_raw()),
    "numpy's older": (np.random.RandomState(0), lambda one: one.normal()),  # keeps a second draw
    "Python's": (random.Random(0), lambda one: one.random()),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_that_a_part_holds_goes_on_where_it_was(kind: str) -> None:
    generator, draw = GENERATORS[kind]
    module = nn.Sequential(nn.Identity())
    module[0].generator = generator
    draw(generator)
    held = Attributes(module)
    drawn = draw(generator)
    held.put_back()
    assert draw(generator) == drawn


@pytest.mark.parametrize("before", [0, 0.5, True, "idle", None, torch.device("cpu"), (1, [2])])
def test_what_an_attribute_stands_for_is_put_back(before: object) -> None:
    module = nn.Sequential(nn.Identity())
    module[0].value = before
    held = Attributes(module)
    module.eval()
    for change in (lambda: setattr(module[0], "value", 9), lambda: delattr(module[0], "value")):
        change()
        held.put_back()
        assert module[0].value is before
    assert module[0].training


def test_a_part_in_a_values_place_stays_as_do_the_contents_of_lists() -> None:
    module = nn.Identity()
    module.net, module.seen = None, []
    held = Attributes(module)
    module.net = net = nn.Linear(1, 1)
    module.seen.append(1)
    module.new = 1
    held.put_back()
    assert (module.net, module.seen, module.new) == (net, [1], 1)


class Sampling(nn.Module):
    """Counts, and draws from a generator of its own, in what a measurement calls."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(16, 2), nn.Linear(2, 16)
        self.generator, self.calls = torch.Generator().manual_seed(3), 0

    def encode(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.enc(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        return self.dec(z).sigmoid().view(-1, 1, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.encode(x)
        return self.decode(mean + torch.randn(mean.shape, generator=self.generator))


READ: dict[str, Callable[[Any], Any] | None] = {
    "as it is": None,
    "wrapped": genrobust.wrap,
    "a part, wrapped": lambda module: genrobust.wrap(module[0]),
}


@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
@pytest.mark.parametrize("read", READ)
def test_training_goes_on_as_if_it_had_not_been_measured(
    read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacks do not matter here, but that the model is looked at, as before each of them."""

    def looks(model: Any, **options: Any) -> Any:
        with left_as_it_was(model):
            if not isinstance(model, genrobust.GenerativeModel):
                model = genrobust.wrap(model)
            model.reconstruct(x)
            model.module(x)

    from genrobust.models.wrapping import left_as_it_was

    monkeypatch.setattr("genrobust.callbacks.during.bench", looks)
    x = torch.rand(4, 1, 4, 4)

    def trained(measure: DuringTraining | None) -> tuple[Tensor, int]:
        torch.manual_seed(0)
        own = Sampling()
        module = nn.Sequential(own, nn.Identity()) if "part" in read else own
        optimizer = torch.optim.SGD(module.parameters(), 1.0)
        for epoch in range(2):
            optimizer.zero_grad()
            (module(x) - x).square().mean().backward()
            optimizer.step()
            if measure is not None:
                measure(module, epoch)
        assert all(part.training for part in module.modules())
        return own.enc.weight.detach(), own.calls

    found, calls = trained(DuringTraining(model=READ[read]))
    expected = trained(None)
    assert torch.equal(found, expected[0])
    assert calls == expected[1] == 2


@dataclass(frozen=True)
class Seeding(Noise):
    """Seeds the process's generators, as code of other people does to be repeatable."""

    name = "seeding-of-this-test"

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        return super().search(context, threat)


def attacked(model: GenerativeModel) -> object:
    x = genrobust.load_images("digits").take([0])
    return genrobust.attack("seeding-of-this-test", model, x)


def benched(model: GenerativeModel) -> object:
    measure = DuringTraining(sources=1, attacks=["seeding-of-this-test"], eps=[0.1])
    return measure(model.module, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
@pytest.mark.parametrize("measure", [attacked, benched])
def test_generators_go_on_where_they_were_whatever_an_attack_does_to_them(
    measure: Callable[[GenerativeModel], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTACKS._registered, "seeding-of-this-test", Seeding)
    model = genrobust.load_model("vae")
    genrobust.load_images("digits")  # libraries that are imported for it draw
    with seeded(torch.device("cpu"), "a state that no seed of theirs gives"):
        before = [float(torch.rand(())), np.random.random(), random.random()]
    with seeded(torch.device("cpu"), "a state that no seed of theirs gives"):
        assert measure(model)
        assert [float(torch.rand(())), np.random.random(), random.random()] == before
