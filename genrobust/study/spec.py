"""What a study compares: recipes x seeds on one suite, as a file that others can run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from genrobust import files
from genrobust._version import __version__
from genrobust.errors import GenrobustError, in_a_line
from genrobust.names import is_part, short_hash
from genrobust.suites.suite import Frozen
from genrobust.training.changes import changed
from genrobust.training.recipes import Recipe, recipe

#: Python's own from 3.11 on.
tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

#: The most bytes of a spec.
MAX_BYTES = 10**6

#: The most seeds that a number may stand for.
MOST_SEEDS = 10_000

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**6)]


class RecipeEntry(Frozen):
    """A family and what is changed of its recipe, as ``genrobust train --set`` changes it.

    Example:
        >>> RecipeEntry(family="betavae", settings={"penalty": {"beta": 8}}).family
        'betavae'
    """

    family: Annotated[
        str | None, Field(description="of 'genrobust train --model'; default the recipe's name")
    ] = None
    settings: Annotated[
        dict[str, Any],
        Field(
            default_factory=dict,
            description="such as steps, or penalty.beta, nested or with a dot",
        ),
    ]


class Spec(Frozen):
    """A study, as its TOML or JSON file says it.

    Without ``suite`` one is drawn from the data set's test images, as :func:`genrobust.bench` does
    with ``data``; ``eps``, which must then be said, ``sources``, ``judges`` and ``rule`` are of
    that. ``settings`` hold for every recipe that does not say otherwise.

    Raises:
        GenrobustError: by :func:`read_spec`.

    Example:
        >>> spec = Spec(name="two", suite="digits", seeds=2, recipes={"vae": {}, "beta-8": {
        ...     "family": "betavae", "settings": {"penalty": {"beta": 8}}}})
        >>> [one.name for one in spec.trainings()]
        ['vae, seed 0', 'beta-8, seed 0', 'vae, seed 1', 'beta-8, seed 1']
    """

    name: Annotated[str, Field(description="letters, digits and - . _ +")]
    description: str = ""
    dataset: Annotated[str, Field(description="a registered data set")] = "digits"
    suite: Annotated[str | None, Field(description="a suite's name or file")] = None
    sources: Annotated[Count | None, Field(description="of a drawn suite")] = None
    judges: Annotated[tuple[str, ...], Field(description="of a drawn suite")] = ()
    rule: Annotated[str | None, Field(description="of a drawn suite")] = None
    eps: Annotated[tuple[float, ...], Field(description="radii of a drawn suite")] = ()
    limit: Annotated[Count | None, Field(description="only the first so many sources")] = None
    attacks: Annotated[tuple[str, ...], Field(description="in place of the suite's")] = ()
    seeds: Annotated[
        tuple[Seed, ...], Field(min_length=1, description="how many from 0 on, or a list of them")
    ] = (0, 1, 2)
    settings: Annotated[dict[str, Any], Field(default_factory=dict, description="of all recipes")]
    recipes: Annotated[dict[str, RecipeEntry], Field(min_length=1, description="by their names")]

    @field_validator("seeds", mode="before")
    @classmethod
    def _from_a_count(cls, given: Any) -> Any:
        if isinstance(given, (list, tuple)):
            return given
        if type(given) is not int or not 1 <= given <= MOST_SEEDS:
            raise ValueError(f"give how many seeds, from 1 to {MOST_SEEDS}, or a list of them")
        return tuple(range(given))

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("each seed counts once; leave out what is there twice")
        return seeds

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not is_part(name):
            raise ValueError("give letters, digits and - . _ +")
        return name

    @property
    def uses_suite(self) -> str | None:
        """The suite's name or file; None where one is drawn."""
        own = {"sources": self.sources, "judges": self.judges, "rule": self.rule, "eps": self.eps}
        given = [name for name, value in own.items() if value]
        if self.suite is not None and given:
            raise GenrobustError(
                f"the study '{self.name}' names the suite '{self.suite}' and {given[0]}, which is "
                "of a suite drawn from the data set; leave one of them out"
            )
        if self.suite is None and not self.eps:
            raise GenrobustError(
                f"the study '{self.name}' names no suite; give one, such as suite = \"digits\", or "
                "radii, such as eps = [0.05, 0.1], for one that is drawn from the data set"
            )
        return self.suite

    def trainings(self) -> list[Training]:
        """Every recipe with every seed: all recipes with the first seed, then with the next.

        Raises:
            GenrobustError: no such family or setting; two recipes are the same.
        """
        recipes = {name: self._recipe(name, entry) for name, entry in self.recipes.items()}
        known: dict[str, str] = {}
        for name, (family, found) in recipes.items():
            content = f"{family} {found.model_dump_json()}"
            if content in known:
                raise GenrobustError(
                    f"the recipes '{known[content]}' and '{name}' are the same; change a setting "
                    "of one, or leave it out"
                )
            known[content] = name
        return [
            Training(label, family, found, seed, self.dataset)
            for seed in self.seeds
            for label, (family, found) in recipes.items()
        ]

    def _recipe(self, label: str, entry: RecipeEntry) -> tuple[str, Recipe]:
        if not label.strip() or any(not c.isprintable() or c in "|<>`" for c in label):
            raise GenrobustError(f"a recipe is called {label!r}; give it a name of plain letters")
        family = entry.family or label
        try:
            words = flattened(self.settings) | flattened(entry.settings)
            changes = [f"{key}={json.dumps(value)}" for key, value in words.items()]
            return family, changed(recipe(family, self.dataset), changes, "the setting")
        except GenrobustError as problem:
            raise GenrobustError(f"the recipe '{label}': {problem}") from problem

    def fast(self) -> Spec:
        """The same at a scale that shows only whether it runs."""
        return self.model_copy(
            update={
                "name": f"{self.name}-fast",
                "seeds": self.seeds[:2],
                "limit": min(self.limit or 6, 6),
                "attacks": ("latent",),
                "recipes": {
                    label: entry.model_copy(update={"settings": {**entry.settings, "steps": 20}})
                    for label, entry in self.recipes.items()
                },
            }
        )


