"""The rule of the frozen suites: judges that attacks never see, and that must agree."""

from __future__ import annotations

from torch import Tensor

from genrobust.judges.judge import Panel
from genrobust.rules.base import Rule, Sources, Words


class Agreement(Rule):
    """All judges see another class in the reconstruction, and the source's in the image itself."""

    name = "agreement"
    words = Words(
        found="the judges recognise {} sources both as they are and in their clean reconstruction",
        eligible="A source whose class the judges see in the image and in its clean "
        "reconstruction.",
        success="An attack succeeds if the judges still see the source's class in the attacked "
        "image, but another class in its reconstruction.",
        pictures="“shows” is what the judges see in the reconstruction.",
        judges=(
            "The scoring judges are never seen by the attacks, and count only where they agree.",
        ),
    )

    def look(self, images: Tensor, sources: Sources) -> Tensor:
        return Panel(self.judges).verdict(images)

    def look_at_input(self, x: Tensor, sources: Sources) -> Tensor:
        return Panel(self.judges).verdict(x)
