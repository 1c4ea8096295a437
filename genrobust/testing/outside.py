"""Masks by another author than the signs', written down before that one had read the signs.

Each keeps what the zoo's ``vae`` reconstructs of a clean image, or nearly, and means to lead
attacks by gradients astray; its first line says how.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genrobust.models.model import GenerativeModel
from genrobust.models.wrapping import wrap
from genrobust.testing.hidden import backward_as, inside

#: An encoder and a decoder made of the zoo's network.
Pair = tuple[Callable[[Tensor], Any], Callable[[Tensor], Tensor]]


def _hidden(mask: Callable[[Any], Pair]) -> Callable[[GenerativeModel], GenerativeModel]:
    """From a sound model to one with the encoder and decoder that are made of its network."""

    @wraps(mask)
    def hide(model: GenerativeModel) -> GenerativeModel:
        return inside(model, mask.__name__.replace("_", " "), *mask(model.module))

    return hide


class _Backward(torch.autograd.Function):
    """The identity, with a backward pass of one's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.change = change
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.change(gradient, x), None


def _behind(net: Any, change: Callable[[Tensor, Tensor], Tensor]) -> Pair:
    return lambda x: net.encode(_Backward.apply(x, change)), net.decode


def _fixed(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _random(net: Any, seed: int = 1) -> Any:
    """The same network, never trained, with weights about as large."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        other = type(net)(net.spec).eval()
    for parameter in other.parameters():
        parameter.requires_grad_(False).mul_(2)
    return other


# Custom backward passes before the encoder.


@_hidden
def shuffled(net: Any) -> Pair:
    """The gradient's pixels change places: its norm and histogram stay."""
    order = _fixed(32 * 32).argsort()
    return _behind(net, lambda g, x: g.flatten(1)[:, order].view_as(g))


@_hidden
def strongest_reversed(net: Any) -> Pair:
    """The fifth of the pixels that matter most gets the wrong sign, the rest the right one."""

    def change(g: Tensor, x: Tensor) -> Tensor:
        most = g.abs().flatten(1).quantile(0.8, dim=1).view(-1, 1, 1, 1)
        return torch.where(g.abs() > most, -g, g)

    return _behind(net, change)


@_hidden
def modest(net: Any) -> Pair:
    """All but the smallest tenth of the gradient is dropped, as if it were clipped for safety."""

    def change(g: Tensor, x: Tensor) -> Tensor:
        least = g.abs().flatten(1).quantile(0.1, dim=1).view(-1, 1, 1, 1)
        return g * (g.abs() <= least)

    return _behind(net, change)


@_hidden
def averaged(net: Any) -> Pair:
    """Every pixel gets the image's mean gradient: only the brightness can be attacked."""
    return _behind(net, lambda g, x: g.mean((1, 2, 3), keepdim=True).expand_as(g).clone())


@_hidden
def noisy(net: Any) -> Pair:
    """Noise ten times the gradient's size is added to it, new at each call."""
    source = torch.Generator().manual_seed(0)

    def change(g: Tensor, x: Tensor) -> Tensor:
        size = g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / 32
        return g + 10 * size * torch.randn(g.shape, generator=source).to(g)

    return _behind(net, change)


@_hidden
def delayed(net: Any) -> Pair:
    """Each call gives the gradient of the call before it with as many images."""
    kept: dict[int, Tensor] = {}

    def change(g: Tensor, x: Tensor) -> Tensor:
        before = kept.get(len(g), g.flip(-1))
        kept[len(g)] = g.clone()
        return before

    return _behind(net, change)


@_hidden
def tires(net: Any) -> Pair:
    """The gradient is right at the first 300 calls, and another image's after."""
    calls = [0]

    def change(g: Tensor, x: Tensor) -> Tensor:
        calls[0] += 1
        return g if calls[0] <= 300 else g.flip(-1, -2).roll(1, 0)

    return _behind(net, change)


@_hidden
def honest_on_paper(net: Any) -> Pair:
    """The gradient is right on images with a black background, reversed left to right elsewhere."""

    def change(g: Tensor, x: Tensor) -> Tensor:
        clean = (x == 0).float().mean((1, 2, 3), keepdim=True) > 0.2
        return torch.where(clean, g, -g.flip(-1))

    return _behind(net, change)


@_hidden
def honest_in_the_middle(net: Any) -> Pair:
    """Right inside the cube, reversed where a pixel lies within 0.15 of black or white."""
    return _behind(net, lambda g, x: torch.where((x - 0.5).abs() > 0.35, -0.1 * g, g))


@_hidden
def by_batch_size(net: Any) -> Pair:
    """Batches of up to 8 get the right gradient, larger ones that of their neighbours."""
    return _behind(net, lambda g, x: g if len(g) <= 8 else g.roll(1, 0).flip(-1))


@_hidden
def below_float16(net: Any) -> Pair:
    """No custom code: half precision scaled up by 2^25, so that a gradient below 1e-3 is lost."""

    def encode(x: Tensor) -> Any:
        h = (x * 2.0**-10).half()
        for factor in (2.0**12, 2.0**13, 2.0**-12, 2.0**-13):
            h = h * factor
        return net.encode(h.float() * 2.0**10)

    return encode, net.decode


# Straight-through with a wrong stand-in.


@_hidden
def of_a_stranger(net: Any) -> Pair:
    """The code's value, and the gradient of the same network with random weights."""
    other = _random(net)

    def encode(x: Tensor) -> Any:
        wrong = other.encode(x).parts[0].mean
        return net.encode(x.detach()).map(lambda part: backward_as(part, wrong))

    return encode, net.decode


@_hidden
def camera(net: Any) -> Pair:
    """Eight bits by a real cast to bytes; a leak of a thousandth lets another gradient through."""
    other = _random(net, 2)

    def encode(x: Tensor) -> Any:
        seen = net.encode((x.detach() * 255).round().to(torch.uint8).float() / 255)
        leak = 1e-3 * other.encode(x).parts[0].mean.tanh()
        return seen.map(lambda part: part + leak)

    return encode, net.decode


@_hidden
def stale(net: Any) -> Pair:
    """The Jacobian is that of a grey image, whatever the image is."""

    def encode(x: Tensor) -> Any:
        at_grey = net.encode(x - x.detach() + 0.9).parts[0].mean
        return net.encode(x.detach()).map(lambda part: backward_as(part, at_grey))

    return encode, net.decode


@_hidden
def high_frequencies(net: Any) -> Pair:
    """Only the image's finest detail passes a gradient, as of a JPEG with a careless surrogate."""

    def encode(x: Tensor) -> Any:
        fine = x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)
        return net.encode(backward_as((x * 255).round() / 255, fine))

    return encode, net.decode


