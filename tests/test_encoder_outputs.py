"""What an encoder or a decoder returns is read for certain, or refused with what to type."""

from __future__ import annotations

import re
import warnings
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributions as D
from told import warned
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.inputs import probe_images
from genrobust.posterior import Categorical, Gaussian, Point

pytestmark = pytest.mark.usefixtures("brief")


class Toy(nn.Module):
    """8x8 images, three latents, log-variances far from 0."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.to_mean, self.to_logvar = nn.Linear(64, 3), nn.Linear(64, 3)
            self.from_code = nn.Linear(3, 64)

    def mean(self, x: Tensor) -> Tensor:
        return self.to_mean(x.flatten(1))

    def logvar(self, x: Tensor) -> Tensor:
        return self.to_logvar(x.flatten(1)) - 2

    def std(self, x: Tensor) -> Tensor:
        return (0.5 * self.logvar(x)).exp()

    def sample(self, x: Tensor) -> Tensor:
        return self.mean(x) + self.std(x) * torch.randn(len(x), 3)

    def image(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, 1, 8, 8)


Form = Callable[[Toy, Tensor], Any]


def wrapped(encode: Form, decode: Callable[[Toy, Tensor], Any] = Toy.image) -> Any:
    toy = Toy()
    model = genrobust.wrap(toy, encode=lambda x: encode(toy, x), decode=lambda z: decode(toy, z))
    return toy, model


TOLD: dict[str, Form] = {
    "z, mean, logvar": lambda t, x: (t.sample(x), t.mean(x), t.logvar(x)),
    "mean, logvar, z": lambda t, x: (t.mean(x), t.logvar(x), t.sample(x)),
    "mean, z, logvar": lambda t, x: [t.mean(x), t.sample(x), t.logvar(x)],
    "two samples": lambda t, x: (t.sample(x), t.sample(x), t.mean(x), t.logvar(x)),
    "the mean as its sample": lambda t, x: (t.mean(x), t.mean(x), t.logvar(x)),
    "the mean as its sample, last": lambda t, x: (t.mean(x), t.logvar(x), t.mean(x)),
    "a loss beside them": lambda t, x: (t.sample(x), t.mean(x), t.logvar(x), t.std(x).sum()),
}
PLAIN: dict[str, Form] = {
    "a loss": lambda t, x: (t.mean(x), t.logvar(x), t.std(x).sum()),
    "a loss an image": lambda t, x: (t.mean(x), t.logvar(x), t.std(x).sum(1)),
    "features": lambda t, x: (t.mean(x), t.logvar(x), x.flatten(1)),
    "nothing": lambda t, x: (t.mean(x), t.logvar(x), None),
    "a dictionary": lambda t, x: {"z": t.sample(x), "mu": t.mean(x), "log_var": t.logvar(x)},
    "a distribution alone": lambda t, x: [D.Normal(t.mean(x), t.std(x))],
}


def test_a_sample_before_mean_and_log_variance_is_not_taken_for_the_mean() -> None:
    with pytest.warns(GenrobustWarning, match="number 2 is read as the mean and number 3 as"):
        toy, model = wrapped(TOLD["z, mean, logvar"])
    x = probe_images((1, 8, 8), 6)
    (part,) = model.encode(x).parts
    torch.testing.assert_close(part.mean, toy.mean(x))
    torch.testing.assert_close(part.logvar, toy.logvar(x))


@pytest.mark.parametrize("form", TOLD)
def test_what_can_be_told_by_trying_is_read_right_and_said(form: str) -> None:
    with pytest.warns(GenrobustWarning, match="is read as the mean"):
        toy, model = wrapped(TOLD[form])
    for count in (1, 3, 5):  # 5 is how many it was tried with, 3 the number of latents
        x = torch.rand(count, 1, 8, 8)
        (part,) = model.encode(x).parts
        torch.testing.assert_close(part.mean, toy.mean(x))
        torch.testing.assert_close(part.logvar, toy.logvar(x))
    torch.testing.assert_close(model.reconstruct(x), toy.image(toy.mean(x)))


@pytest.mark.parametrize("form", PLAIN)
@pytest.mark.filterwarnings("error")
def test_what_says_itself_what_it_is_needs_no_trying(form: str) -> None:
    toy, model = wrapped(PLAIN[form])
    x = torch.rand(4, 1, 8, 8)
    (part,) = model.encode(x).parts
    assert isinstance(part, Gaussian)
    torch.testing.assert_close(part.mean, toy.mean(x))
    torch.testing.assert_close(part.logvar, toy.logvar(x))


def test_what_was_read_once_is_read_so_for_good() -> None:
    """Here the second is the mean on the images that it was tried with, and later is not."""
    toy = Toy()

    def encode(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        late = x.mean((1, 2, 3), keepdim=True).flatten(1) > 0.9
        return toy.mean(x), toy.mean(x) + late, toy.logvar(x)

    with pytest.warns(GenrobustWarning):
        model = genrobust.wrap(toy, encode=encode, decode=toy.image)
    x = torch.ones(2, 1, 8, 8)
    torch.testing.assert_close(model.encode(x).mode(), toy.mean(x))


UNTOLD: dict[str, tuple[Form, str]] = {
    "which is the sample": (
        lambda t, x: (t.mean(x), t.logvar(x), 7 * t.mean(x)),
        r"cannot tell.*encode=lambda x: your_encode\(x\)\[1:\].*your_encode\(x\)\[:2\]",
    ),
    "a standard deviation": (
        lambda t, x: (t.sample(x), t.mean(x), t.std(x)),
        r"\(o\[1\], 2 \* o\[2\].log\(\)\)",
    ),
    "mean and log-variance swapped": (
        lambda t, x: (t.sample(x), t.logvar(x), t.mean(x) + 3),
        "cannot tell",
    ),
    "four": (
        lambda t, x: (t.mean(x), t.logvar(x), t.std(x), -t.mean(x)),
        r"encode=lambda x: your_encode\(x\)\[2:\].*\[:2\]",
    ),
    "two pairs": (
        lambda t, x: (t.mean(x)[:, :2], t.logvar(x)[:, :2], t.mean(x), t.logvar(x)),
        r"cannot tell.*\[2:\]",
    ),
    "features first": (
        lambda t, x: (x.flatten(1), t.mean(x), t.logvar(x)),
        r"encode=lambda x: your_encode\(x\)\[1:\]",
    ),
    "something between": (
        lambda t, x: (t.mean(x), x.flatten(1), t.logvar(x)),
        r"encode=lambda x: \[your_encode\(x\)\[i\] for i in \[0, 2\]\]",
    ),
    "a pair inside": (
        lambda t, x: (t.sample(x), (t.mean(x), t.logvar(x))),
        r"encode=lambda x: your_encode\(x\)\[1\] if that is the posterior",
    ),
    "posteriors": (
        lambda t, x: [D.Normal(t.mean(x), t.std(x)), D.Normal(t.mean(x), t.std(x))],
        r"argument 'input' .* must be Tensor, not list.* pass decode=",
    ),
    "a sample and a distribution": (
        lambda t, x: (t.sample(x), D.Normal(t.mean(x), t.std(x))),
        r"your_encode\(x\)\[1\]",
    ),
    "all random": (lambda t, x: (t.sample(x), t.sample(x), t.sample(x)), "cannot tell"),
    "a sample and its mean": (lambda t, x: (t.mean(x), t.mean(x)), "the same numbers"),
    "a random log-variance": (lambda t, x: (t.mean(x), t.sample(x)), "draws random numbers"),
    "two means": (
        lambda t, x: {"mean": t.mean(x), "mu": -t.mean(x), "log_var": t.logvar(x)},
        "more than one mean",
    ),
    "two marks": (
        lambda t, x: {"cont": [t.mean(x), t.logvar(x)], "embedding": t.mean(x)},
        r"more than one posterior \(cont and embedding\).*your_encode\(x\)\['cont'\]",
    ),
    "a code and something like it": (
        lambda t, x: {"embedding": t.sample(x), "mean": t.mean(x)},
        r"more than one posterior \(embedding and mean\)",
    ),
    "a distribution and an embedding": (
        lambda t, x: type("Out", (dict,), {"latent_dist": D.Normal(t.mean(x), t.std(x))})(
            embedding=t.mean(x)
        ),
        r"more than one posterior.*latent_dist",
    ),
    "three in cont": (
        lambda t, x: {"cont": [t.sample(x), t.mean(x), t.logvar(x)]},
        r"'cont' as a list of .*which is not \[mean, logvar\]",
    ),
}


# Distributions


class Custom(D.Distribution):
    """One that nobody knows, and that has no mean."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        super().__init__(numbers.shape[:1], numbers.shape[1:], validate_args=False)


