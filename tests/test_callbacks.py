"""Robustness during training: measured on time, without a trace in the training, and logged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust import Record
from genrobust.callbacks import (
    DuringTraining,
    lightning_callback,
    scores_of,
    to_tensorboard,
    to_wandb,
)
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError

pytestmark = pytest.mark.usefixtures("brief")

mpl.use("Agg")
HOW: dict[str, Any] = {"sources": 2, "attacks": ["noise"], "eps": [0.1], "executor": "serial"}


class Small(nn.Module):
    """An autoencoder of digits with dropout, so that its training draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.drop, self.dec = nn.Linear(1024, 8), nn.Dropout(), nn.Linear(8, 1024)

    def encode(self, x: Tensor) -> Tensor:
        return self.drop(self.enc(x.flatten(1)))

    def decode(self, z: Tensor) -> Tensor:
        return self.dec(z).sigmoid().view(-1, 1, 32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def _trained(measure: DuringTraining | None, epochs: int = 2) -> tuple[list[float], Small]:
    torch.manual_seed(0)
    module, x = Small(), genrobust.load_images("digits").take(range(16))
    module.dec.bias.requires_grad_(False)
    optimizer, losses = torch.optim.Adam(module.parameters(), 1e-2), []
    for epoch in range(epochs):
        loss = (module(x) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if measure is not None:
            measure(module, epoch)
    return losses, module


def test_it_measures_on_time_and_training_goes_on_as_if_it_had_not() -> None:
    measure = DuringTraining(every_n_epochs=2, **HOW)
    losses, module = _trained(measure, 3)
    assert losses == _trained(None, 3)[0]
    assert module.training
    assert not module.dec.bias.requires_grad
    assert module.enc.weight.requires_grad
    assert module.enc.weight.grad is not None
    assert list(measure.records) == [1]
    assert measure.records[1].scores.sources == 2


def test_the_model_may_lie_in_what_trains() -> None:
    told: list[tuple[Record, int]] = []
    measure = DuringTraining(
        model=lambda module: module["vae"], log=lambda *given: told.append(given), **HOW
    )
    vae = genrobust.load_model("vae").module
    record = measure(nn.ModuleDict({"vae": vae, "critic": nn.Linear(2, 2)}), 0)
    assert record is not None
    assert told == [(record, 0)]
    assert record.model.fingerprint == genrobust.load_model("vae").fingerprint()
    names = scores_of(record)
    assert names["robustness/accuracy_eps_0.1"] == record.scores.per_eps[0].robust_accuracy.value
    assert names["robustness/flags"] == len(record.flags)


@pytest.mark.slow
def test_own_pictures_are_drawn_from() -> None:
    images = genrobust.load_images("digits").take(range(12))
    how = {**HOW, "attacks": ["output"], "sources": 3}
    record = DuringTraining(data=images, **how)(genrobust.load_model("vae").module, 0)
    assert record is not None
    assert record.scores.sources == 3


class Gain(nn.Module):
    """Means of blocks, and of what no picture has: a checkerboard, which is weighed by the gain."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.0))
        board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
        self.register_buffer("board", board)

    def encode(self, x: Tensor) -> Tensor:
        pool = nn.functional.avg_pool2d
        return pool(x, 4) + self.gain * pool(x * self.board, 4)

    def decode(self, z: Tensor) -> Tensor:
        return nn.functional.interpolate(z, scale_factor=4)


@pytest.mark.slow
@pytest.mark.parametrize("as_file", [False, True])
def test_a_suite_of_own_pictures_is_drawn_once_so_that_epochs_compare(
    as_file: bool, tmp_path: Path
) -> None:
    """The radii that tell of one model tell nothing of the next: it is 20 times as fragile."""
    blocks = 0.25 + 0.5 * torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    pictures = nn.functional.interpolate(blocks, scale_factor=4)
    np.save(tmp_path / "blocks.npy", pictures.numpy())
    how = {**HOW, "sources": 4, "attacks": ["noise"], "eps": (), "rule": "distance"}
    data = str(tmp_path / "blocks.npy") if as_file else pictures
    measure, module = DuringTraining(data=data, **how), Gain()
    for epoch, gain in enumerate((2.0, 40.0)):
        module.gain.data.fill_(gain)
        measure(module, epoch)
    first, second = measure.records.values()
    assert second.suite == first.suite
    assert second.deviations == first.deviations
    assert first.compare(second).robust_area is not None
    alone = genrobust.bench(module, data=data, **how)
    assert alone.suite.eps != first.suite.eps


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs is 0; give 1 or more"),
        ({"sources": -1}, "sources is -1"),
        ({"sources": "few"}, "give a whole number"),
        ({"atacks": ["noise"]}, "unknown option of bench 'atacks'; did you mean 'attacks'"),
        ({"log": "tensorboard"}, "log is a str; give a function of record and epoch"),
        ({"log": 3}, "log is a int; give a function"),
        ({"log": [print, None]}, "log is a list; give a function"),
        ({"model": "vae"}, "model is a str; give a function from the module that trains"),
    ],
)
def test_a_mistake_is_said_before_training(given: dict[str, Any], said: str) -> None:
    with pytest.raises(GenrobustError, match=said):
        DuringTraining(**given)


def test_where_nothing_can_be_logged_is_said_before_training() -> None:
    nowhere: Any = 3
    with pytest.raises(GenrobustError, match="writer is a int; give a SummaryWriter, or a folder"):
        to_tensorboard(nowhere)
    pytest.importorskip("wandb")
    with pytest.raises(GenrobustError, match="run is a int; give what wandb"):
        to_wandb(nowhere)


@pytest.mark.parametrize(
    ("module", "epoch", "said"),
    [
        (nn.Linear(1, 1), "0", "epoch is '0'; give a whole number"),
        (None, 0, "module is a NoneType; give the torch module that trains"),
        (genrobust.load_model("vae"), 0, "module is a GenerativeModel; .* its .module"),
    ],
)
def test_what_is_no_epoch_of_a_module_is_not_measured(module: Any, epoch: Any, said: str) -> None:
    with pytest.raises(GenrobustError, match=said):
        DuringTraining(**HOW)(module, epoch)


def test_an_epoch_of_numpy_or_torch_is_the_number() -> None:
    measure = DuringTraining(**HOW)
    measure(genrobust.load_model("vae").module, torch.tensor(3))
    assert list(measure.records) == [3]


@pytest.mark.slow
def test_tensorboard_has_scores_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    measure = DuringTraining(log=to_tensorboard(tmp_path), **HOW)
    record = measure(genrobust.load_model("vae").module, 3)
    assert record is not None
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(scores_of(record))
    for name, value in scores_of(record).items():
        (event,) = read.Scalars(name)
        assert (event.step, event.value) == (3, pytest.approx(value))
    assert read.Tags()["images"] == ["robustness/examples"]


@pytest.mark.slow
def test_wandb_has_scores_and_pictures(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    with pytest.raises(GenrobustError, match=r"call wandb.init\(\) before"):
        to_wandb()
    run = wandb.init(mode="offline", dir=str(tmp_path), settings=wandb.Settings(silent=True))
    try:
        record = DuringTraining(log=to_wandb(), **HOW)(genrobust.load_model("vae").module, 3)
        found = dict(run.summary)
    finally:
        run.finish()
    assert record is not None
    assert {name: found[name] for name in scores_of(record)} == scores_of(record)
    assert found["epoch"] == 3
    assert list(tmp_path.rglob("*.png"))


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("lightning.pytorch", "pytorch_lightning", "wandb", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    makers = {
        "lightning": lambda: lightning_callback(DuringTraining()),
        "wandb": to_wandb,
        "tensorboard": lambda: to_tensorboard(tmp_path),
    }
    for extra, make in makers.items():
        with pytest.raises(GenrobustError, match=rf"pip install 'genrobust\[{extra}\]'"):
            make()


@pytest.mark.slow
def test_a_lightning_training_of_two_epochs_is_benched(tmp_path: Path) -> None:
    torchvision_datasets()  # makes torchvision importable, which lightning imports
    pytest.importorskip("lightning")
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    class Training(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.vae = genrobust.load_model("vae").module.train()
            for weight in self.vae.parameters():
                weight.requires_grad_(True)

        def encode(self, x: Tensor) -> Any:
            return self.vae.encode(x)

        def decode(self, z: Tensor) -> Tensor:
            return self.vae.decode(z)

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            return (self.vae(batch) - batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), 1e-3)

    def trained(*callbacks: Any) -> tuple[pl.Trainer, Training]:
        pl.seed_everything(0)
        x = genrobust.load_images("digits").take(range(32))
        loader = torch.utils.data.DataLoader(list(x), batch_size=8, shuffle=True)
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=CSVLogger(tmp_path),
            callbacks=list(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        module = Training()
        trainer.fit(module, loader)
        return trainer, module

    measure = DuringTraining(**HOW)
    keep = ModelCheckpoint(tmp_path, monitor="robustness/area", mode="max", save_top_k=1)
    trainer, module = trained(lightning_callback(measure), keep)
    assert sorted(measure.records) == [0, 1]
    last = measure.records[1]
    assert trainer.callback_metrics["robustness/area"] == pytest.approx(
        scores_of(last)["robustness/area"]
    )
    assert keep.best_model_score is not None
    assert "robustness/accuracy_eps_0.1" in next(tmp_path.rglob("metrics.csv")).read_text()
    assert module.vae.training
    unmeasured = trained()[1]
    for ours, theirs in zip(module.parameters(), unmeasured.parameters(), strict=True):
        assert torch.equal(ours, theirs), "the training went another way"
