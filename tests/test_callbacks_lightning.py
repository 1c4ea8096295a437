"""Lightning's callback: on every rank, and never another epoch's score for this one's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from genrobust.callbacks import DuringTraining, lightning_callback
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError

AREA = "robustness/area"


class Training(nn.Module):
    """What a LightningModule is to the callback."""

    def __init__(self) -> None:
        super().__init__()
        self.trainer: object = None
        self.logged: dict[str, float] = {}

    def log_dict(self, scores: dict[str, float], **how: Any) -> None:
        assert not how.get("rank_zero_only")
        self.logged |= scores


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes the callback without Lightning; what it measures is the given score, or raises."""
    lightning = ModuleType("lightning.pytorch")
    lightning.Callback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning.pytorch", lightning)

    def make(score: float | Exception = 0.5, every: int = 1) -> Any:
        def bench(model: object, **options: Any) -> dict[str, float]:
            if isinstance(score, Exception):
                raise score
            return {AREA: score}

        monkeypatch.setattr("genrobust.callbacks.during.bench", bench)
        monkeypatch.setattr("genrobust.callbacks.lightning.scores_of", lambda record: record)
        return lightning_callback(DuringTraining(every_n_epochs=every))

    return make


class Ranks:
    """A strategy of several ranks, which come one after the other: what the first said is kept."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def trainer(self, rank: int, epoch: int = 0) -> Any:
        def broadcast(given: Any) -> Any:
            if rank == 0:
                self.said.append(given)
            return self.said[-1]

        strategy = SimpleNamespace(broadcast=broadcast)
        return SimpleNamespace(is_global_zero=rank == 0, current_epoch=epoch, strategy=strategy)


def test_all_ranks_have_the_scores_of_the_first(callback: Callable[..., Any]) -> None:
    ranks, measuring = Ranks(), callback(0.25, every=2)
    for epoch, expected in enumerate([{}, {AREA: 0.25}]):
        modules = [Training(), Training()]
        for rank, module in enumerate(modules):
            trainer = ranks.trainer(rank, epoch)
            module.trainer = trainer
            measuring.on_train_epoch_end(trainer, module)
            assert module.trainer is trainer
        assert [module.logged for module in modules] == [expected, expected]


def test_all_ranks_stop_with_the_error_of_the_first(callback: Callable[..., Any]) -> None:
    ranks, measuring = Ranks(), callback(GenrobustError("its encoder fails"))
    for rank in (0, 1):
        with pytest.raises(GenrobustError, match="its encoder fails"):
            measuring.on_train_epoch_end(ranks.trainer(rank), Training())


class EarlyStopping(SimpleNamespace):
    """Looks after every epoch."""


class ModelCheckpoint(SimpleNamespace):
    """Looks after so many; by step, where it is 0."""


class ReduceLROnPlateau:
    """Looks as its config says."""


def _config(monitor: str, interval: str, frequency: int) -> Any:
    how = {"monitor": monitor, "interval": interval, "frequency": frequency}
    return SimpleNamespace(scheduler=ReduceLROnPlateau(), reduce_on_plateau=True, **how)


def _asks(callback: Any, *callbacks: Any, configs: tuple[Any, ...] = ()) -> None:
    trainer = SimpleNamespace(callbacks=[callback, *callbacks], lr_scheduler_configs=configs)
    callback.on_fit_start(trainer, Training())


@pytest.mark.parametrize(
    ("every", "monitor", "said"),
    [
        (
            2,
            EarlyStopping(monitor=AREA),
            "EarlyStopping looks at 'robustness/area' after every epoch, and DuringTraining "
            "measures it after every 2 epochs; give DuringTraining every_n_epochs=1",
        ),
        (
            2,
            ModelCheckpoint(monitor=AREA, every_n_epochs=3),
            "ModelCheckpoint looks at 'robustness/area' after every 3 epochs, and DuringTraining "
            "measures it after every 2 epochs; give it every_n_epochs=2, or DuringTraining "
            "every_n_epochs=1",
        ),
        (
            1,
            ModelCheckpoint(monitor=AREA, every_n_epochs=0),
            "ModelCheckpoint looks at 'robustness/area' after steps, and DuringTraining measures "
            "it after every epoch; give it every_n_epochs=1",
        ),
        (
            2,
            _config(AREA, "epoch", 1),
            "ReduceLROnPlateau looks at 'robustness/area' after every epoch, and DuringTraining "
            "measures it after every 2 epochs; give it 'interval': 'epoch', 'frequency': 2, or "
            "DuringTraining every_n_epochs=1",
        ),
        (
            1,
            _config(AREA, "step", 4),
            "ReduceLROnPlateau looks at 'robustness/area' after steps, and DuringTraining measures "
            "it after every epoch; give it 'interval': 'epoch', 'frequency': 1",
        ),
    ],
)
def test_what_would_look_at_another_epochs_score_is_refused_before_training(
    callback: Callable[..., Any], every: int, monitor: Any, said: str
) -> None:
    given = {"configs": (monitor,)} if hasattr(monitor, "scheduler") else {}
    with pytest.raises(GenrobustError) as raised:
        _asks(callback(every=every), *(() if given else (monitor,)), **given)
    assert str(raised.value) == said


def test_what_looks_where_it_is_measured_or_elsewhere_may(callback: Callable[..., Any]) -> None:
    _asks(
        callback(every=2),
        ModelCheckpoint(monitor=AREA, every_n_epochs=2),
        ModelCheckpoint(monitor=AREA, every_n_epochs=4),
        ModelCheckpoint(monitor="loss", every_n_epochs=1),
        ModelCheckpoint(monitor=None, every_n_epochs=0),
        EarlyStopping(monitor="loss"),
        configs=(_config(AREA, "epoch", 2), _config("loss", "step", 1)),
    )
    _asks(callback(every=1), EarlyStopping(monitor=AREA), configs=(_config(AREA, "epoch", 1),))


# With Lightning itself


@pytest.fixture
def lightning() -> Any:
    """Lightning, which imports torchvision."""
    torchvision_datasets()
    return pytest.importorskip("lightning.pytorch")


class Line:
    """Trains a weight for six epochs, with validation, and takes note of the scores it sees."""

    def __init__(self, pl: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pl, self.folder = pl, folder
        scores = iter(range(100))
        monkeypatch.setattr(
            "genrobust.callbacks.during.bench", lambda *_, **__: {AREA: float(next(scores))}
        )
        monkeypatch.setattr("genrobust.callbacks.lightning.scores_of", lambda record: record)
        #: The score there was at the end of each epoch.
        self.seen: list[float | None] = []

    def fit(self, every: int, *callbacks: Any, schedule: Any = None, **how: Any) -> None:
        pl, seen = self.pl, self.seen

        class Module(pl.LightningModule):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(1, 1)

            def training_step(self, batch: Any, _: int) -> Any:
                return self.layer(batch).square().mean()

            def validation_step(self, batch: Any, _: int) -> None:
                self.log("val", self.layer(batch).mean())

            def configure_optimizers(self) -> Any:
                optimizer = torch.optim.SGD(self.parameters(), 0.1)
                if not schedule:
                    return optimizer
                plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
                return {
                    "optimizer": optimizer,
                    "lr_scheduler": {"scheduler": plateau, "monitor": AREA, **schedule},
                }

        class Note(pl.Callback):  # type: ignore[misc]
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                found = trainer.callback_metrics.get(AREA)
                seen.append(None if found is None else float(found))

        measuring = lightning_callback(DuringTraining(every_n_epochs=every))
        trainer = pl.Trainer(
            max_epochs=6,
            accelerator="cpu",
            logger=False,
            callbacks=[measuring, Note(), *callbacks],
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            **how,
        )
        trainer.fit(Module(), *(torch.utils.data.DataLoader(torch.ones(4, 1)) for _ in range(2)))


@pytest.mark.slow
def test_checkpoints_and_schedules_have_the_score_of_their_epoch(
    lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(lightning, tmp_path, monkeypatch)
    how: dict[str, Any] = {"monitor": AREA, "mode": "max", "every_n_epochs": 2, "save_top_k": -1}
    keep = lightning.callbacks.ModelCheckpoint(
        tmp_path, **how, filename="{epoch}={robustness/area:.0f}", auto_insert_metric_name=False
    )
    line.fit(2, keep, schedule={"interval": "epoch", "frequency": 2})
    assert line.seen == [None, 0, None, 1, None, 2]
    assert sorted(file.stem for file in tmp_path.rglob("*.ckpt")) == ["1=0", "3=1", "5=2"]


@pytest.mark.slow
def test_a_score_of_an_earlier_epoch_is_not_there(
    lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's own error says so where validation comes before the measurement."""
    line = Line(lightning, tmp_path, monkeypatch)
    stop = lightning.callbacks.EarlyStopping(AREA, mode="max")
    with pytest.raises(RuntimeError, match="not available"):
        line.fit(1, stop, check_val_every_n_epoch=2)
    with pytest.raises(GenrobustError, match="EarlyStopping looks at"):
        line.fit(2, lightning.callbacks.EarlyStopping(AREA, mode="max"))


