"""The images of a suite: what it names is there, is what it says, and fits its rule."""

from __future__ import annotations

import warnings
from collections import Counter

import torch
from torch import Tensor

from genrobust.attacks.base import make_attack
from genrobust.data.base import DATASETS, Images, is_reference, load_images
from genrobust.data.reference import reference_images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.rules.base import RULES
from genrobust.runner.options import Options
from genrobust.suites.suite import Suite, warn_of_wide
from genrobust.threat import TOLERANCE

#: How many training images are handed to attacks that need some.
REFERENCES = 1000

#: How many images are looked at together.
AT_ONCE = 1000

#: Images whose pixels fill less than this share of the way from black to white are told so: what
#: has 4 bits of a byte, or 12 of 16, fills a sixteenth.
FAINT = 0.1


def images_of(suite: Suite, options: Options) -> Images:
    """The images that the suite draws from, checked.

    Raises:
        GenrobustError: they are missing, are others than the suite's, or do not fit its rule; it
            names one that is none, or one twice; a pixel is outside [0, 1].
    """
    images = load_images(suite.dataset, suite.split, options.data_root)
    if images.sha256 != suite.data_sha256:
        advice = "fetch the data set anew"
        if is_reference(suite.dataset):
            advice = (
                "they have changed since it was drawn, or are others at each reading: put them "
                "back or take random transforms out, or draw a new suite with --data (data=)"
            )
        raise GenrobustError(
            f"the {suite.split} images of '{suite.dataset}' are not those of the suite (sha256 "
            f"{images.sha256[:12]}, expected {suite.data_sha256[:12]}); {advice}"
        )
    if images.labels is None and RULES.get(suite.rule).labelled:
        raise GenrobustError(
            f"the images of '{suite.dataset}' have no labels, and the suite '{suite.name}' scores "
            "by judges, which need them; give a suite with the rule 'distance'"
        )
    _require_samples(suite, images)
    warn_of_wide(suite)
    ids = [*suite.sample_ids, *suite.target_ids]
    lowest, highest = 1.0, 0.0
    for first in range(0, len(ids), AT_ONCE):
        pixels = images.take(ids[first : first + AT_ONCE])
        low, high = float(pixels.min()), float(pixels.max())
        _require_range(low, high, suite)
        lowest, highest = min(lowest, low), max(highest, high)
    if highest - lowest < FAINT:
        _warn_of_faint(lowest, highest, suite)
    return images


def _require_samples(suite: Suite, images: Images) -> None:
    """Sources and targets are images of the data set, each source once, of classes that it has.

    Raises:
        GenrobustError: they are not, or a source is to imitate itself or its own class.
    """
    who = f"the suite '{suite.name}'"
    for name in ("sample_ids", "target_ids"):
        wrong = [i for i in getattr(suite, name) if not 0 <= i < len(images)]
        if wrong:
            raise GenrobustError(
                f"{who} names the image {wrong[0]} in {name}, and the {suite.split} images of "
                f"'{suite.dataset}' are 0 to {len(images) - 1}; correct the suite"
            )
    ids = suite.sample_ids
    twice = next((i for i, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise GenrobustError(
            f"{who} names the image {twice} twice in sample_ids, which key the random draws; name "
            "each once"
        )
    rule = RULES.get(suite.rule)
    if not rule.labelled:
        if rule.targets or any(entry.goal == "targeted" for entry in suite.attacks):
            _require_others(suite)
        return
    labels, targets = (images.labels_of(i).tolist() for i in (ids, suite.target_ids))
    count = len(DATASETS.get(suite.dataset).classes)
    outside = next((c for c in [*labels, *targets] if c >= count), None)
    if outside is not None:
        raise GenrobustError(
            f"'{suite.dataset}' has an image of class {outside} and names {count} classes; number "
            "its classes from 0 and name them all"
        )
    for i, own, aim in zip(ids, labels, targets, strict=True):
        if own == aim:
            raise GenrobustError(
                f"{who} gives the image {i} a target of its own class, which it shows without an "
                "attack; give it another target"
            )


def _require_others(suite: Suite) -> None:
    """No source aims at itself, where an attack would find nothing to do.

    Raises:
        GenrobustError: one does.
    """
    for i, aim in zip(suite.sample_ids, suite.target_ids, strict=True):
        if i == aim:
            raise GenrobustError(
                f"the suite '{suite.name}' gives the image {i} itself as its target, which it "
                "shows without an attack; give it another target"
            )


def _require_range(low: float, high: float, suite: Suite) -> None:
    """Before a model or an attack is blamed for what the data are."""
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # also NaN
        raise GenrobustError(
            f"the {suite.split} images of '{suite.dataset}' have pixels from {low:.4g} to "
            f"{high:.4g} where [0, 1] is allowed; let the data set give bytes, or floats in [0, 1] "
            "such as images / 255"
        )


def _warn_of_faint(low: float, high: float, suite: Suite) -> None:
    """A radius is a share of the way from black to white, whatever the images fill of it."""
    warnings.warn(
        f"the pixels of '{suite.dataset}' go from {low:.4g} to {high:.4g}, and radii are shares of "
        "the way from 0, black, to 1, white; if they were divided by 255 twice, or have fewer bits "
        "than their type, stretch them, such as by images / images.max()",
        GenrobustWarning,
        stacklevel=2,
    )


def references_of(
    suite: Suite, images: Images, options: Options, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """The first training images, if an attack of the suite needs some."""
    needing = {
        entry.attack
        for entry in suite.attacks
        if "references" in make_attack(entry.attack, entry.settings).needs(entry.goal)
    }
    if not needing:
        return None
    found = reference_images(suite.dataset, REFERENCES, options.data_root)
    ids = torch.arange(min(REFERENCES, len(found)))
    labels = found.labels_of(ids)
    if images.labels is not None:
        shown = images.labels[torch.tensor([*suite.sample_ids, *suite.target_ids])]
        _warn_of_lacking(shown, labels, needing)
    return found.take(ids).to(device), labels.to(device)


def _warn_of_lacking(shown: Tensor, labels: Tensor, attacks: set[str]) -> None:
    """Sources and targets are of classes that attacks are not led to."""
    lacking = sorted(set(shown.tolist()) - set(labels.tolist()))
    if lacking:
        warnings.warn(
            f"there is no picture of the classes {', '.join(map(str, lacking))} among those that "
            f"{', '.join(sorted(attacks))} go by, so that they lead to no such class, or refuse "
            "it; put some into the train split",
            GenrobustWarning,
            stacklevel=4,
        )
