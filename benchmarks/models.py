"""Models as people write them: how each is read, and what it takes.

    python benchmarks/models.py

Writes ``benchmarks/models.json`` and ``docs/models.md``. Each model has random weights, and says
itself what it gives (its *truth*): the picture of its deployed path, and its log-variance. A model
is *misread* if either differs from what genrobust reads, and *silently* so without a warning; a
warning about one that is read right is a *false alarm*. The lines that a model takes are typed and
compared too. Models of pythae, diffusers, monai and compressai are taken where they are installed.
"""

from __future__ import annotations

import json
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial, reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.distributions as D
import torch.nn.functional as F
from torch import Tensor, nn

import genrobust
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models import GenerativeModel
from genrobust.models.check import probe_images
from genrobust.posterior import Gaussian

HERE = Path(__file__).parent
SHAPE, LATENTS = (1, 16, 16), 24
Truth = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    """16x16 images and 24 latents; ``body`` is what sees the image."""

    input_shape = SHAPE

    def __init__(self, body: str = "mlp") -> None:
        super().__init__()
        self.body = BODIES[body]()
        self.to_mean, self.to_logvar = nn.Linear(32, LATENTS), nn.Linear(32, LATENTS)
        self.from_code = nn.Sequential(nn.Linear(LATENTS, 64), nn.ReLU(), nn.Linear(64, 256))
        self.register_buffer("codes", torch.randn(16, LATENTS))

    def mean(self, x: Tensor) -> Tensor:
        return 3 * self.to_mean(self.body(x))

    def logvar(self, x: Tensor) -> Tensor:
        return self.to_logvar(self.body(x)) - 2

    def std(self, x: Tensor) -> Tensor:
        return (0.5 * self.logvar(x)).exp()

    def sample(self, x: Tensor) -> Tensor:
        std = self.std(x)
        return self.mean(x) + std * torch.randn_like(std)

    def none(self, x: Tensor) -> Tensor:
        """The log-variance of a code that has none: whatever is read as it is far from it."""
        return torch.full_like(self.mean(x), torch.inf)

    def bits(self, x: Tensor) -> Tensor:
        soft = self.mean(x).sigmoid()
        return soft + ((soft > 0.5).float() - soft).detach()

    def refined(self, x: Tensor) -> Tensor:
        z = self.mean(x)
        return z + 0.3 * self.to_mean(self.body(self.image(z)))

    def quantised(self, z: Tensor) -> Tensor:
        return self.codes[torch.cdist(z, self.codes).argmin(1)]

    def image(self, z: Tensor) -> Tensor:
        return self.from_code(z).sigmoid().view(-1, *SHAPE)

    def centred(self, z: Tensor) -> Tensor:
        return self.from_code(z).tanh().view(-1, *SHAPE)