@dataclass(frozen=True)
class Training:
    """One model of a study.

    Args:
        label: the recipe's name in the study.
        family: what it is of the zoo.
        recipe: with all its settings.
        seed: of the training.
        dataset: what it is trained on.
    """

    label: str
    family: str
    recipe: Recipe
    seed: int
    dataset: str

    @property
    def name(self) -> str:
        return f"{self.label}, seed {self.seed}"

    def folder(self, data_sha256: str) -> str:
        """Named by all that the weights depend on, so that what is done is found by its content."""
        content = {
            "family": self.family,
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "data": data_sha256,
            "genrobust": __version__,
        }
        return f"{self.family}-seed-{self.seed}-{short_hash(json.dumps(content, sort_keys=True))}"


def flattened(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys.

    >>> flattened({"steps": 10, "penalty": {"beta": 8}, "network.gaussian": 6})
    {'steps': 10, 'penalty.beta': 8, 'network.gaussian': 6}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def read_spec(path: str | Path) -> Spec:
    """The study that a file describes; its recipes are checked too.

    Args:
        path: a ``.toml`` or ``.json`` file.

    Raises:
        GenrobustError: it cannot be read, is no study, or names a recipe, a setting or a suite that
            there is not.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "mine.json")
        >>> content = {"name": "mine", "suite": "digits", "recipes": {"vae": {}}, "seeds": [7]}
        >>> _ = path.write_text(json.dumps(content))
        >>> read_spec(path).trainings()[0].name
        'vae, seed 7'
    """
    path = Path(path)
    try:
        text = files.read_text(path, MAX_BYTES)
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        spec = Spec.model_validate(content)
    except (OSError, ValueError, RecursionError) as problem:
        what = "cannot be read as a study" if isinstance(problem, OSError) else "is no study"
        raise GenrobustError(
            f"'{path}' {what} ({in_a_line(problem, Spec)}); compare it with the example in "
            "docs/studies.md"
        ) from problem
    _ = spec.uses_suite
    spec.trainings()
    return spec