MEANS: dict[str, Callable[[Tensor], D.Distribution]] = {
    "Beta": lambda z: D.Beta(z.exp(), 2.0),
    "Dirichlet": lambda z: D.Dirichlet(z.exp()),
    "Gamma": lambda z: D.Gamma(z.exp(), 1.0),
    "Bernoulli": lambda z: D.Independent(D.Bernoulli(logits=z), 1),
    "StudentT": lambda z: D.StudentT(5.0, z, 1.0),
    "VonMises": lambda z: D.VonMises(z, 1.0),
    "Kumaraswamy": lambda z: D.Kumaraswamy(z.exp(), torch.tensor(2.0)),
    "Gumbel": lambda z: D.Gumbel(z, 1.0),
    "LogNormal": lambda z: D.LogNormal(z, 0.5),
    "HalfNormal": lambda z: D.HalfNormal(z.exp()),
}


@pytest.mark.parametrize("name", MEANS)
def test_any_other_distribution_is_read_as_its_mean_and_said_to_be(name: str) -> None:
    with pytest.warns(GenrobustWarning, match=f"a {name} is read as its mean; nothing is known"):
        toy, model = wrapped(lambda t, x: MEANS[name](t.mean(x)))
    x = probe_images((1, 8, 8), 3)
    (part,) = model.encode(x).parts
    torch.testing.assert_close(part.mode(), MEANS[name](toy.mean(x)).mean)


