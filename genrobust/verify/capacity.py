"""How much a model's code carries: what is no bottleneck gives back what it is given.

Encode = flatten, decode = view reconstructs every attacked image as it is, and judges see its class
wherever they see it in the image: it leads any board, and says nothing of robustness. Neither the
number of latents nor a posterior's word tells it: one float32 holds 24 bits, and an encoder may
declare any noise where the deployment decodes the mean. What tells is noise that the decoder
*bears*: what still comes through a noisy channel is no more than the channel carries (Shannon 1948,
"A mathematical theory of communication").

Noise is added to the deployed code of many images, and is borne if it moves the reconstruction by
no more, in the mean square, than the reconstruction errs, and than an eighth of the images'
variance. Two kinds of noise are tried, and the smaller rate counts:

- the posterior's own; then the rate is its KL to the prior (which is at least the information of
  the drawn code about the image);
- for each continuous latent a part of its standard deviation over the images, the same part for
  all: the capacity of Gaussian channels, ln(1 + 1 / part^2) / 2 each. A discrete position has
  log K.

A code that is rotated, scaled, permuted, put through any invertible network, packed into fewer
numbers, or declared noisy, carries the same or more by this measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genrobust.data.base import Images
from genrobust.errors import GenrobustError, ran_out_of_memory
from genrobust.models.checks.batches import tolerance_of
from genrobust.models.model import FORWARD_ALONE, GenerativeModel
from genrobust.posterior import Part, Posterior
from genrobust.seeding import generator
from genrobust.suites.suite import Suite
from genrobust.verify.generality import driven

#: The most that noise may move the reconstruction, as a part of the images' variance.
BORNE = 1 / 8
#: What may be ranked, in nats for each number of an image, where a suite does not say otherwise: 31
#: nats of 32x32 grey pixels. Published VAEs of digits have 7 to 20; a code of 8x8 averages, which
#: loses nothing of the digits that were scaled up from so many pixels, 51 and more.
LIMIT = 0.03
#: Images on which a code's rate is measured, the sources first; and how many times the limit it has
#: to be where attacks lead, on fewer images, to count: of honest models it is what it is elsewhere.
MEASURED, LED = 100, 2
#: A number of an image, as a float32, holds no more.
MOST = 24 * math.log(2)
#: Parts of a latent's standard deviation that are tried, from large to the precision of a float32.
PARTS = tuple(2.0 ** (-half / 2) for half in range(47))


def rate_limit(suite: Suite, shape: Sequence[int]) -> float:
    """The most that a ranked model's code may carry of an image of that shape, in nats."""
    return (LIMIT if suite.rate_limit is None else suite.rate_limit) * math.prod(shape)


def measured_rate(model: GenerativeModel, images: Images, suite: Suite, seed: int) -> float:
    """What the code carries of the suite's images, in nats; or where the model's gradient leads.

    There it counts if it is far beyond the limit: such a model gives back what attacks lead astray.

    Args:
        model: the model.
        images: the suite's split of its data set.
        suite: whose sources and radii these are.
        seed: of the noise.
    """
    limit = rate_limit(suite, model.input_shape)
    ids = [*dict.fromkeys([*suite.sample_ids, *range(len(images))])][:MEASURED]
    rate = rate_of(model, images.take(ids), seed, suite.chunk_size, enough=limit)
    if rate > limit:
        return rate
    _, moved = driven(model, images, suite, seed)
    led = max(rate_of(model, x, seed, suite.chunk_size, enough=limit) for x in moved)
    return led if led > LED * limit else rate


@torch.no_grad()
def rate_of(
    model: GenerativeModel, x: Tensor, seed: int, batch: int = 64, enough: float = 0.0
) -> float:
    """The information that the deployed code carries, in nats an image; an upper bound.

    Args:
        model: the model.
        x: images (N, C, H, W) in [0, 1], as many as there are.
        seed: of the noise.
        batch: how many at a time.
        enough: no smaller rate is looked for than one below this.

    Returns:
        As much as the image itself holds where no noise is borne, as by a model without error, and
        where nothing says that what is deployed goes through the code: of a forward alone, of a
        deployed path of its own, of a decoder that remembers.

    Example:
        >>> import genrobust
        >>> images = genrobust.load_images("digits", "test").take(range(90))
        >>> round(rate_of(genrobust.load_model("betavae"), images, seed=0), 1)
        8.6
    """
    most = MOST * math.prod(model.input_shape)
    if model.deploy is not None or model.spec.get(FORWARD_ALONE):
        return most
    posterior = Posterior.joined([model.encode(part) for part in x.split(batch)])
    code = posterior.mode()
    again = torch.cat([model.reconstruct(part) for part in x.split(batch)])
    deployed = _decoded_elsewhere(model, code, batch)
    if deployed is None or float((deployed - again).abs().max()) > tolerance_of(model):
        return most
    error = _square(deployed - x)
    bearable = min(error, BORNE * _square(x - x.mean(0)))

    def bears(noisy: Tensor) -> bool:
        return _square(_decoded(model, noisy, batch) - deployed) <= bearable

    draws = generator("rate", seed)
    found = [most]
    if posterior.has_density and bears(posterior.sample(posterior.draw_noise(draws))):
        found.append(float(posterior.kl_to_prior().sum(1).mean()))
    if min(found) < enough:
        return min(found)
    for part in PARTS:
        noisy = [_noised(one, part, draws) for one in posterior.parts]
        if bears(posterior.join(noisy)):
            found.append(_carried(posterior.parts, part))
            break
    return min(found)


def _noised(part: Part, share: float, draws: torch.Generator) -> Tensor:
    code = part.mode()
    if part.is_discrete:
        return code
    noise = torch.randn(code.shape, generator=draws, device=draws.device).to(code)
    return code + share * code.std(0, correction=0) * noise


def _carried(parts: Sequence[Part], share: float) -> float:
    """Of channels with that noise, in nats; a latent that never changes carries nothing."""
    each = 0.5 * math.log1p(share**-2)
    nats = 0.0
    for part in parts:
        if part.is_discrete:
            nats += _choices(part)
        else:
            nats += each * int((part.mode().std(0, correction=0) > 0).sum())
    return nats


def _choices(part: Part) -> float:
    """The logarithm of how many codes there are; of a list that every position takes from."""
    scores = part.scores()  # type: ignore[attr-defined]
    return float(scores[:1].isfinite().sum(-1).double().log().sum())


def _decoded(model: GenerativeModel, code: Tensor, batch: int) -> Tensor:
    images = torch.cat([model.decode(part) for part in code.split(batch)])
    return images.clamp(0, 1) if model.clamp else images


def _decoded_elsewhere(model: GenerativeModel, code: Tensor, batch: int) -> Tensor | None:
    """The images of codes that are decoded in another order; None where decode fails on them.

    It takes the same codes after encode: so it needs what that kept.
    """
    turned = torch.arange(len(code) - 1, -1, -1)
    try:
        return _decoded(model, code[turned], batch)[turned]
    except GenrobustError as problem:
        if ran_out_of_memory(problem):
            raise
        return None


def _square(difference: Tensor) -> float:
    """The squared length of an image, in the mean."""
    found = float(difference.square().flatten(1).sum(1).double().mean())
    return found if math.isfinite(found) else math.inf