class Patches(nn.Module):
    """A transformer over 4x4 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(16, 32), nn.Linear(32, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, 4, stride=4).transpose(1, 2)
        return self.out(self.layer(self.embed(patches))[:, 0])


BODIES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 32), nn.Tanh()),
    "conv": lambda: nn.Sequential(
        *(nn.Conv2d(1, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Conv2d(8, 2, 4, 2, 1), nn.Flatten()),
    ),
    "transformer": Patches,
}


@dataclass(frozen=True)
class Case:
    """A model, how it is wrapped, and what it really gives.

    Args:
        wrap: arguments that have nothing to do with how it is written, such as its image shape.
        mend: what to type where it is not read as it is: Python, with ``module`` at hand.
        truth: the module and own images to the own picture; default decode of the mean.
        logvar: likewise to the true log-variance; None if it has none.
    """

    name: str
    build: Callable[[], nn.Module]
    truth: Truth
    logvar: Truth | None = None
    wrap: dict[str, Any] = field(default_factory=dict)
    mend: str = ""


@dataclass(frozen=True)
class Row:
    """What came of a case."""

    name: str
    read: str
    difference: float | None
    lines: str
    mended: float | None
    said: str

    @property
    def silent(self) -> bool:
        return self.read == "MISREAD"

    @property
    def false_alarm(self) -> bool:
        return self.read == "false alarm"


Members = dict[str, Callable[..., Any]]
Pair = namedtuple("Pair", "mu logvar")
Scaled = namedtuple("Scaled", "features loc log_scale")


def plain(encode: Callable[..., Any], **more: Callable[..., Any]) -> Members:
    """A model with decode and a forward that draws in it."""
    return {
        "encode": encode,
        "decode": Net.image,
        "forward": lambda s, x: (s.image(s.sample(x)), s.mean(x), s.logvar(x)),
        **more,
    }


#: Forms that are read as they are.
FORMS: dict[str, Members] = {
    "(mu, logvar)": plain(lambda s, x: (s.mean(x), s.logvar(x))),
    "[mu, logvar]": plain(lambda s, x: [s.mean(x), s.logvar(x)]),
    "chunk(2)": plain(lambda s, x: torch.cat([s.mean(x), s.logvar(x)], 1).chunk(2, 1)),
    "(z, mu, logvar)": plain(lambda s, x: (s.sample(x), s.mean(x), s.logvar(x))),
    "(mu, logvar, z)": plain(lambda s, x: (s.mean(x), s.logvar(x), s.sample(x))),
    "dict mu, logvar": plain(lambda s, x: {"mu": s.mean(x), "logvar": s.logvar(x)}),
    "dict mean, log_var, z": plain(
        lambda s, x: {"z": s.sample(x), "mean": s.mean(x), "log_var": s.logvar(x)}
    ),
    "dict mu, std": plain(lambda s, x: {"mu": s.mean(x), "std": s.std(x)}),
    "dict loc, scale": plain(lambda s, x: {"loc": s.mean(x), "scale": s.std(x)}),
    "dict mu, log_std": plain(lambda s, x: {"mu": s.mean(x), "log_std": s.std(x).log()}),
    "dict mean, variance": plain(lambda s, x: {"mean": s.mean(x), "variance": s.std(x) ** 2}),
    "object mu, log_variance": plain(
        lambda s, x: SimpleNamespace(mu=s.mean(x), log_variance=s.logvar(x))
    ),
    "namedtuple mu, logvar": plain(lambda s, x: Pair(s.mean(x), s.logvar(x))),
    "Normal": plain(lambda s, x: D.Normal(s.mean(x), s.std(x))),
    "Independent Normal": plain(lambda s, x: D.Independent(D.Normal(s.mean(x), s.std(x)), 1)),
    "MultivariateNormal": plain(
        lambda s, x: D.MultivariateNormal(s.mean(x), torch.diag_embed(s.std(x) ** 2))
    ),
    "namedtuple features, loc, log_scale": plain(
        lambda s, x: Scaled(s.body(x), s.mean(x), s.logvar(x) / 2)
    ),
    "a dictionary in a dictionary": plain(
        lambda s, x: {"posterior": {"mu": s.mean(x), "logvar": s.logvar(x)}, "features": s.body(x)}
    ),
    "a pair in a dictionary": plain(
        lambda s, x: {"stats": (s.mean(x), s.logvar(x)), "features": s.body(x)}
    ),
    "the mean of five draws in forward": plain(
        lambda s, x: (s.mean(x), s.logvar(x)),
        forward=lambda s, x: torch.stack([s.image(s.sample(x)) for _ in range(5)]).mean(0),
    ),
    "latent_dist": plain(lambda s, x: SimpleNamespace(latent_dist=D.Normal(s.mean(x), s.std(x)))),
    "forward gives a dictionary": plain(
        lambda s, x: (s.mean(x), s.logvar(x)),
        forward=lambda s, x: {"loss": x.sum(), "recon": s.image(s.sample(x)), "input": x},
    ),
    "forward gives logits": plain(
        lambda s, x: (s.mean(x), s.logvar(x)),
        forward=lambda s, x: (s.from_code(s.sample(x)), s.mean(x)),
    ),
    "forward gives rows": plain(
        lambda s, x: (s.mean(x), s.logvar(x)),
        forward=lambda s, x: s.image(s.sample(x)).flatten(1),
        decode=lambda s, z: s.image(z).flatten(1),
    ),
    "forward gives a distribution": plain(
        lambda s, x: (s.mean(x), s.logvar(x)),
        forward=lambda s, x: D.Bernoulli(s.image(D.Normal(s.mean(x), s.std(x)).rsample())),
        decode=lambda s, z: D.Bernoulli(s.image(z)),
    ),
    "forward decodes the mean": plain(
        lambda s, x: (s.mean(x), s.logvar(x)), forward=lambda s, x: s.image(s.mean(x))
    ),
    "forward adds noise to its input": plain(
        lambda s, x: (s.mean(x), s.logvar(x)),
        forward=lambda s, x: s.image(s.sample(x + 0.1 * torch.randn_like(x))),
    ),
    "no forward": plain(lambda s, x: (s.mean(x), s.logvar(x)), forward=nn.Module.forward),
}
#: Points, without a log-variance.
POINTS: dict[str, Members] = {
    "tensor": plain(Net.mean, forward=lambda s, x: s.image(s.mean(x))),
    "[tensor]": plain(lambda s, x: [s.mean(x)], forward=lambda s, x: s.image(s.mean(x))),
    "latents": plain(lambda s, x: SimpleNamespace(latents=s.mean(x))),
    "latent": plain(lambda s, x: SimpleNamespace(latent=s.mean(x))),
    "dict z": plain(lambda s, x: {"z": s.mean(x), "features": x}),
    "denoising": plain(Net.mean, forward=lambda s, x: s.image(s.mean(x + torch.randn_like(x)))),
    "TransformedDistribution": plain(
        lambda s, x: D.TransformedDistribution(
            D.Normal(s.mean(x), s.std(x)), [D.transforms.AffineTransform(0.0, 1.0)]
        )
    ),
    "Laplace": plain(
        lambda s, x: D.Laplace(s.mean(x), s.std(x)),
        forward=lambda s, x: s.image(D.Laplace(s.mean(x), s.std(x)).rsample()),
    ),
    "module(x) alone": {"forward": lambda s, x: s.image(s.mean(x))},
    "module(x) alone, a dictionary": {
        "forward": lambda s, x: {"x_hat": s.image(s.mean(x)), "bits": s.std(x).log()}
    },
}


#: Two layers, of which ``decode`` takes the list of codes.
LAYERS: dict[str, Members] = {
    name: plain(
        encode,
        decode=lambda s, z: s.image(z[0] + F.pad(z[1], (0, LATENTS - 4))),
        forward=lambda s, x: s.decode([s.sample(x), s.sample(x)[:, :4]]),
    )
    for name, encode in {
        "[Normal, Normal]": lambda s, x: [
            D.Normal(s.mean(x), s.std(x)),
            D.Normal(s.mean(x)[:, :4], s.std(x)[:, :4]),
        ],
        "[(mu, logvar), (mu, logvar)]": lambda s, x: [
            (s.mean(x), s.logvar(x)),
            (s.mean(x)[:, :4], s.logvar(x)[:, :4]),
        ],
    }.items()
}


#: Forms that no shape tells from others: (members, what to type, the picture, the log-variance).
MISREAD: dict[str, tuple[Members, str, Truth, Truth | None]] = {
    "(mu, std)": (
        plain(lambda s, x: (s.mean(x), s.std(x))),
        "encode=lambda x: (lambda m, s: (m, 2 * s.log()))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(mu, var)": (
        plain(lambda s, x: (s.mean(x), s.std(x) ** 2)),
        "encode=lambda x: (lambda m, s: (m, s.log()))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(mu, log_std)": (
        plain(lambda s, x: (s.mean(x), s.logvar(x) / 2)),
        "encode=lambda x: (lambda m, s: (m, 2 * s))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(mu, raw), softplus in forward": (
        plain(
            lambda s, x: (s.mean(x), s.logvar(x)),
            forward=lambda s, x: s.image(
                s.mean(x) + F.softplus(s.logvar(x)) * torch.randn_like(s.mean(x))
            ),
        ),
        "encode=lambda x: (lambda m, s: (m, 2 * F.softplus(s).log()))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        lambda s, x: 2 * F.softplus(s.logvar(x)).log(),
    ),
    "(mu, std), forward decodes the mean": (
        plain(lambda s, x: (s.mean(x), s.std(x)), forward=lambda s, x: s.image(s.mean(x))),
        "encode=lambda x: (lambda m, s: (m, 2 * s.log()))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(mu, std), no forward": (
        plain(lambda s, x: (s.mean(x), s.std(x)), forward=nn.Module.forward),
        "encode=lambda x: (lambda m, s: (m, 2 * s.log()))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(mu, log-precision)": (
        plain(lambda s, x: (s.mean(x), -s.logvar(x))),
        "encode=lambda x: (lambda m, p: (m, -p))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "side by side, decode takes half": (
        plain(
            lambda s, x: torch.cat([s.mean(x), s.logvar(x)], 1),
            decode=lambda s, z: s.image(z[:, :LATENTS]),
        ),
        "encode=lambda x: module.encode(x).chunk(2, 1)",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "heads of the code in forward": (
        plain(lambda s, x: s.body(x)),
        "encode=lambda x: (lambda o: (o[1], o[2]))(module(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(logvar, mu)": (
        plain(lambda s, x: (s.logvar(x), s.mean(x))),
        "encode=lambda x: module.encode(x)[::-1]",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(std, mu)": (
        plain(lambda s, x: (s.std(x), s.mean(x))),
        "encode=lambda x: (lambda s, m: (m, 2 * s.log()))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        Net.logvar,
    ),
    "(z, skip)": (
        plain(
            lambda s, x: (s.mean(x), s.logvar(x)),
            forward=lambda s, x: s.image(s.mean(x) + s.logvar(x)),
        ),
        "encode=lambda x: sum(module.encode(x))",
        lambda s, x: s.image(s.mean(x) + s.logvar(x)),
        None,
    ),
    "(bits, logits)": (
        plain(lambda s, x: (s.bits(x), s.mean(x)), forward=lambda s, x: s.image(s.bits(x))),
        "encode=lambda x: module.encode(x)[0]",
        lambda s, x: s.image(s.bits(x)),
        Net.none,
    ),
    "(sparse code, pre-activations)": (
        plain(
            lambda s, x: (s.mean(x).relu(), s.mean(x)),
            forward=lambda s, x: s.image(s.mean(x).relu()),
        ),
        "encode=lambda x: module.encode(x)[0]",
        lambda s, x: s.image(s.mean(x).relu()),
        Net.none,
    ),
    "(refined code, first code)": (
        plain(lambda s, x: (s.refined(x), s.mean(x)), forward=lambda s, x: s.image(s.refined(x))),
        "encode=lambda x: module.encode(x)[0]",
        lambda s, x: s.image(s.refined(x)),
        Net.none,
    ),
    "(alpha, beta)": (
        plain(
            lambda s, x: (s.mean(x).exp(), s.std(x)),
            forward=lambda s, x: s.image(D.Beta(s.mean(x).exp(), s.std(x)).rsample()),
        ),
        "encode=lambda x: (lambda a, b: a / (a + b))(*module.encode(x))",
        lambda s, x: s.image(D.Beta(s.mean(x).exp(), s.std(x)).mean),
        None,
    ),
    "quant_conv outside the encoder": (
        {
            "encoder": lambda s, x: s.mean(x),
            "decoder": Net.image,
            "forward": lambda s, x: s.image(s.mean(x) @ s.codes[:1].T * s.codes[:1]),
        },
        "deploy=lambda x: module(x)",
        lambda s, x: s.image(s.mean(x) @ s.codes[:1].T * s.codes[:1]),
        None,
    ),
    "the code on a sphere in forward": (
        plain(Net.mean, forward=lambda s, x: s.image(F.normalize(s.mean(x)))),
        "encode=lambda x: F.normalize(module.encode(x))",
        lambda s, x: s.image(F.normalize(s.mean(x))),
        None,
    ),
    "a flow in forward": (
        plain(
            lambda s, x: (s.mean(x), s.logvar(x)),
            forward=lambda s, x: s.image(torch.tanh(s.sample(x)) * 2),
        ),
        "decode=lambda z: module.decode(2 * torch.tanh(z))",
        lambda s, x: s.image(2 * torch.tanh(s.mean(x))),
        Net.logvar,
    ),
    "inputs normalised in forward": (
        plain(
            lambda s, x: (s.mean(x), s.logvar(x)),
            forward=lambda s, x: s.image(s.sample((x - 0.13) / 0.31)),
        ),
        "encode=lambda x: module.encode((x - 0.13) / 0.31)",
        lambda s, x: s.image(s.mean((x - 0.13) / 0.31)),
        lambda s, x: s.logvar((x - 0.13) / 0.31),
    ),
    "outputs clipped in forward": (
        plain(
            lambda s, x: (s.mean(x), s.logvar(x)),
            forward=lambda s, x: s.image(s.sample(x)).clamp(0.48, 0.52),
        ),
        "decode=lambda z: module.decode(z).clamp(0.48, 0.52)",
        lambda s, x: s.image(s.mean(x)).clamp(0.48, 0.52),
        Net.logvar,
    ),
    "temperature in forward": (
        plain(
            lambda s, x: (s.mean(x), s.logvar(x)),
            forward=lambda s, x: s.image(s.mean(x) + 0.3 * s.std(x) * torch.randn_like(s.mean(x))),
        ),
        "encode=lambda x: (lambda m, v: (m, v + 2 * math.log(0.3)))(*module.encode(x))",
        lambda s, x: s.image(s.mean(x)),
        lambda s, x: s.logvar(x) - 2.407945608651872,
    ),
}


def _built(members: Members, body: str) -> nn.Module:
    return type("VAE", (Net,), members)(body)


class Quantiser(nn.Module):
    """The nearest of 16 codes of 4 numbers, as people write it.

    Args:
        last: it takes and gives channels last.
        turned: its table is (numbers, codes).
        levels: of a residual quantiser.
        straight: the gradient goes past it; else none does.
        cosine: by the angle instead.
        unit: its entries have length 1.
    """

    def __init__(
        self,
        last: bool = False,
        turned: bool = False,
        levels: int = 1,
        straight: bool = True,
        cosine: bool = False,
        unit: bool = False,
    ) -> None:
        super().__init__()
        self.last, self.turned, self.straight, self.cosine = last, turned, straight, cosine
        shape = (4, 16) if turned else (16, 4)
        self.layers = nn.ModuleList(nn.Module() for _ in range(levels))
        for layer in self.layers:
            embed = torch.randn(shape)
            layer.register_buffer("embed", F.normalize(embed) if unit else embed)
            layer.register_buffer("embed_avg", torch.randn(shape))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = z if self.last else z.movedim(1, -1)
        rest, found = rows, torch.zeros_like(rows)
        for layer in self.layers:
            book = layer.embed.T if self.turned else layer.embed
            flat = rest.flatten(0, -2)
            near = (
                F.normalize(flat) @ F.normalize(book).T if self.cosine else -torch.cdist(flat, book)
            )
            entry = book[near.argmax(1)].view_as(rest)
            rest, found = rest - entry, found + entry
        found = rows + (found - rows).detach() if self.straight else found.detach()
        code = found if self.last else found.movedim(-1, 1)
        return code, near.argmax(1), rest.square().mean()


class Tokens(nn.Module):
    """4x4 tokens of 16x16 images; ``early`` quantises in encode."""

    input_shape = SHAPE

    def __init__(self, early: bool = False, **style: Any) -> None:
        super().__init__()
        self.early, self.last = early, style.get("last", False)
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.Tanh(), nn.Conv2d(8, 4, 1))
        self.decoder = nn.Sequential(nn.Conv2d(4, 16, 1), nn.Tanh(), nn.PixelShuffle(4))
        self.quantize = Quantiser(**style)

    def quantised(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        code, *rest = self.quantize(z.movedim(1, -1) if self.last else z)
        return code.movedim(-1, 1) if self.last else code, *rest

    def encode(self, x: Tensor) -> Any:
        z = 5 * self.encoder(x)
        return self.quantised(z) if self.early else z

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z).sigmoid()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code, _, loss = self.encode(x) if self.early else self.quantised(self.encode(x))
        return self.decode(code), loss


class Levels(nn.Module):
    """Two levels of tokens, the lower given the upper; ``decode`` takes both."""

    input_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Conv2d(1, 4, 4, 4), nn.Conv2d(4, 4, 2, 2)
        self.upper, self.lower = Quantiser(), Quantiser()
        self.join, self.up = nn.Conv2d(8, 4, 1), nn.Upsample(scale_factor=2)
        self.out = nn.Sequential(nn.Conv2d(8, 16, 1), nn.Tanh(), nn.PixelShuffle(4))

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        low = 5 * self.low(x)
        upper, first, loss = self.upper(self.high(low))
        lower, second, more = self.lower(self.join(torch.cat([self.up(upper), low], 1)))
        return upper, lower, loss + more, first, second

    def decode(self, upper: Tensor, lower: Tensor) -> Tensor:
        return self.out(torch.cat([self.up(upper), lower], 1)).sigmoid()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        upper, lower, loss, *_ = self.encode(x)
        return self.decode(upper, lower), loss


#: Codes from a list, which are read as such.
TOKENS: dict[str, Callable[[], nn.Module]] = {
    "VQ, a module in forward": Tokens,
    "VQ, (z_q, indices, loss)": partial(Tokens, early=True),
    "VQ, channels last": partial(Tokens, early=True, last=True),
    "VQ, a table of columns": partial(Tokens, turned=True),
    "VQ, residual": partial(Tokens, levels=3),
    "VQ, residual in encode": partial(Tokens, early=True, levels=2),
    "VQ without straight-through": partial(Tokens, straight=False),
    "VQ without straight-through in encode": partial(Tokens, early=True, straight=False),
    "VQ by the angle, entries of length 1": partial(Tokens, cosine=True, unit=True),
    "VQ by the angle in encode": partial(Tokens, cosine=True, unit=True, early=True),
    "VQ in forward": lambda: _built(
        plain(Net.mean, forward=lambda s, x: (s.image(s.quantised(s.mean(x))), x.mean())), "mlp"
    ),
    "(z_e, z_q)": lambda: _built(
        plain(
            lambda s, x: (s.mean(x), s.quantised(s.mean(x))),
            forward=lambda s, x: (s.image(s.quantised(s.mean(x))), x.mean()),
        ),
        "mlp",
    ),
}


def own_cases() -> Iterator[Case]:
    """The styles, with each body where they are honest."""

    def mean(s: Any, x: Tensor) -> Tensor:
        return s.image(s.mean(x))

    for body in BODIES:
        for forms, logvar in ((FORMS, Net.logvar), (POINTS, None)):
            for name, members in forms.items():
                yield Case(f"{name} ({body})", partial(_built, members, body), mean, logvar)
    for name, members in LAYERS.items():
        layers = lambda s, x: s.decode([s.mean(x), s.mean(x)[:, :4]])  # noqa: E731
        yield Case(name, partial(_built, members, "mlp"), layers, Net.logvar)
    for name, (members, mend, truth, logvar) in MISREAD.items():
        yield Case(name, partial(_built, members, "mlp"), truth, logvar, mend=mend)
    for name, build in TOKENS.items():
        yield Case(name, build, lambda m, x: m(x)[0])
    mend = "deploy=lambda x: module(x)[0]"
    yield Case("VQ by the angle", partial(Tokens, cosine=True), lambda m, x: m(x)[0], mend=mend)
    mend = (
        "encode=lambda x: [genrobust.Point(module.encode(x)[i]) for i in [0, 1]], "
        "decode=lambda codes: module.decode(*codes)"
    )
    yield Case("VQ of two levels", Levels, lambda m, x: m(x)[0], mend=mend)
    members = FORMS["(mu, logvar)"]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        name = str(dtype).removeprefix("torch.")
        yield Case(f"weights in {name}", lambda d=dtype: _built(members, "mlp").to(d), mean)
    held: dict[str, Callable[[nn.Module], nn.Module]] = {
        "DataParallel": nn.DataParallel,
        "torch.compile": partial(torch.compile, backend="eager"),
    }
    for name, hold in held.items():

        def inner(s: Any, x: Tensor) -> Tensor:
            return mean(getattr(s, "module", getattr(s, "_orig_mod", s)), x)

        yield Case(name, lambda h=hold: h(_built(members, "mlp")), inner)
    yield Case("(encoder, decoder)", _pair, lambda m, x: m[1](m[0](x)), wrap={"input_shape": SHAPE})
    yield Case("rows of 784", Rows, lambda m, x: m.decode(m.encode(x.flatten(1))[0]).view(x.shape))
    yield Case("TorchScript", _scripted, lambda m, x: m.decode(m.encode(x)[0]))
    centred = {**members, "decode": Net.centred, "forward": lambda s, x: s.centred(s.sample(x))}
    yield Case(
        "pixels from -1 to 1",
        partial(_built, centred, "mlp"),
        lambda s, x: s.centred(s.mean(x)),
        Net.logvar,
        wrap={"value_range": (-1, 1)},
    )
    converted = {"encode": "lambda x: module.encode(2 * x - 1)"}
    converted["decode"] = "lambda z: (module.decode(z) + 1) / 2"
    yield Case(
        "pixels from -1 to 1, converted by hand",
        partial(_built, centred, "mlp"),
        lambda s, x: (s.centred(s.mean(2 * x - 1)) + 1) / 2,
        wrap=converted,
    )
    conditional: Members = {
        "encode": lambda s, x, y: (s.mean(x) + s.codes[y], s.logvar(x)),
        "decode": lambda s, z, y: s.image(z - s.codes[(y + 1) % 10]),
    }
    yield Case(
        "conditional on a label",
        partial(_built, conditional, "mlp"),
        lambda s, x: s.decode(s.mean(x) + s.codes[3], torch.full((len(x),), 3)),
        mend="labels=lambda x: torch.full((len(x),), 3)",
    )


class Rows(nn.Module):
    """An old network for rows of 784 pixels."""

    input_shape = (1, 28, 28)

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = (nn.Linear(n, m) for n, m in ((784, 32), (32, 8), (32, 8)))
        self.fc3 = nn.Linear(8, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.fc1(x).relu()
        return self.fc21(hidden), self.fc22(hidden)

    def decode(self, z: Tensor) -> Tensor:
        return self.fc3(z).sigmoid()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.encode(x.view(-1, 784))
        return self.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean)), mean, logvar


class Scripted(nn.Module):
    """What torch.jit.script takes."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(256, 48), nn.Linear(24, 256)
        self.input_shape = SHAPE

    @torch.jit.export
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        both = self.enc(x.flatten(1))
        return both[:, :24], both[:, 24:]

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return self.dec(z).sigmoid().view(-1, 1, 16, 16)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.encode(x)
        return self.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean))


