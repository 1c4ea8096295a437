"""The rule for data without labels: the reconstruction is nearer to another one than to its own."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.distance import euclidean
from genrobust.judges.judge import NO_VERDICT
from genrobust.rules.base import CHANGED, KEPT, Rule, Sources, Words
from genrobust.rules.line import shows


class Distance(Rule):
    """The reconstruction is nearer (in L2) to the target's clean one than to the source's.

    Where the clean reconstruction does not show its source, nothing is to be told: it lies outside
    the source's line (:func:`genrobust.rules.line.line`), as of untrained weights.
    """

    name = "distance"
    judges_needed = (0, 0)
    labelled = False
    targets = True
    words = Words(
        found="without an attack {} sources are reconstructed better than by one picture for all",
        changed="bring {} of these nearer to their target's",
        shows="nearer to the target's",
        legend="robust accuracy: of all sources, not brought nearer to their target's "
        "reconstruction by any attack\n"
        "changed: by any attack; to target: by one that aimed at it; [95% interval]",
        eligible="A source whose clean reconstruction is nearer to it (in L2) than 0.9 of the "
        "distance of the data set's mean picture, and not nearer to its target's.",
        success="By distance, an attack succeeds if the reconstruction of the attacked image is "
        "nearer (in L2) to the clean reconstruction of the target than to that of the source. "
        "There are no judges and no classes.",
        as_ignore_target="The share of eligible sources on which any attack succeeded.",
        as_target="Likewise, of attacks that aimed at the target.",
    )

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        assert sources.target_reconstruction is not None
        to_target = euclidean(images, sources.target_reconstruction)
        nearer = to_target < euclidean(images, sources.reconstruction)
        told = shows(sources.reconstruction, sources)
        return torch.where(nearer, CHANGED, KEPT).where(told, NO_VERDICT)
