"""What an image shows, by the suite's rule: judges that agree, one judge, or the nearer target."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from genrobust.distance import euclidean
from genrobust.errors import GenrobustError
from genrobust.judges.judge import NO_VERDICT, Panel
from genrobust.models.model import GenerativeModel
from genrobust.models.state import TOLERANCE
from genrobust.posterior import Posterior
from genrobust.seeding import seeded
from genrobust.suites.suite import Rule

#: The two "classes" of a suite without labels.
SOURCE, TARGET = 0, 1


@dataclass(frozen=True, eq=False)
class Scorer:
    """Says of reconstructions what they show, on the path that the model really uses.

    Args:
        rule: the suite's.
        panel: the scoring judges; None where the rule is distance.
        model: the model that is scored.
        seed: of the run; keys the draws of a random deployment.
    """

    rule: Rule
    panel: Panel | None
    model: GenerativeModel
    seed: int

    def keyed(self, *key: object) -> AbstractContextManager[None]:
        """Within it, what a random model draws is keyed; others draw nothing."""
        if self.model.draws == 1:
            return nullcontext()
        return seeded(self.model.device, *key, self.seed)

    def reconstruct(self, x: Tensor, sample_ids: Sequence[int]) -> Tensor:
        """Deployed reconstructions, (D, B, C, H, W): D draws of a random deployment, else one.

        A sample's draws are keyed by its id, whatever else is in the batch.

        Raises:
            GenrobustError: the model gave NaN or infinite pixels.
        """
        draws = self.model.draws
        with torch.no_grad():
            if draws == 1:
                images = self.model.reconstruct(x)[None]
            else:
                each = []
                for i, image in zip(sample_ids, x, strict=True):
                    with self.keyed("deployed", int(i)):
                        each.append(self.model.reconstruct(image.expand(draws, *image.shape)))
                images = torch.stack(each, 1)
        _require_finite(images, sample_ids, "pixels")
        return images

    def posterior(self, x: Tensor, sample_ids: Sequence[int]) -> Posterior:
        """What the encoder says of images.

        Raises:
            GenrobustError: NaN or infinite numbers.
        """
        with self.keyed("posterior", sample_ids):
            posterior = self.model.encode(x)
        for part in posterior.parts:
            for field in fields(part):  # type: ignore[arg-type]
                _require_finite(getattr(part, field.name)[None], sample_ids, "codes")
        return posterior

    def check_unchanged(self, x: Tensor, sample_ids: Sequence[int], clean: Tensor) -> None:
        """Check at the end that images still have the reconstructions that they had at first.

        Raises:
            GenrobustError: the model is no longer what it was, or never was one model.
        """
        moved = float((self.reconstruct(x, sample_ids)[0] - clean).abs().max())
        if moved > TOLERANCE:
            raise GenrobustError(
                f"the model '{self.model.name}' reconstructed the same images otherwise after it "
                f"was attacked than before (by up to {moved:.2g}), so that no score would hold; "
                "let it keep nothing from one call to the next, and draw random numbers from the "
                "generators that torch.manual_seed, np.random.seed and random.seed reach"
            )

    def verdict(
        self,
        images: Tensor,
        sample_ids: Sequence[int],
        anchors: tuple[Tensor, Tensor] | None,
        *,
        clean: bool = False,
    ) -> Tensor:
        """What most draws of (D, B, C, H, W) show, (B,) int64; NO_VERDICT without a majority.

        ``anchors`` are the clean reconstructions of sources and targets, for the distance rule:
        it says ``TARGET`` where an image is nearer to the target's. A live judge draws twice for
        each sample: once for its ``clean`` reconstructions, once for all attacked ones.
        """
        votes = torch.stack([self._look(image, sample_ids, anchors, clean) for image in images])
        first = votes.mode(0).values
        majority = (votes == first).sum(0) * 2 > len(votes)
        return torch.where(majority, first, torch.full_like(first, NO_VERDICT))

    def keeps_label(self, x_adv: Tensor, labels: Tensor) -> Tensor:
        """Whether attacked images still show their source's class, (B,) bool.

        Only judges that must agree are asked: the published single-judge rule does not, and
        without labels the ball stands for it.
        """
        if self.rule != "agreement":
            return torch.ones_like(labels, dtype=torch.bool)
        assert self.panel is not None
        return self.panel.verdict(x_adv) == labels

    def _look(
        self,
        image: Tensor,
        sample_ids: Sequence[int],
        anchors: tuple[Tensor, Tensor] | None,
        clean: bool,
    ) -> Tensor:
        if self.panel is not None and self.rule == "single-live":
            return self._look_live(self.panel, image, sample_ids, clean)
        if self.panel is not None:
            return self.panel.verdict(image)
        assert anchors is not None, "the distance rule has anchors"
        nearer = euclidean(image, anchors[1]) < euclidean(image, anchors[0])
        return torch.where(nearer, TARGET, SOURCE)

    def _look_live(
        self, panel: Panel, image: Tensor, sample_ids: Sequence[int], clean: bool
    ) -> Tensor:
        """One image at a time, so that what dropout draws depends on the sample alone."""
        seen = []
        for i, one in zip(sample_ids, image, strict=True):
            with seeded(image.device, "live", clean, self.seed, int(i)):
                seen.append(panel.verdict(one[None]))
        return torch.cat(seen)


def _require_finite(found: Tensor, ids: Sequence[int], what: str) -> None:
    bad = ~found.transpose(0, 1).flatten(1).isfinite().all(1)
    if bad.any():
        which = [i for i, b in zip(ids, bad.tolist(), strict=True) if b]
        raise GenrobustError(
            f"the model gave NaN or infinite {what} for {len(which)} of {len(ids)} images (sample "
            f"ids {', '.join(map(str, which[:5]))}{', ...' if len(which) > 5 else ''}); a model "
            "that does so cannot be scored: check its weights, and divisions and logarithms in it"
        )