def _scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is no longer encouraged
        return torch.jit.script(Scripted())


def _pair() -> Any:
    decoder = nn.Sequential(nn.Linear(32, 256), nn.Sigmoid(), nn.Unflatten(1, SHAPE))
    return BODIES["conv"](), decoder


def _still(get: Callable[[nn.Module, Tensor], Tensor]) -> Truth:
    """What a module gives where what it draws with randn_like is 0."""

    def truth(module: nn.Module, x: Tensor) -> Tensor:
        with mock.patch("torch.randn_like", torch.zeros_like):
            return get(module, x)

    return truth


#: pythae's models, each with what to type where it is not read as it is.
_PYTHAE = {
    **dict.fromkeys(("AE", "VAE", "BetaVAE", "DisentangledBetaVAE", "BetaTCVAE", "FactorVAE"), ""),
    **dict.fromkeys(("INFOVAE_MMD", "WAE_MMD", "RAE_L2", "RAE_GP", "VAMP", "Adversarial_AE"), ""),
    **dict.fromkeys(("VAEGAN", "MSSSIM_VAE", "IWAE", "MIWAE", "PIWAE", "CIWAE"), ""),
    **dict.fromkeys(("HVAE", "RHVAE"), ""),
    "PoincareVAE": "encode=lambda x: module.encoder(x).embedding",
    "VQVAE": "",
    "SVAE": "encode=lambda x: F.normalize(module.encoder(x).embedding)",
    "VAE_LinNF": "decode=lambda z: module.decoder(reduce(lambda h, f: f(h).out, module.net, z))",
    "VAE_IAF": "decode=lambda z: module.decoder(module.iaf_flow.inverse(z).out)",
}


