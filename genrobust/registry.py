"""One registry for every kind of plugin: models, attacks, datasets, norms, rules, suites, ...

A name comes from one of three places, looked at in this order: what was registered in this
process with the decorator, what genrobust ships (named as ``module:attribute`` and imported only
when asked for), and what installed packages offer through the entry-point group
``genrobust.<kind>s``. A plugin package that fails to import is a warning, not a crash.

Names such as ``foolbox:LinfPGD`` belong to a family: what follows the colon is looked up by a
function of genrobust, in another library.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from genrobust.errors import GenrobustError, GenrobustWarning, unknown_name
from genrobust.foreign import as_script
from genrobust.projects import plain_name

T = TypeVar("T")
Registered = TypeVar("Registered")


class Registry(Generic[T]):
    """Names to objects of one kind.

    Example:
        >>> shapes: Registry[type] = Registry("shape")
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes.get("square").__name__
        'Square'
        >>> shapes.get("sqare")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: unknown shape 'sqare'; did you mean 'square'? Known: square
    """

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, str] | None = None,
        families: Mapping[str, str] | None = None,
        base: type | None = None,
    ) -> None:
        """``families``: the word before a colon to ``module:function``, from the rest to an object.

        The function raises a GenrobustError for a rest that it does not know. ``base``: the class
        whose subclasses are registered, or a protocol that their objects follow.
        """
        self.kind = kind
        self._base = base
        self._builtin = dict(builtin or {})
        self._families = dict(families or {})
        self._registered: dict[str, T] = {}
        self._plugins: dict[str, EntryPoint] | None = None

    @property
    def group(self) -> str:
        """The entry-point group of packages that offer some; its name may hold no blank."""
        return f"genrobust.{self.kind.replace(' ', '_')}s"

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Decorator: make the object available under ``name``.

        Raises:
            GenrobustError: it is no name, or is taken by another object.
        """
        if not isinstance(name, str) or not name:
            given = repr(name) if isinstance(name, str) else f"a {type(name).__name__}"
            raise GenrobustError(
                f"{given} is no {self.kind} name; give one in parentheses, such as register('mine')"
            )

        def decorate(item: Registered) -> Registered:
            if "/" in name or "\\" in name or not name.isprintable() or name.startswith("."):
                raise GenrobustError(
                    f"the {self.kind} name '{name}' would be a path where folders are named after "
                    "it; register it under a plain one, such as 'mine'"
                )
            point = self._entry_points().get(name)
            # A plugin's own module may use the decorator beside its entry point.
            foreign = point is not None and point.module != _origin(item)[0]
            taken = name in self._builtin or self._family(name) is not None or foreign
            known = self._registered.get(name)
            # A module that is reloaded (a notebook) defines the same object again: allow that.
            same = known is not None and _origin(known) == _origin(item)
            if (taken or known is not None) and not same:
                raise GenrobustError(
                    f"the {self.kind} name '{name}' is already taken; register it under another"
                )
            self._registered[name] = cast(T, item)
            return item

        return decorate

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            GenrobustError: nobody registered the name; or the plugin that offers it cannot be
                imported, or is none of this kind.
        """
        if name in self._registered:
            return self._complete(name, self._registered[name])
        if name in self._builtin:
            return cast(T, _load(self._builtin[name]))
        family = self._family(name)
        if family is not None:
            return cast(T, _load(self._families[family])(name.partition(":")[2]))
        plugin = self._entry_points().get(name)
        if plugin is None:
            if "." in name.rpartition(":")[0]:
                raise GenrobustError(
                    f"the {self.kind} '{name}' is a place, and one is known by its name alone; "
                    f"install a package that offers it under the entry-point group '{self.group}', "
                    "or, in Python, register it (docs/plugins.md)"
                )
            raise unknown_name(self.kind, name, [*self.names(), *self.families()])
        try:
            found = _loaded(plugin)
        except (Exception, SystemExit) as problem:
            raise GenrobustError(
                f"the {self.kind} '{name}' comes from the plugin '{plugin.value}', which cannot be "
                f"imported ({type(problem).__name__}: {problem}); repair or uninstall that package"
            ) from problem
        return self._complete(name, found)

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported for it."""
        return sorted({*self._registered, *self._builtin, *self._entry_points()})

    def families(self) -> list[str]:
        """What names of a family look like, such as ``foolbox:*``."""
        return [f"{family}:*" for family in sorted(self._families)]

    def __contains__(self, name: object) -> bool:
        if name in self._registered or name in self._builtin or name in self._entry_points():
            return True
        if not isinstance(name, str) or self._family(name) is None:
            return False
        try:
            self.get(name)
        except GenrobustError:
            return False
        return True

    def _complete(self, name: str, item: Any) -> T:
        """The object, if it has all that its kind must have; ours have."""
        lacking = None if self._base is None else _lacking(item, self._base)
        if lacking is not None:
            raise GenrobustError(
                f"the {self.kind} '{name}' {lacking}; repair or uninstall the plugin that "
                "registers it"
            )
        return cast(T, item)

    def _family(self, name: str) -> str | None:
        family, colon, _ = name.partition(":")
        return family if colon and family in self._families else None

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._plugins is None:
            self._plugins = {}
            for point in entry_points(group=self.group):
                if point.name in self._builtin:
                    warnings.warn(
                        f"the plugin '{point.value}' offers a {self.kind} named '{point.name}', "
                        "which genrobust itself has; the plugin's is left out",
                        GenrobustWarning,
                        stacklevel=2,
                    )
                    continue
                self._plugins[point.name] = point
        return self._plugins


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _loaded(plugin: EntryPoint) -> Any:
    """What a plugin offers; what its module sets of the process as it is imported is put back.

    A filter of warnings, a default type or a seed would be those of all that is measured after it.
    Where modules are looked for stays, as the plugin may import the rest of its own later.
    """
    if plugin.module in sys.modules:  # also in threads, which share all of that
        return plugin.load()
    with as_script(plugin.value):
        found, path = plugin.load(), [*sys.path]
    sys.path[:] = path
    return found


def _lacking(item: Any, base: type) -> str | None:
    """What keeps an object from being one of a kind, in words; None if nothing does."""
    home = f"{base.__module__}.{base.__qualname__}"
    if getattr(base, "_is_protocol", False):
        named: Iterable[str] = vars(base)
    elif isinstance(item, type) and issubclass(item, base):
        named = (*vars(base), *vars(base).get("__annotations__", ()))
    else:
        return f"is {_shown(item)}, and no subclass of {home}"
    abstract: frozenset[str] = getattr(item, "__abstractmethods__", frozenset())
    public = dict.fromkeys(name for name in named if not name.startswith("_"))
    missing = [name for name in public if name in abstract or not hasattr(item, name)]
    return f"lacks {', '.join(missing)}, which {home} tells of" if missing else None


def _shown(item: Any) -> str:
    return (
        f"the class {item.__qualname__}" if isinstance(item, type) else f"a {type(item).__name__}"
    )


def _origin(item: object) -> tuple[str, str]:
    return plain_name(getattr(item, "__module__", "")), getattr(item, "__qualname__", repr(item))
