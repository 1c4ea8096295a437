"""The styles, each as a model of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from styles.case import BODIES, SHAPE, Case, Members, Net, built
from styles.forms import FORMS, LAYERS, MISREAD, POINTS
from styles.quantisers import TOKENS, Levels, Tokens


def own_cases() -> Iterator[Case]:
    """The styles, with each body where they are honest."""

    def mean(s: Any, x: Tensor) -> Tensor:
        return s.image(s.mean(x))

    def layers(s: Any, x: Tensor) -> Tensor:
        return s.decode([s.mean(x), s.mean(x)[:, :4]])

    for body in BODIES:
        for forms, logvar in ((FORMS, Net.logvar), (POINTS, None)):
            for name, members in forms.items():
                yield Case(f"{name} ({body})", partial(built, members, body), mean, logvar)
    for name, members in LAYERS.items():
        yield Case(name, partial(built, members, "mlp"), layers, Net.logvar)
    for name, (members, mend, truth, logvar) in MISREAD.items():
        yield Case(name, partial(built, members, "mlp"), truth, logvar, mend=mend)
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
        yield Case(f"weights in {name}", lambda d=dtype: built(members, "mlp").to(d), mean)
    held: dict[str, Callable[[nn.Module], nn.Module]] = {
        "DataParallel": nn.DataParallel,
        "torch.compile": partial(torch.compile, backend="eager"),
    }
    for name, hold in held.items():

        def inner(s: Any, x: Tensor) -> Tensor:
            return mean(getattr(s, "module", getattr(s, "_orig_mod", s)), x)

        yield Case(name, lambda h=hold: h(built(members, "mlp")), inner)
    yield Case("(encoder, decoder)", _pair, lambda m, x: m[1](m[0](x)), wrap={"input_shape": SHAPE})
    yield Case("rows of 784", Rows, lambda m, x: m.decode(m.encode(x.flatten(1))[0]).view(x.shape))
    yield Case("TorchScript", _scripted, lambda m, x: m.decode(m.encode(x)[0]))
    centred = {**members, "decode": Net.centred, "forward": lambda s, x: s.centred(s.sample(x))}
    yield Case(
        "pixels from -1 to 1",
        partial(built, centred, "mlp"),
        lambda s, x: s.centred(s.mean(x)),
        Net.logvar,
        wrap={"value_range": (-1, 1)},
    )
    converted = {"encode": "lambda x: module.encode(2 * x - 1)"}
    converted["decode"] = "lambda z: (module.decode(z) + 1) / 2"
    yield Case(
        "pixels from -1 to 1, converted by hand",
        partial(built, centred, "mlp"),
        lambda s, x: (s.centred(s.mean(2 * x - 1)) + 1) / 2,
        wrap=converted,
    )
    conditional: Members = {
        "encode": lambda s, x, y: (s.mean(x) + s.codes[y], s.logvar(x)),
        "decode": lambda s, z, y: s.image(z - s.codes[(y + 1) % 10]),
    }
    yield Case(
        "conditional on a label",
        partial(built, conditional, "mlp"),
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