def _decoded(m: Any, x: Tensor) -> Tensor:
    return m.decoder(m.encoder(x).embedding).reconstruction


def _recon(m: Any, x: Tensor) -> Tensor:
    return m({"data": x}).recon_x


_PYTHAE_TRUTH: dict[str, Truth] = {
    "VQVAE": _recon,
    "SVAE": lambda m, x: m.decoder(F.normalize(m.encoder(x).embedding)).reconstruction,
    "VAE_LinNF": _still(_recon),
    "VAE_IAF": _still(_recon),
}


def library_cases() -> Iterator[Case]:
    """Models of other people's libraries, small, where they are installed."""
    with suppress(Exception):
        torchvision_datasets()  # makes torchvision importable, which some of them import
    for cases in (_pythae, _monai, _diffusers, _compressai):
        with suppress(ImportError):
            yield from cases()


def _pythae() -> Iterator[Case]:
    from pythae import models

    def build(name: str) -> nn.Module:
        config = getattr(models, f"{name}Config", None) or getattr(models, f"{name}_Config")
        return getattr(models, name)(config(input_dim=SHAPE, latent_dim=6))

    for name, mend in _PYTHAE.items():
        truth = _PYTHAE_TRUTH.get(name, _decoded)
        # Its spread is one of the hyperbolic plane, of which no log-variance tells.
        logvar = (lambda m, x: m.encoder(x).log_covariance + 9) if name == "PoincareVAE" else None
        yield Case(f"pythae {name}", partial(build, name), truth, logvar, mend=mend)


