"""Changes to a recipe, as text: ``penalty.beta=8``."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from genrobust.errors import GenrobustError, did_you_mean

R = TypeVar("R", bound=BaseModel)


def changed(given: R, changes: list[str], said: str = "--set") -> R:
    """The recipe with ``KEY=VALUE`` changes; a dot reaches into its network and penalty.

    Args:
        given: the recipe.
        changes: to it.
        said: what errors call a change.

    Raises:
        GenrobustError: no such key, or a value of the wrong kind or size.

    Example:
        >>> from genrobust.training.recipes import recipe
        >>> changed(recipe("betavae", "digits"), ["penalty.beta=8", "steps=10"]).penalty
        Beta(kind='beta', beta=8.0)
    """
    content = _content(given)
    for change in changes:
        path, equals, text = change.partition("=")
        *outer, last = path.split(".")
        place: Any = content
        for key in outer:
            place = place.get(key) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or last not in place:
            keys = _keys(given)
            near = did_you_mean(path, keys) if equals else ""
            raise GenrobustError(
                f"{said} {change} changes nothing;{near} give KEY=VALUE with a key of "
                f"{', '.join(keys)}"
            )
        try:
            place[last] = json.loads(text)
        except (ValueError, RecursionError):  # no JSON, or more of it than Python reads
            place[last] = text
    try:
        return type(given).model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = {str(part) for part in first["loc"]}
        blamed = [c for c in changes if c.partition("=")[0].split(".")[-1] in where] or changes
        raise GenrobustError(
            f"{said} {f' {said} '.join(blamed)} cannot be taken ({first['msg']}); give another "
            "value, as in JSON, such as 8, true or [3, 32, 32], or leave it out"
        ) from problem


def _content(given: BaseModel) -> dict[str, Any]:
    """All its fields, also those that are left out of what is written."""
    return {k: _content(v) if isinstance(v, BaseModel) else v for k, v in given}


def _keys(given: BaseModel) -> list[str]:
    keys: list[str] = []
    for key, value in _content(given).items():
        keys += [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key]
    return keys
