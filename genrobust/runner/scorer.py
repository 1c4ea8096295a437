"""What an image shows, by the suite's rule, on the path that the model really uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from genrobust.data.base import Images
from genrobust.errors import GenrobustError, a_few
from genrobust.judges.judge import NO_VERDICT, Judge
from genrobust.models.checks.state import TOLERANCE
from genrobust.models.model import GenerativeModel
from genrobust.plugins import blamed, is_ours
from genrobust.posterior import Posterior
from genrobust.rules.base import RULES, Rule, Sources
from genrobust.runner.constant import Constant
from genrobust.seeding import seeded
from genrobust.suites.suite import Suite

#: Of so many sources a rule from outside is asked one by one.
FEW = 8


@dataclass(frozen=True, eq=False)
class Scorer:
    """Says of reconstructions what they show.

    Args:
        rule: the suite's, with its judges.
        model: the model that is scored.
        seed: of the run; keys the draws of a random deployment.
        constant: of the data set, where one is at hand.
        classes: how many the rule knows on the data set; None where that is not known.
    """

    rule: Rule
    model: GenerativeModel
    seed: int
    constant: Constant | None = None
    classes: int | None = None

    def keyed(self, *key: object) -> AbstractContextManager[None]:
        """Within it, what a random model draws is keyed; others draw nothing."""
        return self.model.keyed(*key, self.seed)

    def reconstruct(self, x: Tensor, sample_ids: Sequence[int]) -> Tensor:
        """Deployed reconstructions, (D, B, C, H, W): D draws of a random deployment, else one.

        A sample's draws are keyed by its id, whatever else is in the batch.

        Raises:
            GenrobustError: the model gave NaN or infinite pixels.
        """
        draws = self.model.draws
        with torch.no_grad():
            if draws == 1 or not len(x):
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
        for tensor in posterior.tensors():
            _require_finite(tensor[None], sample_ids, "codes")
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

    @torch.no_grad()
    def try_rule(self, x: Tensor, images: Tensor, sources: Sources) -> None:
        """Ask a rule from outside more than once before its verdicts count; ours are tested.

        Args:
            x: the sources.
            images: their clean reconstructions, of a random model the first draw.
            sources: all that it may know.

        Raises:
            GenrobustError: it gave other verdicts when it was asked again, or of images beside
                others than alone, or wrote to what it was given; as by :meth:`verdict`.
        """
        if is_ours(self.rule):
            return
        look = partial(self._look_drawing, clean=True) if self.rule.draws else self._look
        for question, ask, given in (
            ("look_at_input", partial(self._asked, "look_at_input"), x),
            ("look", look, images),
        ):
            who = f"the rule '{self.rule.name}'"
            tensors = [given, *(v for v in vars(sources).values() if isinstance(v, Tensor))]
            before = [tensor.clone() for tensor in tensors]
            found = ask(given, sources)
            if not all(map(torch.equal, tensors, before)):
                raise GenrobustError(
                    f"{who} wrote by its {question}() to the images or sources that it was given; "
                    "let it work on a copy, such as images - mean in place of images.sub_(mean)"
                )
            if not torch.equal(ask(given, sources), found):
                raise GenrobustError(
                    f"{who} gave other verdicts by its {question}() when it was asked again about "
                    "the same images; let it keep nothing and draw nothing, or, in look(), draw "
                    "from torch's generators and say draws = True"
                )
            self._try_alone(question, ask, given.flip(0), sources)

    def _try_alone(
        self,
        question: str,
        ask: Callable[[Tensor, Sources], Tensor],
        images: Tensor,
        sources: Sources,
    ) -> None:
        """Of images, not each source's own, verdicts do not depend on what is beside them."""
        few = torch.arange(min(FEW, len(images)))
        alone = torch.cat([ask(images[i], sources[i]) for i in few.split(1)])
        if not torch.equal(alone, ask(images[few], sources[few])):
            raise GenrobustError(
                f"the rule '{self.rule.name}' gave an image another verdict by its {question}() "
                "beside others than alone, and which are beside it changes with a run; let it "
                "treat images one by one, as by images.flatten(1).mean(1) in place of images.mean()"
            )

    @torch.no_grad()
    def verdict(self, images: Tensor, sources: Sources, *, clean: bool = False) -> Tensor:
        """What most draws of (D, B, C, H, W) show, (B,) int64; NO_VERDICT without a majority.

        A rule that draws does so twice for each sample: once for its ``clean`` reconstructions,
        once for all attacked ones.

        Raises:
            GenrobustError: the rule failed, or gave something else than a class for each image.
        """
        look = partial(self._look_drawing, clean=clean) if self.rule.draws else self._look
        votes = torch.stack([look(image, sources) for image in images])
        first = votes.mode(0).values
        majority = (votes == first).sum(0) * 2 > len(votes)
        return torch.where(majority, first, torch.full_like(first, NO_VERDICT))

    @torch.no_grad()
    def input_verdict(self, x: Tensor, sources: Sources) -> Tensor:
        """What sources show, or attacked ones, (B,) int64.

        Raises:
            GenrobustError: as by :meth:`verdict`.
        """
        return self._asked("look_at_input", x, sources)

    def keeps_label(self, x_adv: Tensor, sources: Sources) -> Tensor:
        """Whether attacked images still show their source's class, (B,) bool."""
        return self.input_verdict(x_adv, sources) == sources.labels

    def _look_drawing(self, images: Tensor, sources: Sources, clean: bool) -> Tensor:
        """One image at a time, so that what is drawn depends on the sample alone."""
        seen = []
        for position, i in enumerate(sources.sample_ids):
            one = torch.tensor([position])
            with seeded(images.device, "live", clean, self.seed, int(i)):
                seen.append(self._look(images[one], sources[one]))
        return torch.cat(seen)

    def _look(self, images: Tensor, sources: Sources) -> Tensor:
        return self._asked("look", images, sources)

    def _asked(self, question: str, images: Tensor, sources: Sources) -> Tensor:
        """What the rule says: for each image one of its classes, or NO_VERDICT."""
        who = f"the rule '{self.rule.name}'"
        with blamed(who, self.rule):
            found = getattr(self.rule, question)(images, sources)
        shape = images.shape[:1]
        if not isinstance(found, Tensor) or found.dtype != torch.int64 or found.shape != shape:
            kind = type(found).__name__
            if isinstance(found, Tensor):
                kind = f"{found.dtype} and shape {tuple(found.shape)}"
            raise GenrobustError(
                f"{who} gave verdicts of {kind} for {len(images)} images; let its {question}() "
                "return one int64 for each"
            )
        self._require_classes(found, question)
        return found

    def _require_classes(self, verdicts: Tensor, question: str) -> None:
        most = torch.iinfo(torch.int64).max if self.classes is None else self.classes - 1
        wrong = verdicts[(verdicts != NO_VERDICT) & ((verdicts < 0) | (verdicts > most))]
        if len(wrong):
            known = "numbered from 0" if self.classes is None else f"0 to {most}"
            raise GenrobustError(
                f"the rule '{self.rule.name}' gave the verdict {int(wrong[0])}, and its classes "
                f"are {known}; let its {question}() return one of them, or NO_VERDICT "
                f"({NO_VERDICT}) where it is unsure"
            )


def scorer_of(
    suite: Suite, judges: Sequence[Judge], model: GenerativeModel, seed: int, images: Images
) -> Scorer:
    """The scorer of a model by a suite's rule and judges, with the images of its data set.

    Raises:
        GenrobustError: the rule's code failed, or a judge is none for it.
    """
    kind = RULES.get(suite.rule)
    with blamed(f"the rule '{suite.rule}'", kind):
        rule, classes = kind(judges), kind.classes(suite.dataset)
    return Scorer(rule, model, seed, Constant.of(images), classes or None)


def _require_finite(found: Tensor, ids: Sequence[int], what: str) -> None:
    bad = ~found.transpose(0, 1).flatten(1).isfinite().all(1)
    if bad.any():
        which = [i for i, b in zip(ids, bad.tolist(), strict=True) if b]
        raise GenrobustError(
            f"the model gave NaN or infinite {what} for {len(which)} of {len(ids)} images (sample "
            f"ids {a_few(which)}); a model "
            "that does so cannot be scored: check its weights, and divisions and logarithms in it"
        )
