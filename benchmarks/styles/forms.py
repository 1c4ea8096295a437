"""What encode, decode and forward of one network give, in the forms that people write."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import torch
import torch.distributions as D
import torch.nn.functional as F
from torch import nn

from styles.case import LATENTS, Members, Net, Truth, plain

Pair = namedtuple("Pair", "mu logvar")
Scaled = namedtuple("Scaled", "features loc log_scale")

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
