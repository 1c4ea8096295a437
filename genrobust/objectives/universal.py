"""The damages of ALMA and GRILL: what a change does to codes, reconstructions and layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.objectives.draws import FreshNoise
from genrobust.posterior import Posterior

DamageName = Literal["la-l2", "la-wass", "la-skl", "la-cos", "oa", "lma", "grill"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass through a model gave: posterior, code as rows, image, and layers' outputs."""

    posterior: Posterior
    code: Tensor
    image: Tensor
    layers: list[tuple[nn.Module, Tensor]]


class UniversalDamage:
    """Minus the damage to each image; untargeted only, and bound to one batch.

    With z the code, x_hat the reconstruction and MSE the mean squared change of a sample:

    * ``"la-l2"``: MSE(z); ``"la-wass"``: the mean change of the sorted entries of z;
      ``"la-skl"``: (KL(q_adv || q) + KL(q || q_adv)) / 2; ``"la-cos"``: 1 - cos(z_adv, z);
    * ``"oa"``: MSE(x_hat); ``"lma"``: MSE(z) * MSE(x_hat);
    * ``"grill"``: [sum over layers l of w_l MSE(output of l)] * MSE(x_hat), with weights w_l
      from :func:`layer_weights`.

    Args:
        damage: which.
        noise: of codes that are drawn anew at each evaluation; without it z is the means and
            logits, and the decoder gets the means and a softmax for an argmax.
    """

    def __init__(self, damage: DamageName = "lma", noise: FreshNoise | None = None) -> None:
        self.damage, self.noise = damage, noise
        self._clean: Pass | None = None

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        if self._clean is None or self.noise is not None:
            with torch.no_grad():
                self._clean = self._run(context.batch.x, context)
        return -self._between(self._clean, self._run(x_adv, context))

    def _between(self, clean: Pass, found: Pass) -> Tensor:
        if self.damage == "la-l2":
            return _mse(found.code, clean.code)
        if self.damage == "la-wass":
            return (found.code.sort(1)[0] - clean.code.sort(1)[0]).abs().mean(1)
        if self.damage == "la-skl":
            return found.posterior.symmetric_kl(clean.posterior)
        if self.damage == "la-cos":
            return 1 - F.cosine_similarity(found.code, clean.code, 1)
        output = _mse(found.image, clean.image)
        if self.damage == "oa":
            return output
        if self.damage == "lma":
            return _mse(found.code, clean.code) * output
        weights = layer_weights([module for module, _ in clean.layers])
        pairs = zip(weights, found.layers, clean.layers, strict=True)
        inner = torch.stack([w * _mse(a, b) for w, (_, a), (_, b) in pairs]).sum(0)
        return inner * output

    def _run(self, x: Tensor, context: Context) -> Pass:
        model = context.model
        if self.damage == "grill" and model.max_batch is not None and model.max_batch < len(x):
            raise GenrobustError(
                f"'grill' weighs what layers give for a whole batch, here {len(x)} images, and "
                f"'{model.name}' takes {model.max_batch} at once; raise --batch-size, or use 'alma'"
            )
        with recorded_layers(model, self.damage == "grill") as layers:
            posterior = model.encode(x)
            if self.noise is None:
                code, shown = posterior.relaxed(), posterior.vector()
            else:
                code = posterior.rsample(self.noise(posterior, context.batch.sample_ids))
                shown = code.flatten(1)
            image = model.decode(code)
        layers = [(layer, output) for layer, output in layers if len(output) == len(x)]
        if self.damage == "grill" and not layers:
            raise GenrobustError(
                f"'grill' weighs layers, and the module of the model '{model.name}' calls none "
                "that torch can hook; use 'alma', which looks at codes and images"
            )
        return Pass(posterior, shown, image, layers)


@contextmanager
def recorded_layers(
    model: GenerativeModel, wanted: bool = True
) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Record the tensors that the module's innermost layers give, in the order of their calls.

    Args:
        model: whose module to watch.
        wanted: without it nothing is recorded.
    """
    record: list[tuple[nn.Module, Tensor]] = []
    here = threading.get_ident()  # other threads call the same layers, with batches of their own

    def keep(module: nn.Module, given: tuple[object, ...], output: object) -> None:
        mine = threading.get_ident() == here
        if mine and isinstance(output, Tensor) and output.ndim > 1:
            record.append((module, output.clone()))  # a layer after it may work in place

    leaves = [m for m in model.module.modules() if next(m.children(), None) is None]
    handles = [leaf.register_forward_hook(keep) for leaf in leaves if wanted]
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def layer_weights(modules: list[nn.Module]) -> list[float]:
    """(K - kappa_l) / ((L - 1) K) for L layers, K the sum of their kappas: they sum to 1.

    Well-conditioned layers weigh most; a layer alone weighs 1.
    """
    known: dict[nn.Module, float] = {}
    for module in modules:
        if module not in known:
            known[module] = condition_number(module)
    kappas = [known[module] for module in modules]
    if len(kappas) == 1:
        return [1.0]
    total = sum(kappas)
    return [(total - kappa) / ((len(kappas) - 1) * total) for kappa in kappas]


@torch.no_grad()
def condition_number(module: nn.Module) -> float:
    """The largest singular value over the smallest, of the weight as a matrix of output rows.

    It is 1 for what has no such weight, and at most 1 / eps of the weight's precision.
    """
    if not isinstance(module, _WEIGHTED):
        return 1.0
    weight = module.weight.transpose(0, 1) if isinstance(module, _TRANSPOSED) else module.weight
    values = torch.linalg.svdvals(weight.flatten(1))
    floor = torch.finfo(values.dtype).eps * values[0]
    return float(values[0] / values[-1].clamp_min(floor)) if values[0] > 0 else 1.0


def _mse(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).square().mean(1)
