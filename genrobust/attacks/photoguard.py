"""PhotoGuard's encoder attack: the code of the target, or of nothing, by signed steps."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveFloat

from genrobust.attacks.base import Attack
from genrobust.batch import Context
from genrobust.objectives.photoguard import EncoderDistance
from genrobust.optimizers import Minimum, Problem, pgd
from genrobust.threat import ThreatModel

#: Of the first step, what the last would be.
FINAL_SHARE = 0.01


@dataclass(frozen=True)
class PhotoGuard(Attack):
    """Minimise ||h(x_adv) - h(x_t)||_2, untargeted ||h(x_adv)||_2, from a random point.

    h is the vector of means (and centred logits). Steps fall evenly to 1% of the first. The
    paper's images are in [-1, 1]: its eps of 0.06 is 0.03 here, its step of 0.02 is 0.01.

    Args:
        steps: signed gradients.
        step_size: the first, in pixel units.
        as_published: return the last iterate in place of the best.

    Reference:
        Salman, Khaddaj, Leclerc, Ilyas & Madry 2023, "Raising the cost of malicious AI-powered
        image editing", the encoder attack.
    """

    name = "photoguard"
    paper = "Salman et al. 2023"
    norms = ("linf",)
    needs_ball = True

    steps: int = 1000
    step_size: PositiveFloat = 0.01
    as_published: bool = False

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        problem = Problem.of(EncoderDistance(), context)
        return problem, pgd(
            problem,
            threat.random_start(batch.x, batch.sample_ids, batch.seed),
            threat,
            self.steps,
            self.step_size,
            final_share=FINAL_SHARE,
            last=self.as_published,
        )
