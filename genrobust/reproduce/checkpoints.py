"""The models of a reproduction: the zoo's, those of a folder, and weights that others published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError
from genrobust.models import GenerativeModel, load_model, wrap
from genrobust.models.families import NETWORKS
from genrobust.models.networks import ConvVAE
from genrobust.models.weights import load_state_dict, read_state_dict
from genrobust.reproduce.base import Setup
from genrobust.seeding import seed_of
from genrobust.training.recipes import Recipe
from genrobust.training.vae import train_vae


class _Disentangling(nn.Module):
    """The network of Burgess et al. 2018 as YannDubs/disentangling-vae names its weights."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for i, channels in enumerate((1, 32, 32), 1):
            setattr(self.encoder, f"conv{i}", nn.Conv2d(channels, 32, 4, 2, 1))
        for i, (a, b) in enumerate(((512, 256), (256, 256)), 1):
            setattr(self.encoder, f"lin{i}", nn.Linear(a, b))
        self.encoder.mu_logvar_gen = nn.Linear(256, 20)
        for i, (a, b) in enumerate(((10, 256), (256, 256), (256, 512)), 1):
            setattr(self.decoder, f"lin{i}", nn.Linear(a, b))
        for i, channels in enumerate((32, 32, 1), 1):
            setattr(self.decoder, f"convT{i}", nn.ConvTranspose2d(32, channels, 4, 2, 1))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for i in (1, 2, 3):
            x = self.encoder.get_submodule(f"conv{i}")(x).relu()
        x = x.flatten(1)
        for i in (1, 2):
            x = self.encoder.get_submodule(f"lin{i}")(x).relu()
        mean, log_variance = (
            self.encoder.get_submodule("mu_logvar_gen")(x).view(-1, 10, 2).unbind(2)
        )
        return mean, log_variance

    def decode(self, code: Tensor) -> Tensor:
        for i in (1, 2, 3):
            code = self.decoder.get_submodule(f"lin{i}")(code).relu()
        image = code.view(-1, 32, 4, 4)
        for i in (1, 2):
            image = self.decoder.get_submodule(f"convT{i}")(image).relu()
        return torch.sigmoid(self.decoder.get_submodule("convT3")(image))


class _Joint(nn.Module):
    """The network of Dupont 2018 as Schlumberger/joint-vae names its weights."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        down = [nn.Conv2d(1, 32, 4, 2, 1), nn.Conv2d(32, 64, 4, 2, 1), nn.Conv2d(64, 64, 4, 2, 1)]
        up = [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ConvTranspose2d(32, 32, 4, 2, 1)]
        last = (nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Sigmoid())
        self.img_to_features = nn.Sequential(*(m for conv in down for m in (conv, nn.ReLU())))
        self.features_to_hidden = nn.Sequential(nn.Linear(1024, 256), nn.ReLU())
        self.fc_mean, self.fc_log_var = nn.Linear(256, 10), nn.Linear(256, 10)
        self.fc_alphas = nn.ModuleList([nn.Linear(256, 10)])
        self.latent_to_features = nn.Sequential(
            nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU()
        )
        self.features_to_img = nn.Sequential(*(m for conv in up for m in (conv, nn.ReLU())), *last)

    def encode(self, x: Tensor) -> dict[str, list[Tensor]]:
        hidden = self.features_to_hidden(self.img_to_features(x).flatten(1))
        kinds = [torch.softmax(head(hidden), 1) for head in self.fc_alphas]
        return {"cont": [self.fc_mean(hidden), self.fc_log_var(hidden)], "disc": kinds}

    def decode(self, code: Tensor) -> Tensor:
        image: Tensor = self.features_to_img(self.latent_to_features(code).view(-1, 64, 4, 4))
        return image


#: What others trained on MNIST and published, by the names of their files without ``.pt``.
PUBLISHED: dict[str, type[nn.Module]] = {
    "jointvae_mnist": _Joint,
    **{f"disvae_{loss}_mnist": _Disentangling for loss in ("VAE", "betaH", "btcvae", "factor")},
}


def model(name: str, setup: Setup) -> GenerativeModel:
    """A model of the zoo, with the weights of the folder if it holds ``NAME.safetensors``."""
    folder = setup.checkpoints
    weights = None if folder is None else folder / f"{name}.safetensors"
    there = weights is not None and weights.is_file()
    found = load_model(name, setup.dataset, weights if there else None)
    return replace(found, name=name)


def published(setup: Setup, names: Sequence[str]) -> list[GenerativeModel]:
    """Those of :data:`PUBLISHED` that the folder holds, for MNIST.

    Raises:
        GenrobustError: the folder holds none that is known, or weights of another network.
    """
    folder = setup.checkpoints
    if folder is None:
        return []
    known = [*(f"{name}.pt" for name in PUBLISHED), *(f"{name}.safetensors" for name in NETWORKS)]
    if not any((folder / name).is_file() for name in known):
        raise GenrobustError(
            f"'{folder}' holds no checkpoint that is known; give --checkpoints a folder with "
            f"NAME.safetensors of 'genrobust train', or with {', '.join(known[: len(PUBLISHED)])}"
        )
    if setup.dataset != "mnist":
        return []
    found = []
    for name in names:
        path = folder / f"{name}.pt"
        if path.is_file():
            module = PUBLISHED[name]().eval()
            load_state_dict(module, read_state_dict(path, module), path)
            found.append(wrap(module, name=name))
    return found


def trained(name: str, changed: Recipe, setup: Setup) -> GenerativeModel:
    """A model that no weights ship of, trained by the reproduction and kept for the next call."""
    told = changed.model_dump_json()
    folder = setup.out / "parts" / f"{name}-{seed_of(told, setup.seed):016x}"
    weights = folder / f"{name}.safetensors"
    if not weights.is_file():
        train_vae(name, setup.dataset, changed, folder, seed=setup.seed, data_root=setup.data_root)
        setup.say(f"trained {name}")
    network = ConvVAE(changed.network)
    load_state_dict(network, read_state_dict(weights), weights)
    return wrap(network.eval(), name=name)
