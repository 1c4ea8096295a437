"""The settings of an attack: what its class declares, and what a user gives for them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, InitVar, dataclass
from functools import cached_property, reduce
from inspect import get_annotations
from operator import or_
from types import MemberDescriptorType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from genrobust.arguments import bare
from genrobust.errors import GenrobustError, did_you_mean
from genrobust.plugins import blamed, is_ours

#: A part of something: a little of it, or all.
Share = Annotated[float, Field(gt=0, le=1)]

#: The longest value that a sentence tells in full.
LONGEST = 60


@dataclass(frozen=True)
class Setting:
    """A field that an attack's class declares.

    Args:
        attack: the attack's name.
        name: what it is called.
        hint: the type of its values.
        default: what it has where nothing is given; ``MISSING`` where something must be.
        bounded: the type with the ranges that are declared with it, as by ``Annotated``.
    """

    attack: str
    name: str
    hint: Any
    default: Any
    bounded: Any

    @property
    def needed(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING

    @property
    def kind(self) -> str:
        """The type in the words of its declaration.

        >>> Setting("mine", "a", float, 0.5, Share).kind
        'float'
        >>> Setting("mine", "b", tuple[int, ...], (), tuple[int, ...]).kind
        'tuple[int, ...]'
        """
        if get_origin(self.hint) is Union:  # as an alternative with a range is written
            return str(reduce(or_, get_args(self.hint)))
        plain = isinstance(self.hint, type) and not get_args(self.hint)
        return self.hint.__name__ if plain else str(self.hint)

    @cached_property
    def _type(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.hint)

    def taken(self, value: Any) -> Any:
        """The value as the class takes it.

        What JSON has none of, such as a tuple, a path or an enumeration, may also be given as JSON
        has it, as a suite's file must.

        Raises:
            GenrobustError: it is of another kind, NaN, outside the range that is declared, or a
                count without one that is below 1 (or below its default).
        """
        found = self._of_its_kind(bare(value))
        lowest = min(1, self.default) if type(self.default) is int else 1
        is_count = self.bounded in (int, int | None)
        if is_count and found is not None and found < lowest:
            raise self._refused(value, f"; it must be {lowest} or more")
        if isinstance(found, float) and not math.isfinite(found):
            raise self._refused(value, "; it must be a finite number")
        try:
            TypeAdapter(self.bounded).validate_python(found, strict=True)
        except ValidationError as problem:
            raise self._refused(value, self._why(problem, value)) from problem
        return found

    def _of_its_kind(self, value: Any) -> Any:
        try:
            self._type.validate_python(value, strict=True)
            return value
        except ValidationError as problem:
            try:
                return self._type.validate_json(json.dumps(value), strict=True)
            except (ValueError, TypeError):
                raise self._refused(value, self._why(problem, value)) from problem

    def _why(self, problem: ValidationError, given: Any) -> str:
        return f": {problem.errors()[0]['msg']}; {self._allowed(given)}"

    def _allowed(self, given: Any) -> str:
        if near := did_you_mean(str(given), map(str, get_args(self.hint))):
            return near.strip()
        return (
            f"its type is {self.kind}" if self.needed else f"its default is {_brief(self.default)}"
        )

    def _refused(self, given: Any, why: str) -> GenrobustError:
        return GenrobustError(f"the attack '{self.attack}' got {self.name}={_brief(given)}{why}")


def declared(name: str, kind: type) -> dict[str, Setting]:
    """The settings of an attack by name.

    Raises:
        GenrobustError: the class, a plugin's, cannot tell them.

    Example:
        >>> from genrobust.attacks import ATTACKS
        >>> [setting.default for setting in declared("pgd", ATTACKS.get("pgd")).values()][:1]
        [40]
    """
    require_fields(f"the attack '{name}'", kind)
    with blamed(f"the attack '{name}'", kind):
        hints, bounded = get_type_hints(kind), get_type_hints(kind, include_extras=True)
        return {
            field.name: Setting(
                name, field.name, hints[field.name], _default(field), bounded[field.name]
            )
            for field in dataclasses.fields(kind)
            if field.init
        }


def require_fields(who: str, kind: Any) -> None:
    """Assert that what a class from outside declares as a setting is one.

    Under no ``@dataclass`` of its own a class has its parent's fields alone, and a value without a
    type leaves a field its parent's default: it would run with other settings than its code shows.

    Raises:
        GenrobustError: it declares what is none, or a default that a field does not have.

    Example:
        >>> from genrobust.attacks.latent import Latent
        >>> class Longer(Latent):
        ...     __module__ = "mine"
        ...     steps = 1000
        >>> require_fields("the attack 'longer'", Longer)
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: the attack 'longer' declares steps = 1000, and runs ...
    """
    if is_ours(kind):
        return
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, field in fields.items():
        shown = getattr(kind, name, field.default)
        overridden = shown is not field.default and not isinstance(shown, MemberDescriptorType)
        if overridden and field.default_factory is MISSING:
            has = "without it" if field.default is MISSING else f"with {_brief(field.default)}"
            raise _no_field(who, f"{name} = {_brief(shown)}, and runs {has}", name)
    with blamed(who, kind):
        hints = get_type_hints(kind)
    ours, theirs = (
        {name for part in kind.__mro__ if is_ours(part) is own for name in get_annotations(part)}
        for own in (True, False)
    )
    for name in sorted(theirs - ours - fields.keys()):
        constant = ClassVar in (hints[name], get_origin(hints[name]))
        if not (constant or name.startswith("_") or isinstance(hints[name], InitVar)):
            raise _no_field(who, f"{name}, of which its class makes no setting", name)


def _no_field(who: str, what: str, name: str) -> GenrobustError:
    return GenrobustError(
        f"{who} declares {what}; give '{name}' a type in its class, and the class "
        "@dataclass(frozen=True) of its own, or say that it is a ClassVar"
    )


def _brief(value: Any) -> str:
    """A value as a sentence can hold it: a model or a long list by its kind."""
    told = repr(value)
    return told if len(told) <= LONGEST and "\n" not in told else f"a {type(value).__name__}"


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def settled(name: str, kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for an attack, as its class takes it.

    Raises:
        GenrobustError: there is no such setting, or one that must be given is not; as by
            :meth:`Setting.taken`.
    """
    who, settings = f"the attack '{name}'", declared(name, kind)
    for key in given:
        if key not in settings:
            raise GenrobustError(
                f"{who} has no setting '{key}';{did_you_mean(key, settings)} Settings: "
                f"{', '.join(settings) or 'none'}"
            )
    missing = [one for one in settings.values() if one.needed and one.name not in given]
    if missing:
        needed = " and ".join(f"{one.name}=, of type {one.kind}" for one in missing)
        typed = ", ".join(f'"{one.name}": ...' for one in missing)
        raise GenrobustError(
            f"{who} needs {needed}; give it, in a suite's file as "
            f'"settings": {{{typed}}}, or let its class have a default'
        )
    with blamed(who, kind):
        return {key: settings[key].taken(value) for key, value in given.items()}
