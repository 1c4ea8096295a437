"""What signs go by where a suite has no judge: whether a reconstruction is like its source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from genrobust.batch import Batch
from genrobust.judges.judge import Judge
from genrobust.rules.base import KEPT, Sources

#: Logits from the source to one picture for all.
LOGITS = 20.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Likeness(Judge):
    """A judge of two classes: the source that an image is to show, and one picture for all.

    Its margin is how far the image lies on the way between the two. That is linear in the image:
    unlike the distance from the source it has a slope where a reconstruction is perfect, and
    nothing of it bends or turns, so that what is odd about its gradient is the model's.

    Args:
        x: the sources, (B, C, H, W), to which images are compared one to one.
        constant: one picture for all of them, likewise.
    """

    x: Tensor
    constant: Tensor

    def logits(self, x: Tensor) -> Tensor:
        precision = torch.promote_types(x.dtype, torch.float32)
        images, sources, constant = (t.to(precision) for t in (x, self.x, self.constant))
        way = (sources - constant).flatten(1)
        share = ((images - constant).flatten(1) * way).sum(1)
        share = share / way.square().sum(1).clamp_min(1e-12)
        margin = LOGITS * (share - 0.5)
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    def of(self, index: Tensor) -> Likeness:
        return replace(self, x=self.x[index], constant=self.constant[index])


def guided(batch: Batch, sources: Sources) -> Batch:
    """The untargeted batch as signs are looked for in it: with a judge, of likeness where it has
    none.

    Example:
        >>> x, none = torch.ones(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
        >>> sources = Sources((0, 1), x, none, none, x, None, constant=0 * x)
        >>> judge = guided(Batch(x, (0, 1)), sources).judge
        >>> judge.labels(torch.stack([0.9 * x[0], 0.4 * x[1]])).tolist()
        [0, 1]
    """
    if batch.judge is not None and batch.labels is not None:
        return batch
    assert sources.constant is not None, "a suite's data set is at hand"
    judge = Likeness(
        name="likeness", module=nn.Identity(), sha256="", x=batch.x, constant=sources.constant
    )
    labels = torch.full((len(batch),), KEPT, device=batch.x.device)
    return replace(batch, judge=judge, labels=labels)
