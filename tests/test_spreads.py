"""A spread that is misread is told by a line that works, however the encoder gives it."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from told import warned
from torch import Tensor, nn
from torch import distributions as D

import genrobust
from genrobust.models.checks.fidelity import fidelity
from genrobust.models.inputs import probe_images

pytestmark = pytest.mark.usefixtures("brief")

SHAPE = (1, 8, 8)
#: Of the sample, the mean and the second, what an encoder gives.
Form = Callable[[Tensor, Tensor, Tensor], Any]
Two = namedtuple("Two", "mu logvar")
Three = namedtuple("Three", "features mu logvar")


@dataclass
class Held:
    mu: Tensor
    logvar: Tensor


FORMS: dict[str, Form] = {
    "pair": lambda z, m, s: (m, s),
    "list": lambda z, m, s: [m, s],
    "named tuple": lambda z, m, s: Two(m, s),
    "dictionary": lambda z, m, s: {"mu": m, "logvar": s},
    "dictionary with a sample": lambda z, m, s: {"z": z, "mu": m, "logvar": s},
    "dataclass": lambda z, m, s: Held(m, s),
    "sample last": lambda z, m, s: (m, s, z),
    "sample first": lambda z, m, s: (z, m, s),
    "named tuple with a sample": lambda z, m, s: Three(z, m, s),
    "pair in an object": lambda z, m, s: {"posterior": SimpleNamespace(mean=m, log_var=s)},
    "embedding": lambda z, m, s: {"embedding": m, "log_covariance": s},
    "joint": lambda z, m, s: {"cont": [m, s]},
}


class Toy(nn.Module):
    """Its forward draws with the standard deviation that ``std`` makes of the second."""

    input_shape = SHAPE

    def __init__(self, form: Form, std: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_code, self.from_code = nn.Linear(64, 4), nn.Linear(4, 64)
        self.form, self.std = form, std
        self.register_buffer("spread", torch.linspace(0.2, 0.8, 4))

    def two(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = 3 * self.to_code(x.flatten(1))
        return mean, self.spread + 0.1 * mean.sigmoid()

    def draw(self, mean: Tensor, second: Tensor) -> Tensor:
        return mean + self.std(second) * torch.randn_like(mean)

    def encode(self, x: Tensor) -> Any:
        mean, second = self.two(x)
        sample = mean + (0.5 * second).exp() * torch.randn_like(mean)
        return self.form(sample, mean, second)

    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.draw(*self.two(x)))


def said(module: nn.Module, **given: Any) -> list[str]:
    """What is said of a misreading."""
    return [one for one in warned(module, **given) if "may be misread" in one]


Transform = Callable[[Tensor], Tensor]


def require_mended(told: str, module: Toy, logvar: Transform) -> None:
    line = told.split("; pass ")[1].split(" if they are")[0]
    given = eval(f"dict({line})", {"module": module, "torch": torch})
    assert said(module, **given) == []
    mean, spread = module.two(probe_images(SHAPE))
    part = genrobust.wrap(module, **given).encode(probe_images(SHAPE)).parts[0]
    torch.testing.assert_close((part.mean, part.logvar), (mean, logvar(spread)))


@pytest.mark.parametrize("form", FORMS)
def test_a_spread_of_another_kind_is_told_by_a_line_that_works(form: str) -> None:
    module = Toy(FORMS[form], lambda s: s)
    (told,) = said(module)
    assert "what is read as the log-variance is a standard deviation" in told
    require_mended(told, module, lambda s: 2 * s.log())


def test_a_spread_of_either_sign_is_told_by_a_line_that_works() -> None:
    class Signed(Toy):
        def two(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, second = super().two(x)
            return mean, second - 0.5

        def forward(self, x: Tensor) -> Any:
            mean, second = self.two(x)
            return self.decode(self.draw(mean, second)), mean, second

    module = Signed(FORMS["pair"], lambda s: s)
    (told,) = said(module)
    assert "what is read as the log-variance is a standard deviation of either sign" in told
    require_mended(told, module, lambda s: 2 * s.abs().log())


NAMED: dict[str, tuple[Form, Transform, str, Transform]] = {
    "log_std": (
        lambda z, m, s: {"mu": m, "log_std": s},
        lambda s: (0.5 * s).exp(),
        "the logarithm of a standard deviation is the log-variance",
        lambda s: s,
    ),
    "std": (
        lambda z, m, s: SimpleNamespace(mu=m, std=s),
        lambda s: s.sqrt(),
        "a standard deviation is a variance",
        lambda s: s.log(),
    ),
    "a distribution": (
        lambda z, m, s: D.Independent(D.Normal(m, s), 1),
        lambda s: s.exp(),
        "a standard deviation is the logarithm of a standard deviation",
        lambda s: 2 * s,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_spread_whose_name_says_something_else_is_mended_from_its_own_numbers(name: str) -> None:
    form, std, words, logvar = NAMED[name]
    module = Toy(form, std)
    (told,) = said(module)
    assert f"what is read as {words}, as its forward draws" in told
    require_mended(told, module, logvar)


@pytest.mark.parametrize("form", [name for name in FORMS if "sample" not in name])
def test_two_that_are_turned_are_told_by_a_line_that_works(form: str) -> None:
    module = Toy(lambda z, m, s: FORMS[form](z, s, m), lambda s: (0.5 * s).exp())
    (told,) = said(module)
    assert "forward decodes what is read as the log-variance" in told
    require_mended(told, module, lambda s: s)


def test_of_a_function_of_ones_own_the_line_says_what_it_is_to_return() -> None:
    module = Toy(FORMS["pair"], torch.exp)
    (told,) = said(module, encode=lambda x: module.encode(x))
    assert told.endswith(
        "pass encode=, a function that returns (mean, 2 * s), where s is what is read as the "
        "log-variance"
    )


@pytest.mark.parametrize(
    ("name", "words", "line"),
    [
        ("logvar", "the log-variance is positive for all", "2 * o['logvar'].log()"),
        ("log_std", "standard deviation is positive for all", "2 * o['log_std'].log()"),
        ("std", "a standard deviation is above 1 for all", "that returns (mean, logvar)"),
    ],
)
def test_a_code_that_says_nothing_is_told_by_the_numbers_that_it_gives(
    name: str, words: str, line: str
) -> None:
    class Wide(nn.Module):
        input_shape = SHAPE

        def __init__(self) -> None:
            super().__init__()
            self.to_code, self.from_code = nn.Linear(64, 20), nn.Linear(20, 64)

        def encode(self, x: Tensor) -> Any:
            mean = self.to_code(x.flatten(1))
            return {"mu": mean, name: 1.5 + mean.sigmoid()}

        def decode(self, z: Tensor) -> Tensor:
            return self.from_code(z).sigmoid().view(-1, *SHAPE)

    (told,) = said(Wide())
    assert words in told
    assert line in told


def test_a_positive_log_variance_that_forward_draws_with_raises_no_word() -> None:
    class Wide(Toy):
        def two(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, second = super().two(x)
            return mean.repeat(1, 5), second.repeat(1, 5)

        def decode(self, z: Tensor) -> Tensor:
            return super().decode(z.unflatten(1, (5, 4)).mean(1))

    for form in FORMS.values():
        assert not said(Wide(form, lambda s: (0.5 * s).exp()))


def noise_like(x: Tensor) -> Tensor:
    return 0.01 * torch.randn_like(x)


DEPLOYED: dict[str, tuple[Callable[[Toy], Transform], int]] = {
    "the code is drawn": (lambda module: module, 16),
    "the image is rounded": (lambda m: lambda x: m.decode(m.encode((x * 63).round() / 63)[0]), 1),
    "the image is noisy": (lambda m: lambda x: m.decode(m.encode(x + noise_like(x))[0]), 16),
}


@pytest.mark.parametrize("name", DEPLOYED)
def test_what_is_deployed_says_nothing_of_the_spread(name: str) -> None:
    deploy, draws = DEPLOYED[name]
    module = Toy(FORMS["pair"], lambda s: s)
    deployed: dict[str, Any] = {"deploy": deploy(module), "draws": draws}
    (told,) = said(module, **deployed)
    assert "what is read as the log-variance is a standard deviation" in told
    line = told.split("; pass encode=")[1]
    assert said(module, **deployed, encode=eval(line, {"module": module, "torch": torch})) == []


class Coder(nn.Module):
    """Gives its code, and beside it what that is made from."""

    input_shape = SHAPE

    def __init__(self, code: Callable[[Tensor], Tensor], latents: int = 16) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.to_code, self.from_code = nn.Linear(64, latents), nn.Linear(latents, 64)
        self.code = code

    def encode(self, x: Tensor) -> Any:
        first = 3 * self.to_code(x.flatten(1) - 0.5)
        return self.code(first), first

    def decode(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)


def _bits(z: Tensor) -> Tensor:
    soft = z.sigmoid()
    return soft + ((soft > 0.5).float() - soft).detach()


ORIGINS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "bits": (_bits, "rises with what is read as the mean"),
    "probabilities": (torch.sigmoid, "rises with what is read as the mean"),
    "sparse": (torch.relu, "rises with what is read as the mean"),
    "levels": (lambda z: z + ((2 * z).round() / 2 - z).detach(), "rises with what is read as"),
    "refined": (lambda z: 0.5 * z + 0.1 * z.flip(1), "moves as what is read as the mean does"),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_a_code_beside_what_it_is_made_from_is_said_to_have_no_log_variance(name: str) -> None:
    code, words = ORIGINS[name]
    (told,) = said(Coder(code))
    assert words in told
    assert told.endswith("pass encode=lambda x: module.encode(x)[0] if that is the code")
    module = Coder(code)
    assert not said(module, encode=lambda x: module.encode(x)[0])


def test_a_mask_beside_a_code_is_said_to_be_no_log_variance() -> None:
    class Masked(Coder):
        def encode(self, x: Tensor) -> Any:
            _, first = super().encode(x)
            mask = (first.abs() > 0.5).float()
            return first * mask, mask

    module = Masked(torch.relu)
    (told,) = said(module)
    assert "is read as the log-variance takes 0 and 1 alone" in told
    assert told.endswith("pass encode=lambda x: module.encode(x)[0] if that is the code")
    assert not said(module, encode=lambda x: module.encode(x)[0])


@pytest.mark.parametrize("code", [lambda z: z.flip(1), lambda z: -z, lambda z: (4 * z).sin()])
def test_a_mean_that_does_not_follow_the_second_leaves_it_a_log_variance(
    code: Callable[[Tensor], Tensor],
) -> None:
    assert not said(Coder(code))


def test_few_numbers_may_rise_together_by_chance() -> None:
    assert not said(Coder(torch.sigmoid, latents=2))


@pytest.mark.parametrize("trained", [True, False])
def test_of_a_trained_model_few_positive_numbers_are_no_log_variance(trained: bool) -> None:
    """Two latents, the brightness of either half, with what may be chance in an untrained model."""

    class Halves(nn.Module):
        input_shape = SHAPE

        def encode(self, x: Tensor) -> Any:
            mean = x.unflatten(3, (2, 4)).mean((1, 2, 4))
            return mean, 0.1 + 0.2 * (1 - mean).square()

        def decode(self, z: Tensor) -> Tensor:
            z = z if trained else 1 - z
            return z.repeat_interleave(4, 1)[:, None, None].expand(-1, 1, 8, -1)

    module = Halves()
    assert said(module) == []  # of images that are no pictures nothing is known
    model = genrobust.wrap(module)
    x = module.decode(torch.rand(6, 2)) if trained else torch.rand(6, *SHAPE)
    found = str(fidelity(model, x))
    assert ("positive for all images and latents" in found) == trained