def _monai() -> Iterator[Case]:
    from monai.networks import nets

    two = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
    given = {"input_shape": SHAPE, "clamp": True}
    build = partial(nets.AutoEncoder, **two, channels=(4, 8), strides=(2, 2))
    yield Case("monai AutoEncoder", build, lambda m, x: m(x), wrap=given)
    build = partial(
        nets.VarAutoEncoder,
        2,
        in_shape=SHAPE,
        out_channels=1,
        latent_size=24,
        channels=(4, 8),
        strides=(2, 2),
    )
    # Its forward decodes mean + std in eval mode.
    mend = "encode=module.encode_forward, decode=module.decode_forward, "
    mend += "deploy=lambda x: module(x)[0]"
    yield Case("monai VarAutoEncoder", build, lambda m, x: m(x)[0], wrap=given, mend=mend)
    build = partial(
        nets.VQVAE,
        **two,
        **{"channels": (8, 8), "num_res_channels": (8, 8), "num_res_layers": 1},
        downsample_parameters=((2, 4, 1, 1),) * 2,
        upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        **{"num_embeddings": 16, "embedding_dim": 4},
    )
    yield Case("monai VQVAE", build, lambda m, x: m(x)[0], wrap=given)
    build = partial(
        nets.AutoencoderKL,
        **two,
        **{"channels": (8, 8), "attention_levels": (False, False), "num_res_blocks": (1, 1)},
        **{"latent_channels": 3, "norm_num_groups": 4},
    )
    mend = "encode=lambda x: (lambda m, s: (m, 2 * s.log()))(*module.encode(x))"

    def logvar(m: Any, x: Tensor) -> Tensor:
        return 2 * m.encode(x)[1].log()

    def truth(m: Any, x: Tensor) -> Tensor:
        return m.decode(m.encode(x)[0])

    yield Case("monai AutoencoderKL", build, truth, logvar, wrap=given, mend=mend)


