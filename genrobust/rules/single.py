"""The rule of the published attacks: one judge's word, for some with its dropout left on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from genrobust.judges.judge import Judge
from genrobust.rules.base import Rule, Sources, Words


class Single(Rule):
    """One judge sees another class in the reconstruction; the attacked image is not looked at."""

    name = "single"
    judges_needed = (1, 1)
    words = Words(
        found="the judge recognises {} sources in their clean reconstruction",
        eligible="A source whose class the judge sees in its clean reconstruction.",
        success="An attack succeeds if the judge sees another class in the reconstruction of the "
        "attacked image; the image itself is not looked at.",
        pictures="“shows” is what the judge sees in the reconstruction.",
        judges=("A single one scores, as in published attacks.",),
    )

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        return self.judges[0].labels(images)


class SingleLive(Single):
    """Likewise, and the judge's dropout draws, as in published code that leaves it in train mode.

    Raises:
        GenrobustError: the judge has no dropout.
    """

    name = "single-live"
    draws = True
    words = replace(
        Single.words,
        judges=(
            *Single.words.judges,
            "Its dropout draws, so that it errs even without an attack.",
        ),
    )

    def __init__(self, judges: Sequence[Judge] = ()) -> None:
        super().__init__([judge.live() for judge in judges])
