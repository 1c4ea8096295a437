"""Models whose codes are entries of a list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from styles.case import SHAPE, Net, built, plain


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
    "VQ in forward": lambda: built(
        plain(Net.mean, forward=lambda s, x: (s.image(s.quantised(s.mean(x))), x.mean())), "mlp"
    ),
    "(z_e, z_q)": lambda: built(
        plain(
            lambda s, x: (s.mean(x), s.quantised(s.mean(x))),
            forward=lambda s, x: (s.image(s.quantised(s.mean(x))), x.mean()),
        ),
        "mlp",
    ),
}
