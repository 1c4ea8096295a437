"""Willetts et al. 2021: the loss that a latent attack is left with, by penalty on disentangling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.attacks import Batch, make_attack
from genrobust.attacks.sweep import PenaltySweep
from genrobust.data import load_images
from genrobust.drawing import blank, style
from genrobust.metrics import l2
from genrobust.models import GenerativeModel
from genrobust.reproduce import checkpoints
from genrobust.reproduce.auddc import different
from genrobust.reproduce.base import (
    Reproduction,
    SampleEstimate,
    Setup,
    bootstrapped,
    mean_of,
    table,
)
from genrobust.seeding import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTACKS = ("willetts-kl", "willetts-w2")
#: With the penalty of their training, plain VAEs first of those of one network.
ZOO = {"vae": "beta 1", "betavae": "beta 4"}
OTHERS = {
    "disvae_VAE_mnist": "beta 1",
    "disvae_betaH_mnist": "beta 4",
    "disvae_btcvae_mnist": "beta-TC 6",
    "disvae_factor_mnist": "FactorVAE 6",
}


def willetts2021(setup: Setup) -> Reproduction:
    """Willetts et al. 2021: does disentangling make latent attacks fail? Their two measures."""
    images = load_images(setup.dataset, "test", setup.data_root)
    pairs = different(images, setup.sources or (2 if setup.fast else 6), setup.seed)
    size = {"points": 3, "iterations": 2} if setup.fast else {"points": 11, "iterations": 40}
    models = [checkpoints.model(name, setup) for name in ZOO]
    models += checkpoints.published(setup, tuple(OTHERS))
    x = images.take([a for a, _ in pairs])
    target = images.take([b for _, b in pairs])
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        for name in ATTACKS:
            key = {"model": model.fingerprint(), "pairs": pairs, "attack": [name, size]}

            def compute(model: GenerativeModel = model, name: str = name) -> dict[str, Any]:
                attack = make_attack(name, dict(size))
                assert isinstance(attack, PenaltySweep), "both sweep a penalty"
                batch = Batch(x, tuple(a for a, _ in pairs), setup.seed, target_x=target)
                return _measured(model, attack, batch, target)

            told = f"willetts2021-{model.name}-{name}"
            found.setdefault(model.name, {})[name] = setup.kept(told, key, compute)
    return _page(setup, found, size, len(pairs))


@torch.no_grad()
def _measured(
    model: GenerativeModel, attack: PenaltySweep, batch: Batch, target: Tensor
) -> dict[str, Any]:
    """The attack's whole loss and the target's likelihood, (weights, pairs) each."""
    with torch.enable_grad():
        sweep = attack.sweep(model, batch)
    noise = generator("willetts", batch.seed)

    def unlikely(images: Tensor) -> list[float]:
        posterior = model.encode(images)
        image = model.decode(posterior.sample(posterior.draw_noise(noise))).clamp(0, 1)
        nats = F.binary_cross_entropy(image, target, reduction="none").flatten(1).sum(1)
        return [round(v, 3) for v in nats.tolist()]

    lengths = torch.stack([l2(batch.x, images) for images in sweep.x_adv])
    whole = sweep.loss + sweep.weights[:, None] * lengths
    return {
        "weights": sweep.weights.tolist(),
        "loss": [[float(f"{v:.5g}") for v in row] for row in whole.tolist()],
        "unlikely": [unlikely(images) for images in sweep.x_adv],
        "unlikely_clean": unlikely(batch.x),
        "unlikely_target": unlikely(target),
    }


def _page(
    setup: Setup, found: dict[str, dict[str, Any]], size: dict[str, int], pairs: int
) -> Reproduction:
    penalties, rows = {**ZOO, **OTHERS}, []
    results: dict[str, Any] = {}
    for model, ways in found.items():
        cells, numbers = [], {}
        for name, one in ways.items():
            loss = torch.tensor(one["loss"]).clamp_min(1e-12).log10().mean(0)
            unlikely = torch.tensor(one["unlikely"]).mean(0)
            told = {
                "log10_loss": mean_of(loss.tolist(), setup.seed),
                "unlikely": mean_of(unlikely.tolist(), setup.seed),
            }
            cells += [f"{told['log10_loss']:.2f}", f"{told['unlikely']:.0f}"]
            numbers[name] = {k: vars(v) for k, v in told.items()} | {
                "weights": one["weights"],
                "by_weight": [round(sum(row) / len(row), 2) for row in one["unlikely"]],
            }
        first = next(iter(ways.values()))
        ends = [sum(first[k]) / pairs for k in ("unlikely_clean", "unlikely_target")]
        rows.append([model, penalties[model], *cells, *(f"{end:.0f}" for end in ends)])
        results[model] = {"penalty": penalties[model], **numbers, "ends": ends}
    head = ["model", "penalty"]
    for name in ATTACKS:
        kind = name.rpartition("-")[2].upper()
        head += [f"{kind}: log10 of the loss", f"{kind}: target's -log p"]
    apart = _differences(found, setup.seed)
    for (model, name), told in apart.items():
        results[model][name]["more_than_plain"] = {k: vars(v) for k, v in told.items()}
    compared = table(
        ["model", "minus", "attack", "log10 of the loss", "share of -log p left"],
        [
            [model, _plain(model), name, f"{told['log10_loss']:+.2f}", f"{told['share']:+.2f}"]
            for (model, name), told in apart.items()
        ],
    )
    summary = table([*head, "-log p, no attack", "-log p, the target itself"], rows)
    text = f"""\