@_hidden
def thermometer(net: Any) -> Pair:
    """64 hard comparators a pixel, with a sigmoid's gradient that vanishes between levels."""
    levels = (torch.arange(64) + 0.5) / 64

    def encode(x: Tensor) -> Any:
        above = x.unsqueeze(-1) - levels.to(x)
        coded = backward_as((above > 0).to(x), torch.sigmoid(3e4 * above))
        return net.encode(coded.mean(-1))

    return encode, net.decode


@_hidden
def wrong_latents(net: Any) -> Pair:
    """The code is rounded to 1/128, and each latent passes the next one's gradient."""

    def rounded(part: Tensor) -> Tensor:
        return backward_as((part * 128).round() / 128, part.roll(1, 1))

    return lambda x: net.encode(x).map(rounded), net.decode


@_hidden
def few_latents(net: Any) -> Pair:
    """Only two of ten latents have a gradient; the rest pass a no_grad path."""
    keep = torch.arange(10) < 2

    def encode(x: Tensor) -> Any:
        return net.encode(x).map(lambda p: torch.where(keep.to(p.device), p, p.detach()))

    return encode, net.decode


# Functions whose own, true gradient misleads.


@_hidden
def sawtooth(net: Any) -> Pair:
    """Stairs of 1/64 whose treads slope backwards: the derivative is true, and points away."""

    def encode(x: Tensor) -> Any:
        stairs = ((x * 64).round() / 64).detach()
        return net.encode(stairs - 0.3 * (x - stairs))

    return encode, net.decode


