"""The rule for data without labels: the reconstruction is nearer to another one than to its own."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.distance import euclidean
from genrobust.rules.base import CHANGED, KEPT, Rule, Sources, Words


class Distance(Rule):
    """The reconstruction is nearer (in L2) to the target's clean one than to the source's."""

    name = "distance"
    judges_needed = (0, 0)
    labelled = False
    targets = True
    words = Words(
        found="without an attack {} reconstructions are nearer to their own image's than to the "
        "target's",
        changed="bring {} of these nearer to their target's",
        shows="nearer to the target's",
        legend="robust accuracy: of all sources, not brought nearer to their target's "
        "reconstruction by any attack\n"
        "changed: by any attack; to target: by one that aimed at it; [95% interval]",
        eligible="A source whose clean reconstruction is not nearer to its target's.",
        success="By distance, an attack succeeds if the reconstruction of the attacked image is "
        "nearer (in L2) to the clean reconstruction of the target than to that of the source. "
        "There are no judges and no classes.",
        as_ignore_target="The share of eligible sources on which any attack succeeded.",
        as_target="Likewise, of attacks that aimed at the target.",
    )

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        assert sources.target_reconstruction is not None
        to_target = euclidean(images, sources.target_reconstruction)
        return torch.where(to_target < euclidean(images, sources.reconstruction), CHANGED, KEPT)
