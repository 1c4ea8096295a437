"""A suite for any pictures: sources drawn by key, targets of other classes, radii that tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from genrobust.attacks.base import LABELLED, make_attack
from genrobust.attacks.run import attack
from genrobust.data.base import DATASETS, Images, data_at, load_images
from genrobust.data.reference import DRAWN, Reference, drawn
from genrobust.distance import euclidean
from genrobust.errors import GenrobustError
from genrobust.judges import Roles, roles
from genrobust.models.model import GenerativeModel
from genrobust.names import part_of
from genrobust.rules.base import RULES
from genrobust.seeding import generator, seeded
from genrobust.suites.make import quick, standard
from genrobust.suites.suite import (
    MAX_DRAWS,
    MAX_SAMPLES,
    SUITES,
    AttackEntry,
    JudgeRef,
    Suite,
    grid,
    require_judges,
)

#: Under which suites are drawn.
NORM = "linf"

#: The rules without labels, the better one first.
WITHOUT_LABELS = ("damage", "distance")

#: The radii that are tried for where half of a few sources fall, in steps of 1/255.
LADDER = (1, 2, 4, 8, 16, 32, 64)
FEW = 8
STEPS = 20


def draw(
    model: GenerativeModel,
    data: Reference,
    judges: Sequence[str] = (),
    *,
    sources: int | None = None,
    rule: str | None = None,
    radii: Sequence[float] = (),
    data_root: str | Path | None = None,
) -> Suite:
    """A suite on pictures, at the shape that a model takes.

    Which pictures are its sources is drawn by key, as many of each class; each aims at another
    source, of another class where there are classes. Radii are set so that a robustness curve falls
    between them: ``r / 4``, ``r / 2``, ``r`` and ``2 r``, where ``r`` is the smallest of 1, 2, 4,
    ... 64 steps of 1/255 at which a short attack on the output brings half of a few sources nearer
    to their target.

    Args:
        model: whose shape and, without ``radii``, whose radii they are.
        data: where the pictures are; what it says of their shape counts less than the model's.
        judges: the first attacks, the others score; see :func:`genrobust.judges.roles`. Without any
            a rule without labels scores.
        sources: how many; default 100, or all where there are fewer.
        rule: of success; default ``agreement`` with judges.
        radii: these, in place of the search.
        data_root: where relative places are looked for.

    Raises:
        GenrobustError: the pictures or judges are not there or do not fit; fewer than are asked;
            the rule has no use for the judges, or a radius cannot be one.
    """
    default = "agreement" if judges else _without_labels()
    chosen = default if rule is None else rule
    who = _roles(chosen, judges)
    asked = grid(radii)
    with data_at(data_root):
        reference, images, ids, told = _taken(model, data, sources, bool(judges), data_root)
        kinds = 0 if images.labels is None else len(images.labels[ids].unique())
        if judges and kinds == 1:
            raise GenrobustError(
                f"all pictures of '{data.place}' are of one class, and judges need two; put the "
                "pictures of each class into a sub-folder of its own, or leave --judge out"
            )
        targets = _targets(images.raw, images.labels if judges else None, ids)
        name = reference.name
        refs = {judge: JudgeRef.of(name, judge) for judge in judges}
        how = "as given" if asked else f"from a short search on {model.name}"
        return Suite(
            name=name_of(data),
            version=1,
            description=f"{len(ids)} pictures of '{data.place}'"
            + (f", evenly of {kinds} classes, " if kinds else ", ")
            + f"{told}; radii {how}.",
            dataset=name,
            split="test",
            data_sha256=images.sha256,
            sample_ids=tuple(ids),
            target_ids=tuple(targets),
            norm=NORM,
            eps=asked or _radii(model, images, ids, targets),
            attacks=_attacks(labelled=RULES.get(chosen).labelled),
            ensemble=True,
            rule=chosen,
            attacker_judge=None if who is None else refs[who.attacker],
            scoring_judges=() if who is None else tuple(refs[judge] for judge in who.scorers),
            chunk_size=min(50, len(ids)),
            confidence=0.95,
            resamples=min(2000, MAX_DRAWS // len(ids)),
        )


def name_of(data: Reference) -> str:
    """What a suite on such data is called.

    >>> name_of(Reference("my/faces")), name_of(Reference("mine.py:data"))
    ('faces', 'mine-data')
    """
    file, colon, function = data.place.rpartition(":")
    stem = Path(file if colon else data.place)
    words = stem.stem if stem.suffix in (".py", ".npz", ".npy") else stem.name
    name = part_of(f"{words}-{function}" if colon else words)
    return f"own-{name}" if name in SUITES else name


def _roles(rule: str, judges: Sequence[str]) -> Roles | None:
    """What the judges do, where a rule goes by such."""
    kind, who = RULES.get(rule), roles(judges) if judges else None
    if who is not None and not kind.labelled:
        raise GenrobustError(
            f"the rule '{rule}' scores without judges; leave --judge out, or choose another --rule"
        )
    require_judges(kind, 0 if who is None else len(who.scorers), who is not None)
    return who


def _taken(
    model: GenerativeModel,
    data: Reference,
    sources: int | None,
    labelled: bool,
    root: str | Path | None,
) -> tuple[Reference, Images, list[int], str]:
    """The data as it is named, its images, which of them are sources, and what was done to them."""
    shape = data.shape or model.input_shape
    if shape != model.input_shape:
        raise GenrobustError(
            f"the data is asked for at {shape} and the model takes {model.input_shape}; leave "
            "'shape=' out, or wrap the model for images of that shape"
        )
    asked = (data.draw or None) if sources is None else sources
    plain = data.place in DATASETS and data.channels is None
    if plain and DATASETS.get(data.place).image_shape == shape:
        images = load_images(data.place, "test", root)
        count = _number(data.place, asked, len(images))
        told = "at the size of the data set"
        return Reference(data.place), images, drawn(images.labels, len(images), count), told
    folder = None if root is None else Path(root)
    known = data.pictures("test", folder, labelled)
    if labelled:
        data.require_labels(known)
    taken = replace(
        data,
        shape=shape,
        kinds=data.classes_of(known),
        draw=_number(data.place, asked, known.count),
    )
    images, told = taken.taken_of(known)
    if taken.is_code and taken.read("test", folder)[0].sha256 != images.sha256:
        raise GenrobustError(
            f"the pictures of '{data.place}' are others at each reading, so that nothing "
            "measured on them could be measured again; take random transforms out of the data set, "
            "and draw what else is random from a generator with a seed"
        )
    return taken, images, list(range(len(images))), told


def _attacks(labelled: bool) -> tuple[AttackEntry, ...]:
    """The members of the ensemble, at the suites' budgets; without labels those that need none."""
    found = [quick(entry) for entry in standard()]
    if labelled:
        return tuple(found)
    found = [
        e for e in found if not LABELLED & set(make_attack(e.attack, e.settings).needs(e.goal))
    ]
    return (*found, AttackEntry(attack="damage", goal="untargeted"))


