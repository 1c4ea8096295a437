"""The work of ``genrobust list`` and ``genrobust show``."""

from __future__ import annotations

import inspect
import json
from typing import Any

from genrobust.cli.streams import print_result
from genrobust.errors import GenrobustError, unknown_name


def print_names(kind: str) -> None:
    """The registered names of a kind, one a line."""
    registries = _registries()
    if kind not in registries:
        raise unknown_name("kind", kind, registries)
    print_result("\n".join([*registries[kind].names(), *registries[kind].families()]))


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
    print_result(printers[kind](name))


def _suite(name: str) -> str:
    from genrobust.suites.suite import load_suite

    return load_suite(name).model_dump_json(indent=1)


def _attack(name: str) -> str:
    from genrobust.attacks.base import make_attack

    attack = make_attack(name)
    settings = [f"  {key} = {value!r}" for key, value in attack.settings().items()]
    facts = [
        f"{attack.name}: {attack.paper}",
        f"goals: {', '.join(attack.goals)}; norms: {', '.join(attack.norms)}",
        *(["settings:", *settings] if settings else ["no settings"]),
    ]
    return "\n".join([inspect.getdoc(attack) or "", "", *facts])


def _card(name: str, dataset: str) -> str:
    from genrobust.models.zoo import MODELS, WEIGHTS, zoo_card

    card = zoo_card(name, dataset)
    if card is None:
        if name not in MODELS:
            raise unknown_name("model", name, MODELS.names())
        shipped = sorted(p.parent.name for p in WEIGHTS.glob(f"*/{name}.json"))
        raise GenrobustError(
            f"no weights of '{name}' for '{dataset}' ship with genrobust, so there is no card; "
            f"there is one for --dataset {' or '.join(shipped) or 'none'}"
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
    from genrobust.models.zoo import MODELS
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
