"""A rule that needs neither judges, nor labels, nor targets: the reconstruction is spoiled."""

from __future__ import annotations

from torch import Tensor

from genrobust.rules import Rule, Sources, Words


class Damage(Rule):
    """The squared error to the source is more than ``factor`` times that of the clean one."""

    name = "demo-damage"
    judges_needed = (0, 0)
    labelled = False
    factor = 1.5
    words = Words(
        found="without an attack {} reconstructions are as good as they get",
        changed="spoil {} of these",
        shows="spoiled",
        legend="robust accuracy: of all sources, not spoiled by any attack; [95% interval]",
        eligible="Every source.",
        success=f"An attack succeeds if the error is more than {factor} times the clean one's.",
        as_ignore_target="The share of sources that any attack spoiled.",
        as_target="Likewise, by attacks that aimed at a target.",
    )

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        """``CHANGED``, which is 1, where it is spoiled."""
        error, clean = (
            (shown - sources.x).flatten(1).square().sum(1)
            for shown in (images, sources.reconstruction)
        )
        return (error > self.factor * clean).long()