SCRIPT = """
    import json
    import sys
    from pathlib import Path
    import torch
    from genrobust.data.torchvision_datasets import torchvision_datasets
    torchvision_datasets()
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from genrobust.callbacks import DuringTraining, lightning_callback
    from genrobust.errors import GenrobustError

    class Module(pl.LightningModule):
        input_shape = (1, 32, 32)
        def __init__(self):
            super().__init__()
            self.enc, self.dec = torch.nn.Linear(1024, 2), torch.nn.Linear(2, 1024)
            self.epochs = 0
        def on_train_epoch_start(self):
            self.epochs += 1
        def encode(self, x):
            if self.epochs == 2 and not self.training:
                raise ValueError("no such code")
            return self.enc(x.flatten(1))
        def decode(self, z):
            return self.dec(z).sigmoid().view(-1, 1, 32, 32)
        def training_step(self, batch, _):
            return (self.decode(self.encode(batch)) - batch).square().mean()
        def validation_step(self, batch, _):
            self.log("val", batch.mean(), sync_dist=True)
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    pl.seed_everything(0)
    measure = DuringTraining(sources=2, attacks=["noise"], eps=[0.1], workers=1)
    keep = ModelCheckpoint(sys.argv[1], monitor="robustness/flags", mode="min")
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False,
        callbacks=[lightning_callback(measure), keep],
        enable_progress_bar=False, enable_model_summary=False,
    )
    loaders = [torch.utils.data.DataLoader(torch.rand(4, 1, 32, 32)) for _ in range(2)]
    try:
        trainer.fit(Module(), *loaders)
    except GenrobustError as problem:
        end = [len(measure.records), keep.best_model_path, str(problem)]
        Path(sys.argv[1], f"{trainer.global_rank}.json").write_text(json.dumps(end))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("lightning") is None, reason="needs lightning")
def test_two_ranks_have_one_score_and_one_error(tmp_path: Path) -> None:
    """The first epoch is measured and kept; in the second the model cannot be."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "sync_dist" not in said
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    (kept,) = tmp_path.glob("*.ckpt")
    assert first[:2] == [1, str(kept)]
    assert second[:2] == [0, str(kept)]
    assert "no such code" in first[2]
    assert second[2] == first[2]