@_hidden
def ripple(net: Any) -> Pair:
    """A ripple of 0.002 with 20,000 waves a unit: its derivative drowns the image's."""
    return lambda x: net.encode(x + 0.002 * torch.sin(1.2e5 * x)), net.decode


@_hidden
def rippled_code(net: Any) -> Pair:
    """The same on the code: 0.01 of sin(1e5 z), which the decoder sees as it is."""
    return lambda x: net.encode(x).map(lambda p: p + 0.01 * torch.sin(1e5 * p)), net.decode


@_hidden
def steep(net: Any) -> Pair:
    """Value exact; the gradient is that of a sigmoid of slope 60, dead in black and white."""
    return lambda x: net.encode(backward_as(x, torch.sigmoid(60 * (x - 0.5)))), net.decode


# Codes that mislead attacks on the code.


@_hidden
def decoys(net: Any) -> Pair:
    """90 more latents, of random features and 100 times as large, that the decoder ignores."""
    return _with_decoys(net), lambda z: net.decode(z[:, :10])


def _with_decoys(net: Any) -> Callable[[Tensor], Any]:
    features = torch.randn(1024, 90, generator=torch.Generator().manual_seed(3))

    def encode(x: Tensor) -> Any:
        q = net.encode(x).parts[0]
        extra = 100 * torch.sin(x.flatten(1) @ features.to(x))
        return torch.cat([q.mean, extra], 1), torch.cat([q.logvar, 0 * extra], 1)

    return encode


@_hidden
def coin(net: Any) -> Pair:
    """A bit of the code, from a hash of the image, says whether all latents are negated."""

    def encode(x: Tensor) -> Any:
        q = net.encode(x).parts[0]
        hashed = (x.detach().double().sum((1, 2, 3)) * 1e4).floor().long() % 2
        bit = (2.0 * hashed - 1).unsqueeze(1).to(x)
        return torch.cat([q.mean * bit, bit], 1), torch.cat([q.logvar, 0 * bit], 1)

    return encode, lambda z: net.decode(z[:, :10] * z[:, 10:].sign())


@_hidden
def both_ends(net: Any) -> Pair:
    """Decoys for attacks on the code, a random decoder's gradient for attacks on the output."""
    other = _random(net, 4)

    def decode(z: Tensor) -> Tensor:
        return backward_as(net.decode(z[:, :10].detach()), other.decode(z[:, :10]))

    return _with_decoys(net), decode


@_hidden
def posterised(net: Any) -> Pair:
    """The output in 256 levels; a gradient passes only where a pixel is nearly black or white."""

    def decode(z: Tensor) -> Tensor:
        y = net.decode(z)
        kept = torch.where((y - 0.5).abs() > 0.49, y, y.detach())
        return backward_as((y * 255).round() / 255, kept)

    return net.encode, decode


# Behaviour that depends on who asks.


@_hidden
def shifted(net: Any) -> Pair:
    """With a gradient wanted, the image is encoded one pixel to the side."""

    def encode(x: Tensor) -> Any:
        return net.encode(x.roll((2, 2), (-1, -2)) if x.requires_grad else x)

    return encode, net.decode


@_hidden
def remembers(net: Any) -> Pair:
    """An image within 0.12 of one seen before gets the code of that one."""
    seen: list[Tensor] = []

    def encode(x: Tensor) -> Any:
        before = torch.cat(seen) if seen else x[:0].detach()
        images = []
        for image in x.detach():
            near = (before - image).abs().flatten(1).amax(1) < 0.12
            images.append(before[near][0] if near.any() else image)
        shown = torch.stack(images)
        if len(before) < 500:
            seen.append(shown)
        return net.encode(x + (shown - x).detach())

    return encode, net.decode


def false_deputy(model: GenerativeModel) -> GenerativeModel:
    """The deployment is the vae; encode= and decode=, which attacks follow, were never trained."""
    other, holder = _random(model.module, 5), nn.Module()
    holder.masked = model.module
    return wrap(
        holder,
        encode=other.encode,
        decode=other.decode,
        deploy=model.reconstruct,
        input_shape=model.input_shape,
        name=f"{model.name}, false deputy",
    )
