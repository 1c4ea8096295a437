"""The work of ``genrobust list`` and ``genrobust show``."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
from typing import Any

from genrobust.errors import GenrobustError, unknown_name
from genrobust.registry import Registry

#: What stands behind the colon.
_FAMILIES = {
    "art:*": "An evasion attack of the Adversarial Robustness Toolbox, by its class's name",
    "foolbox:*": "An attack of foolbox, by its class's name",
    "objective:*": "An objective by its name, searched by adaptive PGD",
    "celeba:*": "CelebA in two classes, by one of its attributes, such as celeba:Smiling",
}


def print_names(kind: str) -> None:
    """The registered names of a kind, one a line, each with what it is.

    On a terminal a line ends where the terminal does.
    """
    registries = _registries()
    if kind not in registries:
        raise unknown_name("kind", kind, registries)
    registry = registries[kind]
    rows = [(name, _told(registry, name)) for name in registry.names()]
    rows += [(family, _FAMILIES.get(family, "")) for family in registry.families()]
    wide = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:<{wide}}  {words}".rstrip() for name, words in rows]
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        lines = [line if len(line) <= columns else f"{line[: columns - 1]}…" for line in lines]
    print("\n".join(lines))


def _told(registry: Registry[Any], name: str) -> str:
    """What a registered thing says of itself, in a sentence."""
    try:
        item = registry.get(name)
        words = getattr(item() if registry.kind == "suite" else item, "description", None)
    except GenrobustError as problem:  # a plugin that cannot be imported
        return str(problem)
    module = getattr(item, "__module__", type(item).__module__)
    found = words or item.__doc__ or sys.modules[module].__doc__ or ""
    paragraph = " ".join(inspect.cleandoc(found).split("\n\n")[0].split())
    sentence = re.split(r"(?<! al)\.(?: |$)", paragraph)[0]
    return " ".join(filter(None, (re.sub(r":\w+:|`", "", sentence), _facts(item))))


def _facts(item: Any) -> str:
    """The shape of a data set's images, the paper of an attack."""
    shape, paper = getattr(item, "image_shape", None), getattr(item, "paper", None)
    if isinstance(shape, tuple):
        return f"({' x '.join(map(str, shape))})"
    return f"[{paper}]" if isinstance(paper, str) else ""


def print_one(kind: str, name: str, dataset: str) -> None:
    """One registered thing, or a schema."""
    printers = {
        "suite": _suite,
        "attack": _attack,
        "model": lambda name: _card(name, dataset),
        "schema": _schema,
    }
    if kind not in printers:
        raise unknown_name("kind", kind, printers)
    print(printers[kind](name))


def _suite(name: str) -> str:
    from genrobust.suites.suite import load_suite

    return load_suite(name).model_dump_json(indent=1)


def _attack(name: str) -> str:
    from genrobust.attacks.base import ATTACKS
    from genrobust.attacks.settings import declared

    attack = ATTACKS.get(name)
    settings = [
        f"  {key}: {one.kind}, which must be given" if one.needed else f"  {key} = {one.default!r}"
        for key, one in declared(name, attack).items()
    ]
    facts = [
        f"{attack.name}: {attack.paper}",
        f"goals: {', '.join(attack.goals)}; norms: {', '.join(attack.norms)}",
        *(["settings:", *settings] if settings else ["no settings"]),
    ]
    return "\n".join([inspect.getdoc(attack) or "", "", *facts])


def _card(name: str, dataset: str) -> str:
    from genrobust.models.families import MODELS
    from genrobust.models.zoo import WEIGHTS, zoo_card

    card = zoo_card(name, dataset)
    if card is None:
        if name not in MODELS:
            raise unknown_name("model", name, MODELS.names())
        shipped = sorted(p.parent.name for p in WEIGHTS.glob(f"*/{name}.json"))
        if not shipped:
            raise GenrobustError(
                f"no weights of '{name}' ship with genrobust, so there is no card; 'genrobust "
                f"train' writes {name}.json beside the weights that it trains"
            )
        raise GenrobustError(
            f"no weights of '{name}' for '{dataset}' ship with genrobust, so there is no card; "
            f"there is one for --dataset {' or '.join(shipped)}"
        )
    return card.model_dump_json(indent=1)


def _schema(name: str) -> str:
    from genrobust.evidence.entry import Entry, Outcomes, Verification
    from genrobust.records.curve_record import MinimumNormRecord
    from genrobust.records.record import Record
    from genrobust.suites.suite import Suite

    models: dict[str, Any] = {
        **{"record": Record, "suite": Suite, "curve": MinimumNormRecord},
        **{"entry": Entry, "outcomes": Outcomes, "verification": Verification},
    }
    if name not in models:
        raise unknown_name("schema", name, models)
    return json.dumps(models[name].model_json_schema(), indent=1)


def _registries() -> dict[str, Any]:
    from genrobust.attacks.base import ATTACKS
    from genrobust.data.base import DATASETS
    from genrobust.judges import JUDGES
    from genrobust.models.families import MODELS
    from genrobust.norms import NORMS
    from genrobust.objectives.base import OBJECTIVES
    from genrobust.posterior import PARTS
    from genrobust.rules.base import RULES
    from genrobust.runner.executors.base import EXECUTORS
    from genrobust.suites.suite import SUITES

    kinds = (
        *(MODELS, ATTACKS, OBJECTIVES, DATASETS, JUDGES),
        *(NORMS, PARTS, RULES, SUITES, EXECUTORS),
    )
    return {f"{registry.kind}s": registry for registry in kinds}
