"""The rule without labels: what became of the picture."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from genrobust.batch import Batch
from genrobust.distance import euclidean
from genrobust.rules.base import CHANGED, KEPT, Rule, Sources, Words
from genrobust.rules.line import shows

#: What a reconstruction shows that is lost and nearer to the target's.
TAKEN = 2


class Damage(Rule):
    """The reconstruction no longer shows its source: no nearer than a picture that never changes.

    A source is *clean* where its reconstruction lies inside the source's line
    (:func:`genrobust.rules.line.line`), and it *falls* where an attacked image is still inside and
    its reconstruction is not. A targeted attack must also bring it nearer to the target's clean
    reconstruction than to the source's own.

    One line serves for both, and it is drawn by the data alone, for these reasons. A multiple of
    the model's own clean error would give the most room to the model that reconstructs worst. A
    multiple of the damage by random noise would, likewise, excuse a model that noise breaks; that
    damage stands beside the score in every record instead. Untrained weights and constant pictures
    are outside from the start, and so never robust. The identity carries the change itself and no
    more, so that it falls nowhere: at radii so large that the attacked image alone is beyond the
    line nothing is to be told of a model, and nothing counts.

    L2 in pixels is what is asked: a small detail that carries the meaning can change without it.
    """

    name = "damage"
    judges_needed = (0, 0)
    labelled: ClassVar[bool] = False
    targets = True
    words = Words(
        found="without an attack {} sources are reconstructed better than by one picture for all",
        changed="damage {} of these until that no longer holds",
        shows="damaged",
        legend="robust accuracy: of all sources, reconstructed better than by one picture for all, "
        "under any attack\n"
        "changed: beyond that by any attack; to target: and nearer to the target's; [95% interval]",
        eligible="A source whose clean reconstruction is nearer to it (in L2) than 0.9 of the "
        "distance of the data set's mean picture.",
        success="By damage, an attack succeeds if the attacked image is still that near to the "
        "source and its reconstruction is not. There are no judges and no classes.",
        as_ignore_target="The share of eligible sources on which any attack succeeded.",
        as_target="Likewise, of which the reconstruction is also nearer to the target's clean one "
        "than to the source's. “of wrong” is their share among those on which any attack "
        "succeeded.",
    )

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        assert sources.target_reconstruction is not None
        to_target = euclidean(images, sources.target_reconstruction)
        lost = torch.where(to_target < euclidean(images, sources.reconstruction), TAKEN, CHANGED)
        return torch.where(shows(images, sources), KEPT, lost)

    def look_at_input(self, x: Tensor, sources: Sources) -> Tensor:
        return torch.where(shows(x, sources), KEPT, CHANGED)

    @classmethod
    def classes(cls, dataset: str) -> int:
        return 3

    @classmethod
    def labels_of(cls, batch: Batch) -> tuple[Tensor, Tensor]:
        kept, _ = super().labels_of(batch)
        return kept, torch.full_like(kept, TAKEN)
