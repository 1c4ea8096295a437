"""One judge's word: the rule of the published attacks, for some with its dropout left on."""

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


class SingleOutput(Single):
    """Likewise, of what a model gives that need not be a picture of the source.

    Such as the error of an autoencoder that detects anomalies, as a picture, of which the judge
    says whether it is too large. That it is unlike its source is no flaw of the model then.
    """

    name = "single-output"
    shows_source = False
    words = replace(
        Single.words,
        found="the judge sees the class of {} sources in what the model gives of them",
        eligible="A source whose class the judge sees in what the model gives of it.",
        success="An attack succeeds if the judge sees another class in what the model gives of the "
        "attacked image; the image itself is not looked at, and what the model gives need not be a "
        "picture of it.",
        legend="robust accuracy: of all sources, told right and not changed by any attack\n"
        "changed, to target: of the sources told right; [95% interval]",
        pictures="“shows” is what the judge sees in what the model gives.",
        as_ignore_target="The share of eligible sources of which the judge was brought to see any "
        "other class.",
    )