@pytest.mark.parametrize(
    ("name", "gives", "line"),
    [
        ("Cauchy", lambda z: D.Cauchy(z, 1.0), ".mode"),
        ("RelaxedBernoulli", lambda z: D.RelaxedBernoulli(torch.tensor(0.5), logits=z), ".probs"),
        ("Custom", Custom, None),
    ],
)
def test_a_distribution_without_a_mean_is_told_by_its_name_with_a_line_that_works(
    name: str, gives: Callable[[Tensor], D.Distribution], line: str | None
) -> None:
    toy = Toy()
    vars(toy).update(encode=lambda x: gives(toy.mean(x)), decode=toy.image)
    with pytest.raises(GenrobustError, match=f"the distribution {name}, which has no mean") as e:
        genrobust.wrap(toy)
    typed = str(e.value).split("; pass encode=")[1]
    if line is None:
        assert typed == ", a function from images to their codes"
    else:
        assert typed.endswith(line)
        genrobust.wrap(toy, encode=eval(typed, {"module": toy}))


@pytest.mark.parametrize("kind", ["in a dictionary", "in an object"])
@pytest.mark.parametrize("drawn", [True, False])
def test_a_distribution_beside_a_code_is_the_posterior(kind: str, drawn: bool) -> None:
    def encode(t: Toy, x: Tensor) -> Any:
        q = D.Normal(t.mean(x), t.std(x))
        return BESIDE[kind]({"z": q.rsample() if drawn else q.mean, "q": q})

    toy, model = wrapped(encode)
    x = probe_images((1, 8, 8), 3)
    (part,) = model.encode(x).parts
    torch.testing.assert_close(part.logvar, toy.logvar(x))


def _unit(t: Toy, x: Tensor) -> D.Normal:
    return D.Normal(torch.zeros_like(t.mean(x)), 1.0)


def _normal(t: Toy, x: Tensor) -> D.Normal:
    return D.Normal(t.mean(x), t.std(x))


BESIDE_A_PRIOR: dict[str, tuple[type, Form]] = {
    "a posterior": (Gaussian, lambda t, x: {"q": _normal(t, x)}),
    "a pair": (Gaussian, lambda t, x: {"q": (t.mean(x), t.logvar(x))}),
    "a mean and a posterior": (Gaussian, lambda t, x: {"z": t.mean(x), "posterior": _normal(t, x)}),
    "a mean": (Point, lambda t, x: {"z": t.mean(x)}),
}


@pytest.mark.parametrize("kind", ["in a dictionary", "in an object"])
@pytest.mark.parametrize("name", ["prior", "z_prior", "Prior_dist"])
@pytest.mark.parametrize("case", BESIDE_A_PRIOR)
def test_a_prior_by_name_is_never_the_posterior(case: str, name: str, kind: str) -> None:
    part_type, form = BESIDE_A_PRIOR[case]
    prior = (lambda t, x: (x[:, 0, 0, :3], x[:, 0, 1, :3])) if case == "a pair" else _unit
    toy, model = wrapped(lambda t, x: BESIDE[kind]({name: prior(t, x), **form(t, x)}))
    (part,) = model.encode(x_of(3)).parts
    assert type(part) is part_type
    torch.testing.assert_close(part.mode(), toy.mean(x_of(3)))


def test_a_prior_alone_is_no_posterior() -> None:
    with pytest.raises(GenrobustError, match=r"keys \['h', 'prior'\]; known are"):
        wrapped(lambda t, x: {"prior": _unit(t, x), "h": t.mean(x)})


@pytest.mark.parametrize("mark", ["p", "dist"])
def test_a_steady_code_beside_a_distribution_of_another_mean_is_refused(mark: str) -> None:
    toy = Toy()
    vars(toy).update(
        encode=lambda x: {"z": toy.mean(x), mark: D.Normal(toy.mean(x) + 1, 1.0)},
        decode=toy.image,
    )
    words = f"'z' is neither the mean of '{mark}' nor drawn from it; pass "
    with pytest.raises(GenrobustError, match=words) as raised:
        genrobust.wrap(toy)
    code, other = str(raised.value).split("; pass ")[1].split(", or ")
    for typed, end, off in ((code, " if that is the code", 0), (other, " if that is", 1)):
        given = eval(f"dict({typed.removesuffix(end)})", {"module": toy})
        mode = genrobust.wrap(toy, **given).encode(x_of(2)).mode()
        torch.testing.assert_close(mode, toy.mean(x_of(2)) + off)


def _sharp(t: Toy, x: Tensor) -> Tensor:
    """A sample of which the spread is far below what the mean moves."""
    return t.mean(x) + 0.1 * torch.randn(len(x), 3)


ANOTHER_CODE: dict[str, Form] = {
    "rounded": lambda t, x: (4 * t.mean(x)).round() / 4,
    "on a sphere": lambda t, x: nn.functional.normalize(t.mean(x)),
    "after a flow": lambda t, x: 2 * torch.tanh(_sharp(t, x)) + 0.3,
}


