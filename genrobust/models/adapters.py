"""Read what encoders and decoders of other libraries return.

One function for each side; each form is recognised by its own mark, never by the library's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch import distributions as D

from genrobust.errors import GenrobustError
from genrobust.posterior import Categorical, Gaussian, Part, Point, Posterior

FORMS = (
    "(mean, logvar), {'cont': [mean, logvar], 'disc': [probabilities]}, an object with "
    "latent_dist, a ModelOutput with embedding, a torch.distributions object, a tensor, "
    "or a genrobust Posterior"
)


def posterior_of(output: Any) -> Posterior:
    """The posterior in what an encoder returned.

    Raises:
        GenrobustError: the form is not one of ``FORMS``.
    """
    if isinstance(output, Posterior):
        return output
    if isinstance(output, D.Distribution):
        return Posterior((_part_of_distribution(output),))
    if isinstance(output, Mapping) and output.keys() & {"cont", "disc"}:
        return _joint(output)
    if hasattr(output, "latent_dist"):
        return posterior_of_latent_dist(output.latent_dist)
    if isinstance(output, Mapping) and "embedding" in output:
        embedding, spread = output["embedding"], output.get("log_covariance")
        return Posterior((Point(embedding) if spread is None else Gaussian(embedding, spread),))
    if isinstance(output, Tensor):
        return Posterior((Point(output),))
    if isinstance(output, (tuple, list)):
        return _mean_and_logvar(output)
    raise GenrobustError(f"the encoder returned {describe(output)}; known are {FORMS}; {_DO}")


def posterior_of_latent_dist(latent: Any) -> Posterior:
    """diffusers' DiagonalGaussianDistribution, which is no torch distribution."""
    if isinstance(latent, D.Distribution):
        return Posterior((_part_of_distribution(latent),))
    return Posterior((Gaussian(latent.mean, latent.logvar),))


def image_of(output: Any) -> Tensor:
    """The image in what a decoder returned: of a distribution, its mean.

    Raises:
        GenrobustError: there is none.
    """
    if isinstance(output, D.Distribution):
        return output.mean
    if isinstance(output, Mapping) and "reconstruction" in output:
        output = output["reconstruction"]
    elif isinstance(getattr(output, "sample", None), Tensor):
        output = output.sample
    elif isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise GenrobustError(
            f"the decoder returned {describe(output)}; known are a tensor, a torch.distributions "
            "object, an object with sample, a ModelOutput with reconstruction; or pass "
            "decode=, a function from codes to images"
        )
    return output


def describe(output: Any) -> str:
    """In a few words: a type, and the shapes in it."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with keys {sorted(map(str, output))}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of ({', '.join(describe(item) for item in output)})"
    return f"a {type(output).__name__}"


_DO = "pass encode=, a function from images to one of these"


def _joint(output: Mapping[str, Any]) -> Posterior:
    parts: list[Part] = []
    if "cont" in output:
        mean, logvar = output["cont"]
        parts.append(Gaussian(mean, logvar))
    # Probabilities, as joint-vae's softmax gives them: their logarithm is a set of logits. The
    # clamp keeps a probability that underflowed to 0 from becoming -inf.
    tiny = torch.finfo(torch.float32).tiny
    parts += [Categorical(p.clamp_min(tiny).log()) for p in output.get("disc", [])]
    return Posterior(tuple(parts))


def _mean_and_logvar(output: tuple[Any, ...] | list[Any]) -> Posterior:
    tensors = [item for item in output[:2] if isinstance(item, Tensor)]
    if len(output) == 1 and tensors:
        return Posterior((Point(tensors[0]),))
    if len(tensors) == 2 and tensors[0].shape == tensors[1].shape:
        return Posterior((Gaussian(tensors[0], tensors[1]),))
    raise GenrobustError(
        f"the encoder returned {describe(output)}, whose first two are not a mean and a "
        f"log-variance of one shape; known are {FORMS}; {_DO}"
    )


def _part_of_distribution(given: D.Distribution) -> Part:
    base = given
    while isinstance(base, D.Independent):
        base = base.base_dist
    if isinstance(base, D.Normal):
        return Gaussian(base.loc, 2 * base.scale.log())
    if isinstance(base, (D.OneHotCategorical, D.Categorical, D.RelaxedOneHotCategorical)):
        if base.logits.ndim != 2:
            raise GenrobustError(
                f"the encoder returned a categorical with logits of shape "
                f"{tuple(base.logits.shape)}, and genrobust takes (batch, classes); pass encode=, "
                "a function that returns a genrobust Posterior with one Categorical a variable"
            )
        return Categorical(base.logits)
    raise GenrobustError(
        f"the encoder returned the distribution {type(base).__name__}, and genrobust reads "
        f"Normal (also Independent) and OneHotCategorical; {_DO}"
    )
