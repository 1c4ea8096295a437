"""Posterior parts from outside that slip: each is named in one sentence before it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError
from genrobust.foreign import Call
from genrobust.posterior import FREE, Discrete, Gaussian, Part


@dataclass(frozen=True, eq=False)
class Signs(Discrete):
    """The sign of each value (B, n), with no more than what a discrete part must have."""

    name = "signs"
    has_density = False

    values: Tensor

    def mode(self) -> Tensor:
        return torch.where(self.values > 0, 1.0, -1.0)

    def vector(self) -> Tensor:
        return self.values

    def relaxed(self, temperature: float) -> Tensor:
        return (self.values / temperature).tanh()

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        return self.relaxed(temperature)

    def kl(self, other: Part) -> Tensor:
        return self.squared_wasserstein2(other)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        return (self.vector() - other.vector()).double().square().sum(1)

    def kl_to_prior(self) -> Tensor:
        return self.values.double().abs()

    def scores(self) -> Tensor:
        return torch.stack([-self.values, self.values], -1)

    def pinned(self, wanted: Tensor) -> Tensor:
        return torch.where(wanted == FREE, self.straight_through(), 2.0 * wanted - 1)


class Coder(nn.Module):
    """Six values of an image, and it from their part."""

    input_shape = (1, 8, 8)

    def __init__(self, kind: Callable[[Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.down, self.up = nn.Linear(64, 6), nn.Linear(6, 64)

    def encode(self, x: Tensor) -> Any:
        return self.kind(self.down(x.flatten(1) - 0.5))

    def decode(self, code: Tensor) -> Tensor:
        return self.up(code).sigmoid().view(-1, 1, 8, 8)


def fails(*_: object) -> Any:
    return {}["nowhere"]


def leaves(*_: object) -> Any:
    raise SystemExit(0)


SLIPS: dict[str, tuple[str, Any, str]] = {
    "raises": ("vector", fails, r"failed \(KeyError: 'nowhere'; test_careless_parts.py, line \d+"),
    "mode raises": ("mode", fails, r"failed \(KeyError"),
    "scores raise": ("scores", fails, r"failed \(KeyError"),
    "exits": ("vector", leaves, r"failed \(SystemExit"),
    "no code": ("mode", lambda s: None, r"gives a NoneType by mode\(\)"),
    "whole codes": ("mode", lambda s: s.values.long(), r"gives int64 of shape \(4, 6\) by mode"),
    "NaN": ("mode", lambda s: s.values * torch.nan, r"NaN or infinity by mode"),
    "no batch": ("vector", lambda s: s.values.sum(), r"float32 of shape \(\) by vector"),
    "one for all": ("vector", lambda s: s.values[:1], r"shape \(1, 6\) by vector"),
    "no matrix": ("vector", lambda s: s.values[:, :, None], r"\(4, 6, 1\) by vector"),
    "empty": ("vector", lambda s: s.values[:, :0], r"\(4, 0\) by vector"),
    "detached": ("vector", lambda s: s.values.detach(), r"lets no gradient through vector\(\)"),
    "rounded": ("vector", lambda s: s.values.round(), r"lets no gradient through vector\(\)"),
    "root of 0": (
        "vector",
        lambda s: s.values + (0 * s.values).abs().sqrt(),
        r"NaN in the gradient of vector",
    ),
    "no stand-in": ("relaxed", lambda s, t: None, r"gives a NoneType by relaxed"),
    "other stand-in": (
        "relaxed",
        lambda s, t: s.values[:, :3],
        r"by relaxed\(\) where that of mode",
    ),
    "steps": ("relaxed", lambda s, t: s.values.detach(), r"no gradient through relaxed"),
    "short through": (
        "straight_through",
        lambda s: s.values[:, :3],
        r"\(4, 3\) by straight_through",
    ),
    "other through": ("straight_through", lambda s: s.values, r"other codes by straight_through"),
    "no way through": ("straight_through", lambda s: s.mode(), "no gradient through straight_thro"),
    "flat scores": ("scores", lambda s: s.values, r"float32 of shape \(4, 6\) by scores"),
    "scores NaN": (
        "scores",
        lambda s: torch.stack([s.values, s.values * torch.nan], -1),
        r"NaN or infinity by scores",
    ),
    "scores stop": (
        "scores",
        lambda s: torch.stack([-s.values, s.values], -1).detach(),
        "no gradient through scores",
    ),
    "scores for others": (
        "tokens",
        lambda s: (s.values < 0).long(),
        r"highest of scores\(\) elsewhere than tokens",
    ),
    "short pins": ("pinned", lambda s, w: s.values[:, :2], r"\(4, 2\) by pinned"),
    "other pins": (
        "pinned",
        lambda s, w: -s.straight_through(),
        r"other codes by pinned\(\) at its",
    ),
    "stopped pins": ("pinned", lambda s, w: s.mode(), r"no gradient through pinned"),
    "far in one number": (
        "squared_wasserstein2",
        lambda s, o: s.values.sum(),
        r"by squared_wasserstein2\(\) where floats \(B,\)",
    ),
    "below 0": (
        "squared_wasserstein2",
        lambda s, o: -s.values.square().sum(1),
        r"below 0 by squared_wasserstein2",
    ),
    "whole draws": ("rsample", lambda s, n, t: None, r"NoneType by rsample"),
    "no prior": ("kl_to_prior", lambda s: s.values.sum(1), r"\(4,\) by kl_to_prior"),
    "wordless": ("describe", lambda s: None, r"no string by describe"),
    "nameless": ("name", 3, r"no name that is a string"),
    "by its batch": (
        "vector",
        lambda s: s.values - s.values.mean(0),
        r"something else by vector\(\) beside others",
    ),
}


@pytest.mark.parametrize("case", SLIPS)
def test_a_part_that_slips_is_named_before_it_is_measured(case: str) -> None:
    name, slip, said = SLIPS[case]
    kind = type("Slipping", (Signs,), {name: slip, "__module__": __name__})
    who = "3" if name == "name" else "signs"
    with pytest.raises(GenrobustError, match=f"the posterior part '{who}' .*{said}"):
        genrobust.wrap(Coder(kind))


def test_a_part_that_has_no_more_than_it_must_is_measured() -> None:
    model = genrobust.wrap(Coder(Signs))
    x = torch.rand(3, 1, 8, 8, requires_grad=True)
    through = model.encode(x).straight_through()
    assert torch.allclose(through, model.encode(x).mode())
    (gradient,) = torch.autograd.grad(through.sum(), x)
    assert gradient.any()


def test_a_part_need_not_have_a_divergence() -> None:
    def kl(part: Signs, other: Part) -> Tensor:
        raise NotImplementedError("there is no density")

    model = genrobust.wrap(Coder(type("Bare", (Signs,), {"kl": kl, "__module__": __name__})))
    q = model.encode(torch.rand(2, 1, 8, 8))
    with pytest.raises(GenrobustError, match=r"part 'signs' failed .*there is no density"):
        q.kl(q)


def test_a_part_of_a_model_without_gradients_needs_none() -> None:
    kind = type("Hard", (Signs,), {"straight_through": Signs.mode, "__module__": __name__})
    assert genrobust.wrap(Coder(kind), differentiable=False).encode(torch.rand(2, 1, 8, 8)).parts


def test_a_gaussian_of_ones_own_is_tried_as_well() -> None:
    kind = type("Still", (Gaussian,), {"vector": lambda s: s.mean.detach(), "__module__": __name__})
    with pytest.raises(GenrobustError, match=r"part 'gaussian' lets no gradient through vector"):
        genrobust.wrap(Coder(lambda values: kind(values, values.square())))


@dataclass(frozen=True, eq=False)
class Directed(Part):
    """A direction and how sure it is: two shapes."""

    name = "directed"

    mean: Tensor
    sure: Tensor

    def mode(self) -> Tensor:
        return self.mean

    vector = mode

    def rsample(self, noise: Tensor, temperature: float) -> Tensor:
        return self.mean + noise * temperature / self.sure

    def kl(self, other: Part) -> Tensor:
        return self.squared_wasserstein2(other)

    def squared_wasserstein2(self, other: Part) -> Tensor:
        return (self.vector() - other.vector()).double().square().sum(1)

    def kl_to_prior(self) -> Tensor:
        return self.mean.double().square()


def test_a_part_may_hold_tensors_of_several_shapes() -> None:
    model = genrobust.wrap(Coder(lambda v: Directed(v, 1 + v[:, :1].square())))
    found = genrobust.attack("latent", model, torch.rand(2, 1, 8, 8), target=torch.rand(2, 1, 8, 8))
    assert found.x_adv.shape == (2, 1, 8, 8)


def test_a_part_with_a_bare_number_an_image_is_told_its_shape() -> None:
    with pytest.raises(
        GenrobustError, match=r"'directed' holds a tensor of shape \(4,\) .*\(B, 1\)"
    ):
        genrobust.wrap(Coder(lambda v: Directed(v, v[:, 0])))


def test_a_part_whose_field_hides_a_method_is_named() -> None:
    field = [("means", Tensor)]
    own = {"__module__": __name__}
    Mixed = make_dataclass("Mixed", field, bases=(Directed,), frozen=True, eq=False, namespace=own)
    with pytest.raises(GenrobustError, match=r"holds 'means' where parts have means\(\): rename"):
        genrobust.wrap(Coder(lambda v: Mixed(v, v[:, :1], v)))


def test_a_part_that_is_no_dataclass_is_named() -> None:
    class Plain(Part):
        name = "plain"

        def __init__(self, values: Tensor) -> None:
            self.values = values

        mode = vector = kl_to_prior = lambda self: self.values
        rsample = kl = squared_wasserstein2 = lambda self, *_: self.values

    with pytest.raises(GenrobustError, match=r"the posterior part 'plain' is no dataclass"):
        genrobust.wrap(Coder(Plain))


def test_a_part_that_fails_later_is_named_as_well() -> None:
    def mode(part: Signs) -> Tensor:
        return fails() if len(part.values) > 8 else Signs.mode(part)

    model = genrobust.wrap(Coder(type("Few", (Signs,), {"mode": mode, "__module__": __name__})))
    with pytest.raises(GenrobustError, match=r"the posterior part 'signs' failed \(.*Error"):
        model.reconstruct(torch.rand(9, 1, 8, 8))


def test_a_call_on_no_batch_tells_what_it_was() -> None:
    nothing: Any = None
    said = "decode failed on a NoneType"
    with pytest.raises(GenrobustError, match=said), Call("mine", "decode", nothing):
        fails()