@pytest.mark.parametrize("kind", ["in a dictionary", "in an object"])
@pytest.mark.parametrize("code", ANOTHER_CODE)
def test_another_code_beside_a_mean_and_a_spread_is_refused(code: str, kind: str) -> None:
    """Without a forward nothing else would tell that its picture is not the mean's."""
    toy, std = Toy(), torch.full((1, 3), 0.1)

    def form(x: Tensor) -> dict[str, Tensor]:
        mean = toy.mean(x)
        return {"z": ANOTHER_CODE[code](toy, x), "mu": mean, "std": std.expand_as(mean)}

    vars(toy).update(encode=lambda x: BESIDE[kind](form(x)), decode=toy.image)
    words = "'z' is neither 'mu' nor drawn from it; pass "
    with pytest.raises(GenrobustError, match=words) as raised:
        genrobust.wrap(toy)
    code_line, pair = str(raised.value).split("; pass ")[1].split(", or ")
    given = eval(f"dict({pair.removesuffix(' if that is')})", {"module": toy})
    (part,) = genrobust.wrap(toy, **given).encode(x_of(2)).parts
    torch.testing.assert_close(part.mean, toy.mean(x_of(2)))
    torch.testing.assert_close(part.logvar, 2 * std.log().expand(2, 3))
    if code == "on a sphere":
        given = eval(f"dict({code_line.removesuffix(' if that is the code')})", {"module": toy})
        mode = genrobust.wrap(toy, **given).encode(x_of(2)).mode()
        torch.testing.assert_close(mode, ANOTHER_CODE[code](toy, x_of(2)))


def test_the_line_for_a_namedtuple_takes_it_by_its_names() -> None:
    toy, kind = Toy(), namedtuple("Coded", "z mu std")
    form = ANOTHER_CODE["on a sphere"]
    vars(toy).update(
        encode=lambda x: kind(form(toy, x), toy.mean(x), torch.full_like(toy.mean(x), 0.1)),
        decode=toy.image,
    )
    with pytest.raises(GenrobustError, match="returned a Coded, in which 'z' is") as raised:
        genrobust.wrap(toy)
    one, other = str(raised.value).split("; pass ")[1].split(", or ")
    for line, end in ((one, " if that is the code"), (other, " if that is")):
        given = eval(f"dict({line.removesuffix(end)})", {"module": toy})
        mode = genrobust.wrap(toy, **given).encode(x_of(2)).mode()
        torch.testing.assert_close(mode, (form if line == one else Toy.mean)(toy, x_of(2)))


@pytest.mark.parametrize("code", ["rounded", "after a flow"])
def test_another_code_in_a_layer_of_a_hierarchy_is_refused(code: str) -> None:
    toy = Toy()

    def layer(x: Tensor, form: Form) -> dict[str, Tensor]:
        mean = toy.mean(x)
        return {"z": form(toy, x), "mu": mean, "std": torch.full_like(mean, 0.1)}

    vars(toy).update(
        encode=lambda x: [layer(x, Toy.mean), layer(x, ANOTHER_CODE[code])],
        decode=lambda codes: toy.image(codes[0] + codes[1]),
    )
    words = r"a list with a dict .* 'z' is neither 'mu' nor drawn from it; pass "
    with pytest.raises(GenrobustError, match=words) as raised:
        genrobust.wrap(toy)
    one, other = str(raised.value).split("; pass ")[1].split(", or ")
    scope = {"module": toy, "genrobust": genrobust}
    given = eval(f"dict({other.removesuffix(' if that is')})", scope)
    first, second = genrobust.wrap(toy, **given).encode(x_of(2)).parts
    torch.testing.assert_close(first.mode(), second.mode())
    if code == "rounded":  # the code is as it is, and has no gradient
        given = eval(f"dict({one.removesuffix(' if that is the code')})", scope)
        model = genrobust.wrap(toy, **given)
        _, second = model.encode(x_of(2)).parts
        torch.testing.assert_close(second.mode(), ANOTHER_CODE[code](toy, x_of(2)))


@pytest.mark.parametrize(
    "code",
    [_sharp, Toy.mean, lambda t, x: t.mean(x) + 0.07 * torch.randn(len(x), 3), lambda t, x: x],
    ids=["a sample", "the mean", "a sample at a low temperature", "features"],
)
def test_a_code_of_a_mean_and_a_spread_is_no_other(code: Form) -> None:
    toy, model = wrapped(
        lambda t, x: {"z": code(t, x), "mu": t.mean(x), "std": torch.full_like(t.mean(x), 0.1)}
    )
    torch.testing.assert_close(model.encode(x_of(2)).mode(), toy.mean(x_of(2)))


def test_two_distributions_are_not_told_apart_and_a_line_takes_one() -> None:
    toy = Toy()
    normal = lambda x: D.Normal(toy.mean(x), toy.std(x))  # noqa: E731
    vars(toy).update(
        encode=lambda x: {"z": toy.mean(x), "q": normal(x), "p": normal(x)}, decode=toy.image
    )
    with pytest.raises(GenrobustError, match=r"more than one posterior \(q and p\)") as raised:
        genrobust.wrap(toy)
    typed = str(raised.value).split("such as encode=")[1]
    (part,) = genrobust.wrap(toy, encode=eval(typed, {"module": toy})).encode(x_of(2)).parts
    assert isinstance(part, Gaussian)


def x_of(count: int) -> Tensor:
    return probe_images((1, 8, 8), count)


# Dictionaries whose keys are attributes


class Lenient(dict[str, Any]):
    __getattr__ = dict.get


