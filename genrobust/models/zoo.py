"""The models that ship with genrobust, and how a command's MODEL becomes a GenerativeModel."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from genrobust import files
from genrobust.arguments import text
from genrobust.data.base import DATASETS
from genrobust.data.reference import training
from genrobust.errors import GenrobustError, unknown_name
from genrobust.foreign import as_script, build
from genrobust.models.card import Card
from genrobust.models.checks.check import check_model
from genrobust.models.families import MODELS, NETWORKS, ModelBuilder, network_for
from genrobust.models.model import GenerativeModel, images_at_once
from genrobust.models.networks import ConvVAE
from genrobust.models.published import HUB, is_published, load_published, may_be_on_hub
from genrobust.models.reading.modules import own_shape
from genrobust.models.weights import load_state_dict, network_of, program_in, read_state_dict
from genrobust.models.wrapping import adapt
from genrobust.modes import plain_modes
from genrobust.plugins import blamed

WEIGHTS = Path(__file__).parent.parent / "weights"


#: How the network is trained as each.
_TRAINED = {
    "vae": "Gaussian latents, trained on the ELBO (Kingma & Welling 2014).",
    "vae-wd": "As vae, trained with weight decay.",
    "betavae": "Gaussian latents, the KL weighted by beta (Higgins et al. 2017).",
    "betavae-capacity": "Gaussian latents, the KL at a growing capacity (Burgess et al. 2018).",
    "jointvae": "Gaussian and categorical latents, each at a growing capacity (Dupont 2018).",
    "autoencoder": "Points for codes, trained to reconstruct, without a prior.",
    "factorvae": "Total correlation by a discriminator (Kim & Mnih 2018).",
    "betatcvae": "Total correlation from the minibatch (Chen et al. 2018).",
    "dipvae-i": "Means that are not correlated (Kumar et al. 2018).",
    "dipvae-ii": "Codes that are not correlated (Kumar et al. 2018).",
    "predictability": "Latents that others cannot predict (Schmidhuber 1992).",
    "vaegan": "A likelihood of a discriminator's features (Larsen et al. 2016).",
    "infogan": "A GAN whose Q network is the encoder (Chen et al. 2016).",
    "fare-vae": "A code that keeps still in a ball of inputs.",
    "smooth-encoder": "Codes alike before and after an attack (Cemgil et al. 2020).",
    "adversarial-vae": "Reconstructions that keep still in a ball of inputs.",
    "avae": "Codes that survive being decoded and encoded (Cemgil et al. 2020).",
    "mixup-vae": "Pictures mixed two by two, and their codes (Khan & Storkey 2023).",
    "civet-vae": "The worst that a ball can do, bounded by boxes (Xu et al. 2025).",
    "vqvae": "Codes from a list that is learned (van den Oord et al. 2017).",
    "seatbelt": "Two layers of latents, total correlation on top (Willetts et al. 2021).",
    "vib": "A classifier by a Gaussian bottleneck, and its decoder (Alemi et al. 2017).",
    "lipschitz-vae": "Layers of a known slope, with a certified margin (Barrett et al. 2022).",
    "dc-ign": "Batches in which one known factor varies (Kulkarni et al. 2015).",
}


def _family(name: str) -> ModelBuilder:
    def make(dataset: str) -> ConvVAE:
        known = DATASETS.get(dataset)
        return ConvVAE(network_for(name, known.image_shape, len(getattr(known, "classes", ()))))

    make.__name__ = name
    make.__doc__ = _TRAINED[name]
    return make


for _name in NETWORKS:
    globals()[_name.replace("-", "_")] = _family(_name)


@plain_modes()
def load_model(
    model: str,
    dataset: str = "digits",
    weights: str | Path | None = None,
    max_batch: int | None = None,
) -> GenerativeModel:
    """A model by name or by place, wrapped, and checked unless it ships with genrobust.

    Args:
        model: a zoo name such as ``"jointvae"``, ``"path/to/file.py:function"`` or
            ``"package.module:function"``; the function takes no arguments and returns a module or
            a wrapped model. Or a published one, ``"hf://owner/name@revision"``, a folder such as
            ``"./sd-vae"`` or what training wrote: see :mod:`genrobust.models.published`.
        dataset: which trained weights of a zoo model, and which image shape a module is wrapped
            with if it does not say.
        weights: a state dict to load into it: ``.safetensors`` or ``.pt``.
        max_batch: the most images that go through it at once, unless it takes fewer.

    Raises:
        GenrobustError: no such model, file or function; the weights do not fit; a check failed.

    Example:
        >>> model = load_model("jointvae", dataset="digits")
        >>> model.input_shape
        (1, 32, 32)
    """
    text("model", model, "vae")
    max_batch = images_at_once(max_batch)
    shape = DATASETS.get(dataset).image_shape
    if is_published(model):
        published = load_published(model, shape, weights).at_most(max_batch)
        return check_model(published).model
    with as_script(model.rpartition(":")[0] or model):
        registered = ":" not in model
        built = (
            _build_registered(model, dataset, weights) if registered else _build_from_code(model)
        )
    place, _, function = model.rpartition(":")
    stem = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
    name = stem if function == "build" else function
    if weights is not None:
        module = built.module if isinstance(built, GenerativeModel) else built
        load_state_dict(module, read_state_dict(weights, module), weights)
        name = Path(weights).stem
    if isinstance(built, GenerativeModel):
        wrapped = built
    else:
        own = own_shape(built) or shape
        wrapped = adapt(built, input_shape=own, name=name, max_batch=max_batch)
    wrapped = wrapped.at_most(max_batch)
    if model in NETWORKS and weights is None and _shipped(model, dataset).is_file():
        return wrapped  # tests try each, and a run tries it on its own images
    return check_model(wrapped).model


def _shipped(name: str, dataset: str) -> Path:
    """Where weights of a zoo model ship, if they do."""
    return WEIGHTS / dataset / f"{name}.safetensors"


def zoo_card(name: str, dataset: str) -> Card | None:
    """The card of shipped weights; None where none ship."""
    path = WEIGHTS / dataset / f"{name}.json"
    return Card.model_validate_json(files.read_text(path)) if path.is_file() else None


def _build_registered(
    name: str, dataset: str, weights: str | Path | None
) -> nn.Module | GenerativeModel:
    if name.endswith(".py"):
        raise GenrobustError(
            f"'{name}' names a file but no function in it; type {shlex.quote(f'{name}:FUNCTION')}, "
            "a function without arguments that returns the model"
        )
    if name not in MODELS:
        raise _unknown(name)
    make = MODELS.get(name)
    with blamed(f"the model '{name}'", make):
        built = make(dataset)
    if name in NETWORKS and weights is not None:
        network = network_of(weights)
        return built if network is None else ConvVAE(network)
    if name in NETWORKS:
        shipped = _shipped(name, dataset)
        if not shipped.is_file():
            command = training("model", name, dataset)
            advice = (
                "give the model itself, with weights in it"
                if command is None
                else f"train them with {command} and pass --weights"
            )
            raise GenrobustError(
                f"no weights of '{name}' for '{dataset}' ship with genrobust; {advice}"
            )
        assert isinstance(built, nn.Module)
        load_state_dict(built, read_state_dict(shipped), shipped)
    return built


def _unknown(name: str) -> GenrobustError:
    """What a name is that no model has: a file, the hub's, or a slip."""
    if program := program_in(Path(name)):
        return GenrobustError(program)
    if Path(name).suffix in (".onnx", ".h5", ".keras", ".tflite"):
        return GenrobustError(
            f"'{name}' is a model of another library than torch; give FILE.py:FUNCTION, a function "
            "that builds it as a torch.nn.Module and loads its weights there"
        )
    if Path(name).suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors"):
        return GenrobustError(
            f"'{name}' is a file of weights, and a model is code with weights; give the code as "
            f"FILE.py:FUNCTION, and of the weights a state dict: --weights {shlex.quote(name)}"
        )
    if Path(name).suffix == ".ipynb":
        return GenrobustError(
            f"'{name}' is a notebook; save its code as a .py file, and type FILE.py:FUNCTION"
        )
    if files.is_there(Path(f"{name}.py")):
        return GenrobustError(
            f"'{name}' is no model of the zoo; for a function of your file type "
            f"{shlex.quote(f'{name}.py:FUNCTION')}"
        )
    if "/" in name:
        hub = f", or for one of the hub type {HUB}{name}" if may_be_on_hub(name) else ""
        return GenrobustError(
            f"'{name}' is no model of the zoo and no folder; give one that is there{hub}"
        )
    known = unknown_name("model", name, MODELS.names())
    return GenrobustError(f"{known}; one of your own is FILE.py:FUNCTION")


def _build_from_code(reference: str) -> nn.Module | GenerativeModel:
    built = build(reference)
    if not isinstance(built, (nn.Module, GenerativeModel)):
        raise GenrobustError(
            f"'{reference}' returned {_called(built)}; it must return a torch.nn.Module, "
            "or what genrobust.wrap gives"
        )
    return built


def _called(found: object) -> str:
    """What was returned in a module's place."""
    if isinstance(found, type):
        return f"the class {found.__name__} and no object of it, {found.__name__}()"
    if isinstance(found, Mapping):
        return f"a {type(found).__name__}, such as weights that are still to be loaded into one"
    return f"a {type(found).__name__}"