def _diffusers() -> Iterator[Case]:
    import diffusers

    blocks = {"block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4}
    blocks |= {"sample_size": 16, "latent_channels": 3}
    given = {"value_range": (-1, 1), "clamp": True}

    def sample(m: Any, x: Tensor) -> Tensor:
        return m(x).sample

    build = partial(diffusers.AutoencoderKL, **blocks)

    def logvar(m: Any, x: Tensor) -> Tensor:
        return m.encode(x).latent_dist.logvar

    yield Case("diffusers AutoencoderKL", build, sample, logvar, wrap=given)
    bare = {"encode": "lambda x: module.encode(x).latent_dist"}
    name = "diffusers DiagonalGaussianDistribution"
    yield Case(name, build, sample, logvar, wrap={**given, **bare})
    build = partial(diffusers.VQModel, **blocks, num_vq_embeddings=16)
    yield Case("diffusers VQModel", build, sample, wrap=given)
    two = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    build = partial(
        diffusers.AutoencoderTiny, **two, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)
    )
    three = {"input_shape": (3, 16, 16), "clamp": True}
    mend = "deploy=lambda x: module(x).sample"  # its forward keeps codes as bytes
    yield Case("diffusers AutoencoderTiny", build, sample, wrap=three, mend=mend)
    build = partial(
        diffusers.AutoencoderDC,
        **two,
        **{"encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock"},
        **{"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)},
        **{"encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ())},
        **{"latent_channels": 4, "attention_head_dim": 4, "downsample_block_type": "conv"},
    )
    yield Case("diffusers AutoencoderDC", build, sample, wrap=three)


def _compressai() -> Iterator[Case]:
    from compressai import models

    mend = "encode=module.g_a, decode=module.g_s, deploy=lambda x: module(x)['x_hat']"
    for name in ("FactorizedPrior", "MeanScaleHyperprior"):
        build = partial(getattr(models, name), 8, 12)
        given = {"input_shape": (3, 64, 64), "clamp": True}
        yield Case(f"compressai {name}", build, lambda m, x: m(x)["x_hat"], wrap=given, mend=mend)


def table(rows: list[Row]) -> str:
    """The page: what was found in all, then a row a model."""
    count = {read: sum(row.read == read for row in rows) for read in READINGS}
    needed = [row for row in rows if row.lines]
    found = "; ".join(f"{n} {READINGS[read]}" for read, n in count.items())
    lines = [
        "# Models, as people write them",
        "",
        "Made by `python benchmarks/models.py`, from models with random weights. *Difference*: the",
        "largest, over pixels in [0, 1] and log-variances, between what genrobust reads and what",
        "the model gives by its own definition; *mended*, the same with the line typed.",
        "",
        f"{len(rows)} models: {found}.",
        "",
        "## Models that take a line",
        "",
        "| model | as it is | difference | to type in `genrobust.wrap(module, ...)` | mended |",
        "|---|---|---|---|---|",
        *(
            f"| {r.name} | {r.read} | {_number(r.difference)} | `{r.lines}` | {_number(r.mended)} |"
            for r in needed
        ),
        "",
        "## Models that take none",
        "",
        "| model | as it is | difference |",
        "|---|---|---|",
        *(f"| {r.name} | {r.read} | {_number(r.difference)} |" for r in rows if not r.lines),
    ]
    return "\n".join(lines) + "\n"


READINGS = {
    "as is": "read right as they are",
    "warned": "read otherwise, with a warning that says so",
    "refused": "refused, with what to type",
    "false alarm": "read right with a false alarm",
    "MISREAD": "misread in silence",
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def measured(case: Case) -> Row:
    """Wrap it as it is, and as the line says, and compare each with the truth."""
    torch.manual_seed(0)
    module = case.build()
    for part in module if isinstance(module, tuple) else (module,):
        part.eval()
    as_is, said = _wrapped(case, module, "")
    difference = None if as_is is None else _difference(case, module, as_is)
    right = difference is not None and difference <= _allowed(module)
    warned = "may be misread" in said
    if as_is is None:
        read = "refused"
    elif right:
        read = "false alarm" if warned else "as is"
    else:
        read = "warned" if warned else "MISREAD"
    mended, lines = None, ""
    if read != "as is" and case.mend:
        model, again = _wrapped(case, module, case.mend)
        mended = None if model is None else _difference(case, module, model)
        lines = case.mend if "may be misread" not in again else f"{case.mend} (warned again)"
    return Row(case.name, read, difference, lines, mended, said)


def _allowed(module: Any) -> float:
    half = any(p.dtype in (torch.float16, torch.bfloat16) for m in _parts(module) for p in m)
    return 0.05 if half else 1e-4


def _parts(module: Any) -> list[Iterator[nn.Parameter]]:
    return [m.parameters() for m in (module if isinstance(module, tuple) else (module,))]


def _wrapped(case: Case, module: Any, more: str) -> tuple[GenerativeModel | None, str]:
    """The model, and what was said; warnings of a misreading begin with those words."""
    scope = {"module": module, "reduce": reduce, "torch": torch, "F": F, "math": __import__("math")}
    scope["genrobust"] = genrobust
    given = {
        key: eval(value, scope) if isinstance(value, str) else value
        for key, value in case.wrap.items()
    }
    given |= eval(f"dict({more})", scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = genrobust.wrap(module, **given)
        except GenrobustError as problem:
            return None, str(problem)
    said = [str(w.message) for w in caught if issubclass(w.category, GenrobustWarning)]
    return model, "; ".join(said)


def _difference(case: Case, module: Any, model: GenerativeModel) -> float:
    """The largest difference to the truth, of pictures and of log-variances."""
    x = probe_images(model.input_shape, 6)
    low, high = model.spec["value_range"]
    precision = next(iter(_parts(module)[0])).dtype
    own = (x * (high - low) + low).to(precision)
    with torch.no_grad():
        torch.manual_seed(1)
        picture = (case.truth(module, own).float() - low) / (high - low)
        torch.manual_seed(1)
        found = [replace(model, clamp=False).reconstruct(x) - picture]
        part = model.encode(x).parts[0]
        if case.logvar is not None:
            logvar = case.logvar(module, own)
            if isinstance(part, Gaussian):
                found.append(part.logvar - logvar)
            elif part.mode().numel() == 2 * logvar.numel():  # the mean and it side by side
                found.append(torch.tensor(torch.inf))
    return max(float(f.abs().max()) for f in found)


def main() -> None:
    rows = [measured(case) for case in [*own_cases(), *library_cases()]]
    (HERE / "models.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    page = HERE.parent / "docs" / "models.md"
    page.write_text(table(rows))
    print(page.read_text())


if __name__ == "__main__":
    main()