class Strict(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


@pytest.mark.parametrize("kind", [Lenient, Strict])
def test_attribute_dictionaries_are_read_by_what_they_hold(kind: type) -> None:
    toy, model = wrapped(
        lambda t, x: kind(mu=t.mean(x), logvar=t.logvar(x)),
        lambda t, z: kind(recon=t.image(z)),
    )
    x = x_of(3)
    (part,) = model.encode(x).parts
    assert torch.equal(part.logvar, toy.logvar(x))
    assert torch.equal(model.reconstruct(x), toy.image(toy.mean(x)))
    vars(toy).update(config=kind(latents=3), input_shape=None)
    with pytest.raises(GenrobustError, match="image shape of Toy is not known"):
        genrobust.wrap(toy)


# What is to be typed names the halves that there are


class Half(nn.Module):
    """A half that does what a function of a toy does."""

    def __init__(self, toy: Toy, does: Callable[[Toy, Tensor], Any]) -> None:
        super().__init__()
        self.toy, self.does = toy, does

    def forward(self, x: Tensor, *labels: Tensor) -> Any:
        return self.does(self.toy, x)


class Halves(nn.Module):
    input_shape = (1, 8, 8)

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


HELD: dict[str, Callable[[nn.Module, nn.Module], tuple[Any, str]]] = {
    "a module of two parts": lambda e, d: (Halves(e, d), "module.encoder"),
    "a pair": lambda e, d: ((e, d), "encoder"),
    "within DataParallel": lambda e, d: (nn.DataParallel(Halves(e, d)), "module.module.encoder"),
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("labels", [None, lambda x: x.mean((1, 2, 3))])
def test_the_line_names_the_halves_that_there_are(held: str, labels: Any) -> None:
    toy = Toy()
    encoder = Half(toy, lambda t, x: (t.mean(x), t.std(x).sum()))
    decoder = Half(toy, Toy.image)
    module, words = HELD[held](encoder, decoder)
    given = {"labels": labels, "input_shape": (1, 8, 8)}
    with pytest.raises(GenrobustError, match="; pass encode=lambda x") as raised:
        genrobust.wrap(module, **given)
    typed = str(raised.value).split("; pass ")[1].split(" if that is the code")[0]
    assert words in typed
    scope = {"module": module, "encoder": encoder}
    model = genrobust.wrap(module, **given, **eval(f"dict({typed})", scope))
    torch.testing.assert_close(model.reconstruct(x_of(2)), toy.image(toy.mean(x_of(2))))


@pytest.mark.parametrize("case", UNTOLD)
def test_what_cannot_be_told_is_one_sentence_with_what_to_type(case: str) -> None:
    form, words = UNTOLD[case]
    with pytest.raises(GenrobustError, match=words) as raised:
        wrapped(form)
    assert "\n" not in str(raised.value)


def test_a_sample_is_none_the_less_where_noise_is_held_still() -> None:
    class Drawn(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("places", torch.randn(10, 3))  # a codebook is looked for

        def encode(self, x: Tensor) -> Any:
            return self.sample(x), self.mean(x), self.std(x)

        decode = Toy.image

        def forward(self, x: Tensor) -> Any:
            code, *rest = self.encode(x)
            return self.decode(code), *rest

    (words,) = warned(Drawn())
    assert "draws its code about o[1] of its output o with o[2] as a standard deviation" in words


DRAWN: dict[str, Form] = {
    "log-variances": lambda t, x: {"qz_m": t.mean(x), "qz_v": t.logvar(x), "z": t.sample(x)},
    "variances": lambda t, x: {"qz_m": t.mean(x), "qz_v": t.std(x) ** 2, "z": t.sample(x)},
    "logarithms": lambda t, x: (t.mean(x), 0.5 * t.logvar(x), t.sample(x)),
    "the other way round": lambda t, x: {"z": t.sample(x), "a": t.logvar(x), "b": t.mean(x)},
    "attributes": lambda t, x: SimpleNamespace(z=t.sample(x), m=t.mean(x), s=t.std(x)),
}


@pytest.mark.parametrize("case", DRAWN)
def test_what_is_drawn_tells_what_lies_beside_it(case: str) -> None:
    form, x = DRAWN[case], x_of(2)
    toy = Toy()
    vars(toy).update(encode=lambda x: form(toy, x), decode=toy.image)
    if case == "log-variances":
        with pytest.warns(GenrobustWarning, match="'qz_m' is read as the mean and 'qz_v' as the"):
            model = genrobust.wrap(toy)
    else:
        with pytest.raises(GenrobustError, match="the encoder draws its code about") as raised:
            genrobust.wrap(toy)
        (line,) = re.findall(r"pass encode=(.*)", str(raised.value))
        model = genrobust.wrap(toy, encode=eval(line, {"module": toy}))
    (part,) = model.encode(x).parts
    torch.testing.assert_close(part.tensors(), (toy.mean(x), toy.logvar(x)))


def test_two_beside_a_code_that_is_not_drawn_are_named_together() -> None:
    toy = Toy()
    beside = {"features": toy.logvar, "other": toy.std}
    vars(toy).update(
        encode=lambda x: {"z": toy.mean(x), **{n: f(x) for n, f in beside.items()}},
        decode=toy.image,
    )
    (words,) = warned(toy)
    assert "'z' is read as a point, and 'features' and 'other' beside it are left out" in words
    assert "(lambda o: (o['features'], o['other']))(module.encode(x))" in words


def test_what_is_to_be_typed_works() -> None:
    toy = Toy()
    vars(toy).update(
        encode=lambda x: (x.flatten(1), toy.mean(x), toy.logvar(x)),
        decode=toy.image,
    )
    with pytest.raises(GenrobustError) as raised:
        genrobust.wrap(toy)
    typed = str(raised.value).split("pass encode=")[1]
    model = genrobust.wrap(toy, encode=eval(typed, {"module": toy}))
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model.encode(x).mode(), toy.mean(x))


def test_one_categorical_as_a_tensor_is_one_variable() -> None:
    toy, model = wrapped(lambda t, x: {"disc": t.mean(x).softmax(1)})
    x = torch.rand(4, 1, 8, 8)
    (part,) = model.encode(x).parts
    assert isinstance(part, Categorical)
    torch.testing.assert_close(part.logits.softmax(1), toy.mean(x).softmax(1))


@pytest.mark.parametrize(
    "decode",
    [
        lambda t, z: (t.image(z), 1 - t.image(z)),
        lambda t, z: [t.image(z), t.image(z).flatten(1), t.image(z) ** 2],
        lambda t, z: type("Out", (dict,), {"sample": t.image(z)})(reconstruction=1 - t.image(z)),
    ],
)
def test_two_images_are_not_told_apart(decode: Callable[[Toy, Tensor], Any]) -> None:
    with pytest.raises(GenrobustError, match="cannot tell which is the image; pass decode="):
        wrapped(Toy.mean, decode)


def test_an_image_in_an_object_is_read_as_before() -> None:
    toy, model = wrapped(Toy.mean, lambda t, z: SimpleNamespace(sample=t.image(z)))
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(model.reconstruct(x), toy.image(toy.mean(x)))


# A code beside what may be its spread


class Held(SimpleNamespace):
    pass


BESIDE: dict[str, Callable[[Any], Any]] = {
    "in a dictionary": dict,
    "in an object": lambda d: Held(**d),
}


@pytest.mark.parametrize("kind", BESIDE)
@pytest.mark.parametrize("spread", ["logvar", "std"])
def test_a_code_beside_a_spread_is_refused_and_read_as_typed(kind: str, spread: str) -> None:
    toy = Toy()
    held = {"logvar": toy.logvar, "std": toy.std}
    vars(toy).update(
        encode=lambda x: BESIDE[kind]({"latent": toy.mean(x), spread: held[spread](x)}),
        decode=toy.image,
    )
    with pytest.raises(GenrobustError, match=f"what 'latent' is beside '{spread}'") as raised:
        genrobust.wrap(toy)
    code, pair = str(raised.value).split("pass ")[1].split(", or ")
    x = probe_images((1, 8, 8), 3)
    typed = eval(f"dict({pair.removesuffix(' if it is a mean')})", {"module": toy})
    (part,) = genrobust.wrap(toy, **typed).encode(x).parts
    assert isinstance(part, Gaussian)
    torch.testing.assert_close(part.logvar, toy.logvar(x))
    typed = eval(f"dict({code.removesuffix(' if it is the code')})", {"module": toy})
    assert torch.equal(genrobust.wrap(toy, **typed).encode(x).mode(), toy.mean(x))


@pytest.mark.parametrize("name", ["ln_var", "log_sigma_sq", "log_sigma_squared"])
def test_more_names_of_a_log_variance_are_known(name: str) -> None:
    toy, model = wrapped(lambda t, x: {"mu": t.mean(x), name: t.logvar(x), "z": t.mean(x)})
    x = probe_images((1, 8, 8), 3)
    (part,) = model.encode(x).parts
    assert torch.equal(part.logvar, toy.logvar(x))


@pytest.mark.parametrize("kind", BESIDE)
def test_a_code_beside_something_of_its_shape_is_a_point_and_said(kind: str) -> None:
    with pytest.warns(GenrobustWarning, match="'z' is read as a point, and 'spread_' beside it"):
        wrapped(lambda t, x: BESIDE[kind]({"z": t.mean(x), "spread_": t.logvar(x)}))


@pytest.mark.parametrize(
    "more",
    [
        lambda t, x: {},
        lambda t, x: {"mean": t.mean(x)},
        lambda t, x: {"features": x.flatten(1), "loss": t.std(x).sum(), "scale": t.std(x).mean(1)},
        lambda t, x: {"indices": (t.mean(x) > 0).long()},
    ],
)
def test_a_code_beside_something_else_is_a_point_without_a_word(more: Form) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        toy, model = wrapped(lambda t, x: {"z": t.mean(x), **more(t, x)})
    x = probe_images((1, 8, 8), 3)
    assert torch.equal(model.encode(x).mode(), toy.mean(x))


@pytest.mark.parametrize(
    "spread",
    [
        lambda t, x: t.logvar(x)[:, :1],
        lambda t, x: torch.linspace(-4, -1, 3)[None],
        lambda t, x: torch.linspace(-4, -1, 3),
    ],
)
def test_a_log_variance_for_several_numbers_is_told_how_to_be_given(spread: Form) -> None:
    toy = Toy()
    vars(toy).update(
        encode=lambda x: (toy.mean(x), spread(toy, x)),
        decode=toy.image,
    )
    with pytest.raises(GenrobustError, match="expand_as") as raised:
        genrobust.wrap(toy)
    typed = str(raised.value).split("pass encode=")[1].split(" if the second")[0]
    x = probe_images((1, 8, 8), 4)
    (part,) = genrobust.wrap(toy, encode=eval(typed, {"module": toy})).encode(x).parts
    torch.testing.assert_close(part.logvar, spread(toy, x).expand(4, 3))


# What a decoder gives that is no picture


@pytest.mark.parametrize(
    ("gives", "typed"),
    [
        (lambda p: D.Categorical(logits=p[..., None] * torch.linspace(-1, 1, 5)), "d.probs * "),
        (lambda p: D.Cauchy(p, 1.0), "d.mode"),
        (lambda p: D.Independent(D.RelaxedBernoulli(torch.tensor(0.5), p), 3), "d.base_dist.probs"),
        (
            lambda p: D.TransformedDistribution(D.Normal(p, 1.0), [D.SigmoidTransform()]),
            r"d.transforms\[0\]",
        ),
    ],
)
def test_a_distribution_without_a_mean_is_told_how_to_be_shown(
    gives: Callable[[Tensor], D.Distribution], typed: str
) -> None:
    with pytest.raises(GenrobustError, match=f"distribution .*no mean; pass decode=.*{typed}") as e:
        wrapped(Toy.mean, lambda t, z: gives(t.image(z)))
    way = str(e.value).split("ends in ")[1].split(", where")[0]
    _, model = wrapped(Toy.mean, lambda t, z: eval(way, {"d": gives(t.image(z)), "torch": torch}))
    assert model.reconstruct(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)


class Indexed(Toy):
    """Its encoder gives which entry of a codebook each of three numbers has."""

    def __init__(self) -> None:
        super().__init__()
        self.book = nn.Embedding(6, 1)

    def encode(self, x: Tensor) -> Tensor:
        return (self.mean(x)[..., None] - self.book.weight[:, 0]).abs().argmin(-1)

    def decode(self, index: Tensor) -> Tensor:
        return self.image(self.book(index)[..., 0])


class Spectrum(Toy):
    def encode(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x)

    def decode(self, z: Tensor) -> Tensor:
        return torch.fft.irfft2(z * z.abs()).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def test_a_code_of_complex_numbers_is_told_how_to_be_given_with_both_parts() -> None:
    module = Spectrum()
    with pytest.raises(
        GenrobustError, match=r"return, for instance, torch\.view_as_real"
    ) as raised:
        genrobust.wrap(module)
    decode = eval(
        str(raised.value).split("decode=")[1].split(", or")[0], {"module": module, "torch": torch}
    )
    model = genrobust.wrap(
        module, encode=lambda x: torch.view_as_real(module.encode(x)), decode=decode
    )
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(model.reconstruct(x), module(x))


def test_whole_numbers_are_told_two_ways_that_work() -> None:
    module = Indexed()
    with pytest.raises(GenrobustError, match=r"genrobust\.Codebook\(features, table\)") as raised:
        genrobust.wrap(module)
    typed = str(raised.value).split("without a gradient, ")[1].replace(" and ", ", ")
    x = torch.rand(4, 1, 8, 8)
    wanted = module.decode(module.encode(x))
    assert torch.equal(
        genrobust.wrap(module, **eval(f"dict({typed})", {"module": module})).reconstruct(x), wanted
    )
    model = genrobust.wrap(
        module,
        encode=lambda x: genrobust.Codebook(module.mean(x)[..., None], module.book.weight),
        decode=lambda entries: module.image(entries[..., 0]),
    )
    torch.testing.assert_close(model.reconstruct(x), wanted)


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_a_half_that_takes_no_labels_is_told_what_to_type(half: str) -> None:
    toy = Toy()
    taking: dict[str, Any] = {
        "encode": lambda x, y: toy.mean(x) + y[:, None],
        "decode": lambda z, y: toy.image(z - y[:, None]),
    }
    plain = {"encode": toy.mean, "decode": toy.image}
    for name in taking:
        setattr(toy, name, plain[name] if name == half else taking[name])
    labels = lambda x: x.mean((1, 2, 3))  # noqa: E731
    with pytest.raises(GenrobustError, match=f"takes no labels.* pass {half}=lambda ") as raised:
        genrobust.wrap(toy, labels=labels)
    typed = str(raised.value).split("gives it; pass ")[1]
    genrobust.wrap(toy, labels=labels, **eval(f"dict({typed})", {"module": toy}))


@pytest.mark.parametrize("needed", [True, False])
def test_a_label_that_is_taken_by_name_alone_is_told_how_to_give_it(needed: bool) -> None:
    """Told to leave it away, one that can do without would be measured without it."""
    toy = Toy()

    def optional(x: Tensor, *, y: Tensor | None = None) -> Tensor:
        return toy.mean(x) + (0 if y is None else y[:, None])

    def required(x: Tensor, *, steps: int = 1, y: Tensor) -> Tensor:
        return optional(x, y=y)

    vars(toy).update(encode=required if needed else optional)
    vars(toy).update(decode=lambda z, *, y=None: toy.image(z if y is None else z - y[:, None]))
    if needed:
        with pytest.raises(GenrobustError, match=r"takes more than a batch; .* pass labels="):
            genrobust.wrap(toy)
    given: dict[str, Any] = {"labels": lambda x: x.mean((1, 2, 3))}
    for half in ("encode", "decode"):
        with pytest.raises(GenrobustError, match="it takes 'y' by its name alone; pass ") as raised:
            genrobust.wrap(toy, **given)
        typed = str(raised.value).split("; pass ")[1].split(" if that is its label")[0]
        given |= eval(f"dict({typed})", {"module": toy})
        assert half in given
    model = genrobust.wrap(toy, **given)
    torch.testing.assert_close(model.reconstruct(x_of(2)), toy.image(toy.mean(x_of(2))))
    shown = model.encode(x_of(2)).mode()[:, :3] - toy.mean(x_of(2))
    torch.testing.assert_close(shown, x_of(2).mean((1, 2, 3))[:, None].expand(2, 3))


def test_lazy_layers_without_numbers_are_one_sentence() -> None:
    toy = Toy()
    toy.to_mean = nn.LazyLinear(3)
    for call in (genrobust.wrap, lambda m: genrobust.bench(m, limit=2)):
        with pytest.raises(GenrobustError, match=r"'to_mean\.weight' of Toy has no numbers yet"):
            call(toy)
    toy.mean(torch.zeros(1, 1, 8, 8))
    genrobust.wrap(toy, encode=toy.mean, decode=toy.image)


def _refined(t: Toy, x: Tensor) -> list[Tensor]:
    return [(1 + step) * t.mean(x) for step in range(3)]


@pytest.mark.parametrize(
    ("encode", "line"),
    [
        (_refined, "your_encode(x)[2] if that alone is the code"),
        (lambda t, x: torch.stack(_refined(t, x)), "your_encode(x)[-1] for the last"),
    ],
)
def test_the_steps_of_a_code_are_told_how_to_give_the_last(encode: Form, line: str) -> None:
    with pytest.raises(GenrobustError) as told:
        wrapped(encode)
    assert line in str(told.value)
    _, model = wrapped(lambda t, x: encode(t, x)[-1])
    assert model.encode(x_of(2)).describe().endswith("point")


def test_codes_stacked_before_the_batch_are_told_how_to_go_to_decode() -> None:
    def stacked(t: Toy, x: Tensor) -> Tensor:
        return torch.stack(_refined(t, x))

    def joined(t: Toy, z: Tensor) -> Tensor:
        return t.image(z.mean(0))

    with pytest.raises(GenrobustError) as told:
        wrapped(stacked, joined)
    assert "your_encode(x).transpose(0, 1) for all, with decode=lambda z: your_decode(z" in str(
        told.value
    )
    toy, model = wrapped(
        lambda t, x: stacked(t, x).transpose(0, 1), lambda t, z: joined(t, z.transpose(0, 1))
    )
    x = x_of(2)
    torch.testing.assert_close(model.reconstruct(x), joined(toy, stacked(toy, x)))


@pytest.mark.parametrize(("place", "line"), [(0, r"\[-1\]"), (1, r"\[:, -1\]")])
def test_the_steps_of_a_picture_are_told_how_to_give_the_last(place: int, line: str) -> None:
    def steps(t: Toy, z: Tensor) -> Tensor:
        return torch.stack([t.image(z), t.image(2 * z), t.image(3 * z)], place)

    with pytest.raises(GenrobustError, match=rf"your_decode\(z\){line} for the last of them"):
        wrapped(Toy.mean, steps)


def test_names_that_are_nearly_known_are_told_as_what_they_end_in() -> None:
    toy, x = Toy(), x_of(2)
    vars(toy).update(
        encode=lambda x: {"q_mu": toy.mean(x), "q_log_sigma": 0.5 * toy.logvar(x)},
        decode=toy.image,
    )
    (words,) = warned(toy)
    line = words.split("pass encode=")[1].split(" if they are such")[0]
    (part,) = genrobust.wrap(toy, encode=eval(line, {"module": toy})).encode(x).parts
    torch.testing.assert_close(part.tensors(), (toy.mean(x), toy.logvar(x)))


@pytest.mark.parametrize(("ours", "theirs"), [(1, 3), (3, 1)])
def test_a_decoder_in_colour_or_grey_alone_is_told_how_it_is_turned(ours: int, theirs: int) -> None:
    toy = Toy()
    vars(toy).update(
        encode=lambda x: toy.mean(x[:, :1]),
        decode=lambda z: toy.image(z).expand(-1, theirs, -1, -1),
    )
    (words,) = warned(toy, input_shape=(ours, 8, 8))
    line = words.split("such as ")[1]
    model = genrobust.wrap(toy, input_shape=(ours, 8, 8), decode=eval(line, {"module": toy}))
    x = torch.rand(2, ours, 8, 8)
    image = toy.image(toy.mean(x[:, :1])).expand(-1, ours, -1, -1)
    torch.testing.assert_close(model.reconstruct(x), image)