Willetts, Camuto, Rainforth, Roberts & Holmes 2021 move a source's posterior to a target's, by KL or
by the 2-Wasserstein distance, with a penalty lambda on the length of the change, and look at what
loss the attack is left with and how unlikely the target stays under the attacked code: *higher is
more robust*. The claim: VAEs trained to disentangle (total correlation, a beta above 1) keep a loss
that is larger by orders of magnitude. It has plots, and no numbers to set beside these.

{summary}

Means over {pairs} pairs of test images and {size["points"]} values of lambda from 2^-20 to 2^20
(published: 20 images and 50 values), with an interval over pairs; -log p in nats, of the target
under a draw of the attacked code. At most {size["iterations"]} iterations of L-BFGS-B a value: the
published optimizer is not named. The last two columns are the ends of the scale: an attack that
does nothing, and one that reaches the target's own code.

Minus the plain VAE of the same network, on the same pairs; the *share left* is the place of -log p
between the two ends, 1 where the attack did nothing and 0 where it reached the target:

{compared}

![The target's likelihood against lambda, by model](willetts2021-lambda.svg)

## How to read it

- One order of magnitude is a difference of 1 in log10 of the loss.
- The loss is in units of the model's own latent space: its authors say themselves that it does not
  compare across models of different latent scale. The likelihood does, between its two ends: a
  model that blurs everything has a narrow range, and seems robust without being so.
- `vae` and `betavae` ship, the others were trained by others with the same network among
  themselves: compare within a family. One training seed each.
- The hierarchical Seatbelt-VAE is not compared here, nor dSprites, Chairs and faces.
"""
    return Reproduction(
        title="Willetts et al. 2021: does disentangling make attacks fail?",
        text=text,
        summary=summary,
        results={
            "dataset": setup.dataset,
            "pairs": pairs,
            "seed": setup.seed,
            **size,
            "models": results,
        },
        figures={"willetts2021-lambda": _figure(results)},
    )


def _plain(model: str) -> str:
    return next(iter(ZOO if model in ZOO else OTHERS))


def _differences(
    found: dict[str, dict[str, Any]], seed: int
) -> dict[tuple[str, str], dict[str, SampleEstimate]]:
    """What each model is left with more than the plain one of its network, by attack."""
    apart = {}
    for model, ways in found.items():
        plain = _plain(model)
        if model == plain or plain not in found:
            continue
        for name, one in ways.items():
            rows = [_by_pair(one), _by_pair(found[plain][name])]
            losses = rows[0][:, 0] - rows[1][:, 0]
            both = torch.cat([row[:, 1:] for row in rows], 1)
            apart[model, name] = {
                "log10_loss": mean_of(losses.tolist(), seed),
                "share": bootstrapped(both.tolist(), _more_left, seed),
            }
    return apart


def _by_pair(one: dict[str, Any]) -> Tensor:
    """(pairs, 4): log10 of the loss, and -log p attacked, of the source and of the target."""
    loss = torch.tensor(one["loss"]).clamp_min(1e-12).log10().mean(0)
    attacked = torch.tensor(one["unlikely"]).mean(0)
    ends = (torch.tensor(one[k]) for k in ("unlikely_clean", "unlikely_target"))
    return torch.stack([loss, attacked, *ends], 1)


def _more_left(drawn: Any) -> float:
    """Of rows (attacked, source, target) of one model and of another: the shares' difference."""
    sums = drawn.sum(0)
    shares = [(sums[i] - sums[i + 2]) / (sums[i + 1] - sums[i + 2]) for i in (0, 3)]
    return float(shares[0] - shares[1])


def _figure(results: dict[str, Any]) -> Figure:
    figure = blank(9, 3.6)
    panels = figure.subplots(1, len(ATTACKS), sharey=True)
    for ax, name in zip(panels, ATTACKS, strict=True):
        for number, (model, one) in enumerate(results.items()):
            start, end = one["ends"]
            shares = [(v - end) / (start - end) for v in one[name]["by_weight"]]
            ax.plot(one[name]["weights"], shares, label=model, **style(number))
        ax.set(xscale="log", xlabel="lambda", title=name)
    panels[0].set_ylabel("-log p, from the target's own (0) to unattacked (1)")
    panels[0].legend(frameon=False, fontsize="small")
    return figure
