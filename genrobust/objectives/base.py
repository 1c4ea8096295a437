"""The contract of objectives, and their registry."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from genrobust.batch import Context
from genrobust.registry import Registry


class Objective(Protocol):
    """A function of adversarial images, differentiable with respect to them.

    Its loss must not couple samples: entry i depends on image i alone. A registered one is an
    attack of its own, ``objective:NAME``; its class may say ``needs_judge`` and ``goals``, as
    attacks do.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch
        >>> x = genrobust.load_images("digits").take([0, 1])
        >>> context = Context(genrobust.load_model("vae"), Batch(x, (0, 1), target_x=x.flip(0)))
        >>> objective = OBJECTIVES.get("output-distance")()
        >>> objective(x, context).shape
        torch.Size([2])
    """

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        """The loss of each image, (B,); ``context`` holds model, sources, targets, judge."""
        ...


OBJECTIVES: Registry[type[Objective]] = Registry(
    "objective",
    {
        "latent-distance": "genrobust.objectives.latent:LatentDistance",
        "latent-squared-distance": "genrobust.objectives.latent:SquaredLatentDistance",
        "latent-divergence": "genrobust.objectives.divergence:LatentDivergence",
        "output-distance": "genrobust.objectives.output:OutputDistance",
        "damage": "genrobust.objectives.output:Damage",
        "output-squared-error": "genrobust.objectives.output:SquaredOutputError",
        "code-switch": "genrobust.objectives.code_switch:CodeSwitch",
        "judge-margin": "genrobust.objectives.classifier:JudgeMargin",
        "judge-cross-entropy": "genrobust.objectives.classifier:JudgeCrossEntropy",
        "kos-classifier": "genrobust.objectives.kos:ProbeLoss",
        "kos-lvae": "genrobust.objectives.kos:VAELoss",
        "kos-latent": "genrobust.objectives.kos:LatentMatch",
        "latent-wasserstein": "genrobust.objectives.divergence:LatentWasserstein",
        "target-elbo": "genrobust.objectives.elbo:TargetELBO",
        "drawn-output-distance": "genrobust.objectives.draws:DrawnOutputDistance",
        "posterior-match": "genrobust.objectives.kuzina:PosteriorMatch",
        "probe-cross-entropy": "genrobust.objectives.kuzina:ProbeCrossEntropy",
        "photoguard": "genrobust.objectives.photoguard:EncoderDistance",
        "universal-damage": "genrobust.objectives.universal:UniversalDamage",
    },
)