def _number(place: str, asked: int | None, there: int) -> int:
    if there < 2:
        raise GenrobustError(
            f"'{place}' has one picture, and a suite needs two sources, as one aims at the other; "
            "give two pictures or more"
        )
    if asked is None:
        return min(DRAWN, there)
    if asked < 2:
        raise GenrobustError(
            f"{asked} of the pictures of '{place}' are asked for, and a suite needs two sources, "
            "as one aims at the other; give --sources 2 or more"
        )
    most = min(there, MAX_SAMPLES)
    if asked > most:
        raise GenrobustError(
            f"'{place}' has {there} pictures, and {asked} are asked for; give --sources {most} or "
            "fewer"
        )
    return asked


def _without_labels() -> str:
    return next(rule for rule in WITHOUT_LABELS if rule in RULES)


def _targets(raw: Tensor, labels: Tensor | None, ids: list[int]) -> list[int]:
    """For each source another, of a class that is drawn by key among the others.

    Raises:
        GenrobustError: there are no classes, and all pictures are the same one.
    """
    of_kind: dict[int, list[int]] = {}
    for i in ids:
        of_kind.setdefault(0 if labels is None else int(labels[i]), []).append(i)
    targets = []
    for place, i in enumerate(ids):
        draws = generator("target", i)
        if labels is None:
            pick = int(torch.randint(len(ids) - 1, (), generator=draws))
            targets.append(_unlike(raw, i, ids, pick + (pick >= place)))
            continue
        kinds = sorted(of_kind.keys() - {int(labels[i])})
        others = of_kind[kinds[int(torch.randint(len(kinds), (), generator=draws))]]
        targets.append(others[int(torch.randint(len(others), (), generator=draws))])
    return targets


def _unlike(raw: Tensor, source: int, ids: list[int], first: int) -> int:
    """The picture at a place in ``ids``, or after it, that is no copy of the source.

    What aims at a copy is where it is to go, so that no attack could change it.
    """
    for place in range(first, first + len(ids)):
        other = ids[place % len(ids)]
        if not torch.equal(raw[other], raw[source]):
            return other
    raise GenrobustError(
        f"the {len(ids)} pictures that are drawn are all the same one, and a source aims at "
        "another; give pictures that differ"
    )


def _radii(
    model: GenerativeModel, images: Images, ids: list[int], targets: list[int]
) -> tuple[float, ...]:
    """Around the radius at which half of a few sources fall to one cheap attack."""
    few = drawn(None, len(ids), min(FEW, len(ids)))
    x = images.take([ids[i] for i in few]).to(model.device)
    target = images.take([targets[i] for i in few]).to(model.device)
    with seeded(model.device, "radii"), torch.no_grad():
        own, other = model.reconstruct(x), model.reconstruct(target)
        for radius in LADDER:
            with torch.enable_grad():
                found = attack("output", model, x, target=target, eps=radius / 255, steps=STEPS)
            seen = model.reconstruct(found.x_adv)
            if float((euclidean(seen, other) < euclidean(seen, own)).double().mean()) >= 0.5:
                break
    steps = sorted({max(1, radius // 4), max(1, radius // 2), radius, 2 * radius})
    return tuple(step / 255 for step in steps)
