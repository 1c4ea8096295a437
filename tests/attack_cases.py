"""Every published attack, what makes it quick, and all that it may ask for."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from linear_problems import COUNT, linear_judge
from torch import Tensor, nn

import genrobust
from genrobust.attacks import ATTACKS
from genrobust.judges import Judge
from genrobust.norms import load_norm
from genrobust.posterior import Categorical, Gaussian, Posterior
from genrobust.seeding import generator

#: Settings that make an attack quick, by its name.
QUICK: dict[str, dict[str, Any]] = {
    "szegedy": {"searches": 2, "iterations": 3},
    "fgsm": {},
    "bim": {"steps": 6, "step_size": 0.02},
    "pgd": {"steps": 6, "relative_step": 0.3},
    "carlini-wagner": {"searches": 2, "steps": 8, "learning_rate": 0.05, "initial": 1.0},
    "sabour": {"iterations": 4},
    "tabacof": {"points": 2, "iterations": 3},
    "gondim-latent": {"points": 2, "steps": 5, "learning_rate": 0.02},
    "gondim-output": {"points": 2, "steps": 5, "learning_rate": 0.02},
    "kos-classifier": {"steps": 10, "epochs": 2, "hidden": 16, "distance_weight": 0.01},
    "kos-lvae": {"steps": 9, "distance_weight": 0.01},
    "kos-latent": {"steps": 10, "distance_weight": 0.01},
    "thesis": {"steps": 8, "learning_rate": 0.02, "distance_weight": 0.1},
}
SWEEP = {"points": 2, "iterations": 2}
#: The same for attacks with variants and the later ones, by a name for the test.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "willetts-kl": ("willetts-kl", SWEEP),
    "willetts-w2": ("willetts-w2", SWEEP),
    "willetts-output": ("willetts-output", SWEEP),
    "willetts-output-drawn": (
        "willetts-output",
        {"points": 1, "iterations": 2, "draws": 1, "likelihood": "gaussian"},
    ),
    "camuto": ("camuto", {"restarts": 2, "iterations": 3}),
    "camuto-published": ("camuto", {"restarts": 2, "iterations": 2, "as_published": True}),
    "kuzina-supervised": ("kuzina-supervised", {"steps": 8, "distance_weight": 0.1}),
    "kuzina-linearised": ("kuzina-linearised", {"steps": 8, "chains": 2}),
    "kuzina": ("kuzina", {"steps": 8, "restarts": 2, "patience": 2}),
    "kuzina-forward": ("kuzina", {"steps": 6, "restarts": 1, "objective": "kl-forward"}),
    "kuzina-reverse": ("kuzina", {"steps": 6, "restarts": 1, "objective": "kl-reverse"}),
    "kuzina-means": ("kuzina", {"steps": 6, "restarts": 1, "objective": "means"}),
    "kuzina-clf": ("kuzina", {"steps": 6, "restarts": 1, "objective": "clf"}),
    "khan": ("khan", {"directions": 2, "scales": 3}),
    "photoguard": ("photoguard", {"steps": 6, "step_size": 0.02}),
    **{
        f"alma-{damage}": ("alma", {"passes": 4, "learning_rate": 0.01, "damage": damage})
        for damage in ("la-l2", "la-wass", "la-skl", "la-cos", "oa", "lma")
    },
    "grill": ("grill", {"passes": 4, "learning_rate": 0.01}),
}
EPS: dict[str, float] = {"linf": 0.07, "l2": 1.5}


class Coarse(nn.Module):
    """Latents of both kinds from 8x8 blocks of a digit: hundreds of attacks on it are soon made."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2 * 4 + 5))
        self.decoder = nn.Sequential(nn.Linear(4 + 5, 16), nn.Tanh(), nn.Linear(16, 64))
        for parameter in self.parameters():
            parameter.data.normal_(std=0.3, generator=generator("coarse", parameter.numel()))

    def encode(self, x: Tensor) -> Posterior:
        out = self.encoder(F.avg_pool2d(x, 4).flatten(1))
        return Posterior((Gaussian(out[:, :4], out[:, 4:8]), Categorical(out[:, 8:])))

    def decode(self, z: Tensor) -> Tensor:
        image = self.decoder(z).sigmoid().view(-1, 1, 8, 8)
        return F.interpolate(image, scale_factor=4.0)


class Explained(nn.Module):
    """Latents of both kinds from what digits have most in common: soon run, and no worse for it."""

    input_shape = (1, 32, 32)

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        flat = images.flatten(1)
        directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh
        self.mean, self.look = nn.Parameter(flat.mean(0)), nn.Linear(1024, 25, bias=False)
        self.look.weight.data.copy_(directions[:25])

    def encode(self, x: Tensor) -> Posterior:
        code = self.look(x.flatten(1) - self.mean)
        spread = 0.1 * code[:, :20] - 2
        return Posterior((Gaussian(code[:, :20], spread), Categorical(code[:, 20:])))

    def decode(self, z: Tensor) -> Tensor:
        return (self.mean + z @ self.look.weight).view(-1, *self.input_shape)


@cache
def explained() -> tuple[genrobust.GenerativeModel, Judge]:
    """Of the digits' training split, and a linear judge of the same images."""
    train = genrobust.load_images("digits", "train")
    images = train.take(range(len(train)))
    judge = linear_judge(1024)
    names = F.one_hot(train.labels, 10).float() - 0.1
    flat = torch.cat([images.flatten(1), torch.ones(len(images), 1)], 1)
    fitted = 10 * torch.linalg.lstsq(flat, names, driver="gelsd").solution
    layer = judge.module[1]
    layer.weight.copy_(fitted[:-1].T)
    layer.bias.copy_(fitted[-1])
    return genrobust.wrap(Explained(images), clamp=True), judge


def norms_of(attack: str) -> list[str]:
    """The norms of ``EPS`` that an attack works under."""
    return [norm for norm in EPS if ATTACKS.get(attack).supports(load_norm(norm))]


def digits(count: int) -> Tensor:
    return genrobust.load_images("digits").take(range(count))


def given(goal: str, judge: Judge, count: int = COUNT) -> dict[str, Any]:
    """All that an attack may ask for: digits, their neighbours as targets, training images."""
    train = genrobust.load_images("digits", "train")
    labels = genrobust.load_images("digits").labels[:count]
    everything: dict[str, Any] = {
        "labels": labels,
        "judge": judge,
        "references": (train.take(range(100)), train.labels[:100]),
    }
    if goal == "targeted":
        targets = {"target": digits(count).roll(1, 0), "target_labels": labels.roll(1)}
        everything.update(targets)
    return everything
