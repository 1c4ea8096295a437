"""A study, carried out: what is missing is trained and benched, and all that is there collected."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from genrobust import files
from genrobust._version import __version__
from genrobust.data.factors import known_factors
from genrobust.data.reference import Reference
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.models.card import Card
from genrobust.models.networks import initialised
from genrobust.models.zoo import load_model
from genrobust.names import short_hash
from genrobust.records.record import Record
from genrobust.runner.execute import Progress, silent
from genrobust.runner.executors import EXECUTORS
from genrobust.runner.options import Options
from genrobust.runner.outlook import Outlook, tried
from genrobust.runner.own import drawn_for
from genrobust.runner.plan import Partition
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.run import execute, tasks_of
from genrobust.study.page import write_page
from genrobust.study.score import VERSION, Row, code_scores, row_of
from genrobust.study.spec import Spec, Training
from genrobust.study.study import WAITING, Study, load
from genrobust.suites.suite import Suite, load_suite
from genrobust.training.inputs import load_splits
from genrobust.training.vae import train_vae

_Advance = Callable[[float], None]

#: The share of its longest time that a bench of an undefended VAE takes: many sources fall early,
#: and the few that are left go through the model in small batches.
USUAL = 0.75

#: How many steps a trial takes at most, the first of which warms up.
TRIAL = 6


@dataclass(frozen=True)
class TrainingLeft:
    """What is left to train of a recipe: how many models of so many steps, in seconds each."""

    label: str
    models: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Remaining:
    """What is left of a study, or of a part of it.

    Args:
        models: how many it has.
        todo: how many of them are to be benched.
        trainings: those that are trained before.
        bench: how many seconds one takes: as those that are done, or by a guess.
        left_out: models that a run would leave out, and why.
    """

    models: int
    todo: int
    trainings: tuple[TrainingLeft, ...]
    bench: float
    left_out: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """About, on this machine."""
        return sum(one.models * one.seconds for one in self.trainings) + self.todo * self.bench


@dataclass(frozen=True)
class Conductor:
    """Where a study lives and how it is run.

    Everything a model's numbers depend on is in the names of its folders, so that the same call
    goes on where it was stopped, on any machine that sees the folder, and a spec that has grown
    finds what it has in common with what it was.

    Args:
        spec: the study.
        out: its folder.
        options: of the benches: executor, workers, device, the roots of data and judges.
        part: only this part of the models, where several machines share the folder.
    """

    spec: Spec
    out: Path
    options: Options = field(default_factory=Options)
    part: Partition | None = None
    _failed: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def run(self, on_progress: Progress = silent) -> Study:
        """Train and bench what is missing, and write table and page.

        A model that diverges, or that cannot be scored, is left out with a warning; so is one in
        the table that is there which another spec or genrobust made.

        Raises:
            GenrobustError: the data set or the suite is not there; the folder holds the page of
                another study; not one model could be scored.
        """
        self._require_its_own_page()
        self._say_what_no_longer_counts()
        mine = self._mine
        if self._todo:
            self._untrained(mine[0])
        for number, training in enumerate(mine):

            def advance(done: float, name: str = training.name, first: int = number) -> None:
                on_progress(first + min(done, 0.99), len(mine), name)

            if self.row(training) is None:
                try:
                    self._score(training, advance)
                except GenrobustError as problem:
                    self._failed[training.name] = str(problem)
                    words = f"{training.name} is left out: {problem}"
                    warnings.warn(words, GenrobustWarning, stacklevel=2)
                self._tabled()
            on_progress(number + 1, len(mine), training.name)
        self._require_some(self._failed)
        return self._paged()

    def write(self) -> Study:
        """Table and page of what is there.

        Raises:
            GenrobustError: the folder holds the page of another study, or no model of this one.
        """
        self._require_its_own_page()
        if not self.collect().rows:
            raise GenrobustError(
                f"'{self.out}' holds no model of the study '{self.spec.name}' as its spec and "
                f"genrobust {__version__} stand, and what is there was left as it is; measure them "
                f"without --collect, or go back to {self._earlier}"
            )
        self._say_what_no_longer_counts()
        return self._paged()

    def _tabled(self) -> Study:
        """What is there, written as the table; nothing takes no table's place."""
        study = self.collect()
        if study.rows:
            study.save(self.out)
        return study

    def _paged(self) -> Study:
        """Likewise, with its page."""
        study = self._tabled()
        if study.rows:
            write_page(study, self.out)
        return study

    @property
    def _there(self) -> Study | None:
        """What was written last; None if nothing was, or it no longer can be read."""
        try:
            return load(self.out)
        except GenrobustError:
            return None

    @property
    def _earlier(self) -> str:
        """The state that what is there is of."""
        there = self._there
        version = __version__ if there is None else there.genrobust
        if version == __version__:
            return "the spec as it was"
        return f"the spec as it was and genrobust {version}"

    def _require_its_own_page(self) -> None:
        """Two studies may share models; but the page of one is not to take the other's place."""
        there = self._there
        # A trial makes room.
        if there is not None and there.spec.name not in (self.spec.name, self.spec.fast().name):
            raise GenrobustError(
                f"'{self.out}' holds the study '{there.spec.name}', and this one is "
                f"'{self.spec.name}'; give another folder with --out"
            )

    def _say_what_no_longer_counts(self) -> None:
        """Warn where the table has models that the spec as it is does not find in the folder."""
        there = self._there
        if there is None or there.spec.name != self.spec.name:
            return
        found = [row.model_copy(update={"recipe": ""}) for row in self.collect().rows]
        gone = [row for row in there.rows if row.model_copy(update={"recipe": ""}) not in found]
        if gone:
            warnings.warn(
                f"of the {len(there.rows)} models in the table of '{self.out}' {len(gone)} no "
                f"longer count: the study '{self.spec.name}' does not find them as its spec and "
                f"genrobust {__version__} stand; their files stay, and with {self._earlier} "
                "--collect does",
                GenrobustWarning,
                stacklevel=3,
            )

    def _require_some(self, left_out: Mapping[str, str]) -> None:
        """Raises GenrobustError if models are left out and not one is there."""
        if left_out and not self.collect().rows:
            raise GenrobustError(
                f"no model of the study '{self.spec.name}' could be scored: "
                f"{next(iter(left_out.values()))}"
            )

    def collect(self) -> Study:
        """What is there, in the order of the spec."""
        rows, missing = [], {}
        order = list(self.spec.recipes)
        for training in sorted(self.trainings, key=lambda one: order.index(one.label)):
            row = self.row(training)
            if row is None:
                missing[training.name] = self._failed.get(training.name, WAITING)
            else:
                rows.append(row)
        return Study(
            spec=self.spec,
            suite=self.suite,
            rows=tuple(rows),
            missing=missing,
            factors=self._factors,
            genrobust=__version__,
            torch=torch.__version__,
        )

    def row(self, training: Training) -> Row | None:
        """What is known of a model; None if it is not done."""
        try:
            row = Row.model_validate_json(files.read_text(self._row_file(training)))
        except (OSError, ValueError):
            return None
        return row.model_copy(update={"recipe": training.label})

    def remaining(self) -> Remaining:
        """What a run would do, and how long that takes by a short trial of each recipe.

        Raises:
            GenrobustError: as :meth:`run`.
        """
        self._require_its_own_page()
        todo = self._todo
        prepared = self._untrained(self._mine[0]) if todo else None
        trainings, left_out = self._trainings_left(todo)
        if len(left_out) == len(todo):
            self._require_some(left_out)
        bench = self._seconds_of_benches()
        if bench is None and prepared is not None:
            works = tasks_of(prepared, self.out / "none")
            bench = USUAL * Outlook.of(prepared, works).seconds(tried(prepared))
        count = len(todo) - len(left_out)
        return Remaining(len(self._mine), count, tuple(trainings), bench or 0.0, left_out)

    def _trainings_left(self, todo: list[Training]) -> tuple[list[TrainingLeft], dict[str, str]]:
        """What is trained of these; and those that are left out, by name, and why."""
        left_out, untrained = dict[str, str](), dict[str, list[Training]]()
        for one in todo:
            try:
                if self._card(one) is None:
                    untrained.setdefault(one.label, []).append(one)
            except GenrobustError as problem:
                left_out[one.name] = str(problem)
        found = []
        for label, alike in untrained.items():
            for number, one in enumerate(alike):  # up to the first that can be trained
                try:
                    seconds = self._trial(one) * one.recipe.steps
                except GenrobustError as problem:
                    left_out[one.name] = str(problem)
                else:
                    found.append(
                        TrainingLeft(label, len(alike) - number, one.recipe.steps, seconds)
                    )
                    break
        return found, left_out

    @cached_property
    def trainings(self) -> list[Training]:
        return self.spec.trainings()

    @property
    def _mine(self) -> list[Training]:
        return self.trainings if self.part is None else self.part.of(self.trainings)

    @property
    def _todo(self) -> list[Training]:
        return [one for one in self._mine if self.row(one) is None]

    @cached_property
    def suite(self) -> Suite:
        """As it is run: with the spec's attacks and limit."""
        spec, whole = self.spec, self._whole_suite
        suite = whole.with_attacks(list(spec.attacks)) if spec.attacks else whole
        return suite if spec.limit is None else suite.limited(spec.limit)

    def home(self, training: Training) -> Path:
        return self.out / "models" / training.folder(self._data)

    @cached_property
    def _whole_suite(self) -> Suite:
        spec = self.spec
        if spec.suite is not None:
            return load_suite(spec.suite, self.options.data_root)
        first = self.trainings[0]
        wanted = Options(
            judge=spec.judges,
            rule=spec.rule,
            eps=spec.eps,
            data_root=self.options.data_root,
            judge_root=self.options.judge_root,
        )
        network = initialised(first.recipe.network, 0)
        return drawn_for(network, Reference.parse(spec.dataset), wanted, spec.sources)

    @cached_property
    def _factors(self) -> tuple[str, ...]:
        return tuple(known_factors(self.spec.dataset, "test", self.options.data_root))

    @cached_property
    def _data(self) -> str:
        return load_splits(self.spec.dataset, self.options.data_root, labels=False)[0].sha256

    def _bench(self, home: Path) -> Path:
        return home / f"bench-{short_hash(f'{self.suite.sha256} {__version__}')}"

    def _row_file(self, training: Training) -> Path:
        return self._bench(self.home(training)) / f"row-{VERSION}.json"

    def _score(self, training: Training, advance: _Advance) -> None:
        home = self.home(training)
        card = self._card(training)
        if card is None:
            steps = training.recipe.steps
            card = train_vae(
                training.family,
                training.dataset,
                training.recipe,
                home,
                seed=training.seed,
                data_root=self.options.data_root,
                on_step=lambda step, loss: advance(0.5 * step / steps),
            )
        (home / "checkpoint.safetensors").unlink(missing_ok=True)  # larger than the weights
        bench = self._bench(home)
        record = self._benched(training, bench, advance)
        model = load_model(training.family, training.dataset, home / f"{card.name}.safetensors")
        of_code = code_scores(home, model, training.dataset, self.options.data_root)
        row = row_of(training.label, card, record, bench, of_code)
        files.write_text(self._row_file(training), row.model_dump_json(indent=1) + "\n")

    def _benched(self, training: Training, bench: Path, advance: _Advance) -> Record:
        return execute(
            self._prepared(training),
            bench,
            lambda done, total, note="": advance(0.5 + 0.5 * done / total),
        ).record

    def _prepared(self, training: Training) -> Prepared[Record]:
        spec, home = self.spec, self.home(training)
        options = replace(
            self.options,
            weights=home / f"{training.family}.safetensors",
            attacks=spec.attacks,
            limit=spec.limit,
            name=training.name,
        )
        return prepare(training.family, self._whole_suite, options)

    def _card(self, training: Training) -> Card | None:
        """Of weights that are there and are what the folder says.

        Raises:
            GenrobustError: they are others.
        """
        home = self.home(training)
        path = home / f"{training.family}.json"
        if not path.exists():
            return None
        try:
            card = Card.model_validate_json(files.read_text(path))
            tensors, _ = files.read_tensors(path.with_suffix(".safetensors"))
            sha256 = files.sha256_of_tensors(tensors)
        except (OSError, ValueError) as problem:
            raise GenrobustError(
                f"'{home}' cannot be read as a trained model ({in_a_line(problem)}); delete it, "
                "and it is trained anew"
            ) from problem
        wanted = {
            "name": training.family,
            "seed": training.seed,
            "train_sha256": self._data,
            "architecture": training.recipe.network.model_dump(mode="json"),
            "recipe": training.recipe.model_dump(mode="json", exclude={"network"}),
            "weights_sha256": sha256,
        }
        wrong = [key for key, value in wanted.items() if getattr(card, key) != value]
        if wrong:
            raise GenrobustError(
                f"'{home}' holds another model than {training.name}: its {wrong[0]} differs; "
                "delete it, and it is trained anew"
            )
        return card

    def _trial(self, training: Training) -> float:
        """Seconds a step."""
        moments: list[float] = []
        steps = min(TRIAL, max(training.recipe.steps, 2))
        few = training.recipe.model_copy(update={"steps": steps})
        with tempfile.TemporaryDirectory() as folder:
            train_vae(
                training.family,
                training.dataset,
                few,
                Path(folder),
                seed=training.seed,
                data_root=self.options.data_root,
                on_step=lambda step, loss: moments.append(time.perf_counter()),
            )
        return (moments[-1] - moments[0]) / (len(moments) - 1)

    def _seconds_of_benches(self) -> float | None:
        """The mean over those that are done."""
        seconds = []
        for one in self.trainings:
            if self.row(one) is not None:
                with suppress(GenrobustError):  # its record is lost, and its row is there
                    record = Record.load(self._bench(self.home(one)))
                    seconds.append(record.times.attack_seconds)
        return sum(seconds) / len(seconds) if seconds else None

    def _untrained(self, training: Training) -> Prepared[Record]:
        """A bench of a model before it is trained: what does not fit is found before that."""
        EXECUTORS.get(self.options.executor)  # an unknown one; a live module goes through threads
        options = replace(
            self.options, attacks=self.spec.attacks, limit=self.spec.limit, executor="threads"
        )
        network = initialised(training.recipe.network, training.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GenrobustWarning)
            return prepare(network, self._whole_suite, options)
