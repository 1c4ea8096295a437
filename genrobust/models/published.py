"""Published models: a folder in one of a few layouts, on this machine or on Hugging Face's hub.

A folder is one of three: diffusers' (``config.json`` and ``diffusion_pytorch_model.safetensors``,
or these in the ``vae``, ``movq`` or ``vqvae`` folder of a pipeline), a model as data
(``spec.json``, as evidence holds it), or what ``genrobust train`` wrote (weights beside their
card), which either of these two files names as well. Only data is read: no pickle, and no code
that lies in the folder.
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from genrobust import files
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.models.families import MODELS
from genrobust.models.model import GenerativeModel
from genrobust.models.networks import ConvVAE, NetworkSpec
from genrobust.models.weights import load_state_dict, network_of, read_state_dict
from genrobust.models.wrapping import adapt

HUB = "hf://"

_LAYOUTS = (
    "diffusers' config.json beside diffusion_pytorch_model.safetensors, spec.json of a model as "
    "data, or one .safetensors beside its card (.json) from 'genrobust train'"
)
_ON_HUB = re.compile(
    rf"{HUB}([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?",
    re.ASCII,
)
_TRAINED = (".safetensors", ".json")
#: diffusers' weights, in one file or several, with the name of their variant if they are one.
_WEIGHTS_OF_DIFFUSERS = re.compile(
    r"diffusion_pytorch_model(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors", re.ASCII
)
_SPEC, _CONFIG, _PIPELINE = "spec.json", "config.json", "model_index.json"
#: In which folder a pipeline has its autoencoder; the first there counts.
_PARTS = ("vae", "movq", "vqvae")

#: diffusers' autoencoders whose forward gives something else than decode(encode(x)): there the
#: code is rounded to 8 bits.
_ROUNDED = ("AutoencoderTiny",)


@dataclass(frozen=True)
class HubPlace:
    """``hf://OWNER/NAME[/FOLDER][@REVISION]``.

    Example:
        >>> HubPlace.read("hf://stabilityai/sd-vae-ft-mse@31f26fd")
        HubPlace(repository='stabilityai/sd-vae-ft-mse', folder='', revision='31f26fd')
    """

    repository: str
    folder: str = ""
    revision: str | None = None

    @classmethod
    def read(cls, reference: str) -> HubPlace:
        """The place that is written so.

        Raises:
            GenrobustError: it is written in another way.
        """
        found = _ON_HUB.fullmatch(reference)
        if found is None or ".." in reference:
            raise GenrobustError(
                f"'{reference}' names no model on the hub; type hf://OWNER/NAME, or "
                "hf://OWNER/NAME/FOLDER@REVISION"
            )
        return cls(found[1], found[2].strip("/"), found[3])

    def fetch(self) -> Path:
        """The folder with its files, from the hub or its cache on this machine.

        Raises:
            GenrobustError: huggingface_hub is not installed; the files cannot be had.
        """
        try:
            from huggingface_hub import hf_hub_download, snapshot_download
            from huggingface_hub.errors import EntryNotFoundError
        except ImportError as problem:
            raise _lacking("a model on the hub", "huggingface_hub") from problem
        folder = self.folder
        try:
            if not folder:
                try:
                    index = hf_hub_download(self.repository, _PIPELINE, revision=self.revision)
                    folder = next((part for part in _PARTS if part in _table(Path(index))), "vae")
                except EntryNotFoundError:  # it is no pipeline, or not known to be one offline
                    pass
            below = f"{folder}/" if folder else ""
            wanted = [f"{below}*.json", f"{below}*.safetensors"]
            root = Path(
                snapshot_download(self.repository, revision=self.revision, allow_patterns=wanted)
            )
        except Exception as problem:  # of the network, the hub, the disk
            raise GenrobustError(
                f"'{self}' cannot be fetched ({in_a_line(problem)}); check its name and the "
                "connection, 'hf auth login' if it is private, or give a folder that holds it"
            ) from problem
        if self.revision is None:
            warnings.warn(
                f"'{self}' names no revision, and its owner may change it; this one is "
                f"{self}@{root.name}",
                GenrobustWarning,
                stacklevel=2,
            )
        return root / folder

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return HUB + "/".join(filter(None, (self.repository, self.folder))) + revision


def is_published(reference: str) -> bool:
    """Whether a model is named by the hub, or by where it lies: ``vae`` is always one of the zoo.

    >>> is_published("hf://owner/name"), is_published("vae"), is_published("model.py:build")
    (True, False, False)
    """
    if reference.startswith(HUB):
        return True
    if reference in MODELS or not files.is_there(reference):
        return False
    place = Path(reference)
    return place.is_dir() or bool(_trained_at(place))


def may_be_on_hub(name: str) -> bool:
    """Whether the hub could have a model of that name.

    >>> may_be_on_hub("owner/name"), may_be_on_hub("./name"), may_be_on_hub("a b/name")
    (True, False, False)
    """
    return _ON_HUB.fullmatch(HUB + name) is not None and not name.startswith(".")


def lies_in(reference: str) -> Path:
    """The folder of a model that is named by where it lies; the model is called as it is."""
    place = Path(reference).resolve()
    return place if place.is_dir() else place.parent


def load_published(
    reference: str, shape: tuple[int, int, int], weights: str | Path | None = None
) -> GenerativeModel:
    """A model by its folder or its place on the hub.

    Args:
        reference: a folder, trained weights, their card, or as :class:`HubPlace`.
        shape: of the images, which most of diffusers' autoencoders take in any size.
        weights: a state dict in place of the one that lies there.

    Raises:
        GenrobustError: there is none, or in no known layout, or for other images.
    """
    if reference.startswith(HUB):
        on_hub = HubPlace.read(reference)
        folder, name = on_hub.fetch(), Path(on_hub.repository).name
    else:
        folder, name = Path(reference), lies_in(reference).name
    parts = [folder / part for part in _PARTS if (folder / part / _CONFIG).is_file()]
    if not (folder / _CONFIG).is_file() and parts:
        folder = parts[0]
    if not folder.is_dir():
        model = adapt(_of_card(folder), name=name)
    elif (folder / _SPEC).is_file():
        model = _of_spec(folder)
    elif "_class_name" in _table(folder / _CONFIG):
        model = _of_diffusers(folder, shape, name)
    else:
        model = adapt(_of_card(folder), name=name)
    if weights is not None:
        load_state_dict(model.module, read_state_dict(weights), weights)
    return model


def _of_diffusers(folder: Path, shape: tuple[int, int, int], name: str) -> GenerativeModel:
    torchvision_datasets()  # makes torchvision importable, which parts of diffusers import
    try:
        import diffusers
    except ImportError as problem:
        raise _lacking(f"'{folder}', a model in diffusers' layout,", "diffusers") from problem
    config = _table(folder / _CONFIG)
    kind: Any = getattr(diffusers, str(config["_class_name"]), None)
    halves = [callable(getattr(kind, half, None)) for half in ("encode", "decode")]
    if not all(halves) or diffusers.ModelMixin not in getattr(kind, "__mro__", ()):
        raise GenrobustError(
            f"'{folder}' holds a {config['_class_name']}, which the installed diffusers "
            f"{diffusers.__version__} does not have as an autoencoder; give one, such as an "
            "AutoencoderKL, a VQModel or an AutoencoderTiny, or upgrade diffusers"
        )
    channels = config.get("in_channels", shape[0])
    if channels != shape[0]:
        raise GenrobustError(
            f"'{folder}' takes images of {channels} channels, and those of the data set have "
            f"{shape[0]}; choose a data set with as many, or convert in a function: "
            "FILE.py:FUNCTION"
        )
    try:
        module: nn.Module = kind.from_pretrained(
            folder,
            variant=_only_variant(folder),
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
        )
    except Exception as problem:  # whatever a config of another version leads to
        raise GenrobustError(
            f"diffusers cannot load '{folder}' ({in_a_line(problem)}); it takes config.json beside "
            "diffusion_pytorch_model.safetensors: module.save_pretrained(FOLDER)"
        ) from problem
    deploy = (lambda x: module(x).sample) if kind.__name__ in _ROUNDED else None
    # What its pipelines do: pixels from -1 to 1, and reconstructions clipped to them.
    how: dict[str, Any] = {"value_range": (-1.0, 1.0), "clamp": True, "deploy": deploy}
    return adapt(module, input_shape=shape, name=name, **how)


def _only_variant(folder: Path) -> str | None:
    """The variant of the weights, such as ``fp16``, where a folder holds one and none without."""
    found = {
        at[1] for path in folder.iterdir() if (at := _WEIGHTS_OF_DIFFUSERS.fullmatch(path.name))
    }
    return found.pop() if len(found) == 1 else None


def _of_spec(folder: Path) -> GenerativeModel:
    # What few models are, and the zoo would wait for.
    from genrobust.models.portable import GRAPH, WEIGHTS, load_portable

    there = [name for name in (WEIGHTS, GRAPH) if (folder / name).is_file()]
    contents = {name: files.read_bytes(folder / name) for name in there}
    return load_portable(_table(folder / _SPEC), contents)


def _of_card(place: Path) -> ConvVAE:
    """The model whose weights lie beside their card, of a folder or by one of the two."""
    models = _trained_at(place)
    if len(models) == 1:
        ((path, network),) = models.items()
        built = ConvVAE(network)
        load_state_dict(built, read_state_dict(path), path)
        return built
    if models:
        names = sorted(path.name for path in models)
        raise GenrobustError(
            f"'{place}' holds {len(models)} models ({', '.join(names)}); name one, such as "
            f"'{place / names[0]}'"
        )
    pickled = any(place.glob("*.bin")) or any(place.glob("*.pt*"))
    advice = "; it holds a pickle, which is not read: save it with safetensors" if pickled else ""
    raise GenrobustError(
        f"'{place}' is in no known layout ({_LAYOUTS}){advice}; code is given as FILE.py:FUNCTION"
    )


def _trained_at(place: Path) -> dict[Path, NetworkSpec]:
    """The weights of trained models, and the network that the card beside each names.

    All in a folder, where training's checkpoint has no card; or those that a file is, or is of.
    """
    if place.is_dir():
        weights = [*place.glob("*.safetensors")]
    else:
        weights = [place.with_suffix(".safetensors")] if place.suffix in _TRAINED else []
    found = {path: network_of(path) for path in weights}
    return {path: network for path, network in found.items() if network is not None}


def _table(path: Path) -> dict[str, Any]:
    """A JSON file's table; empty where there is none."""
    try:
        found = json.loads(files.read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as problem:
        raise GenrobustError(
            f"'{path}' cannot be read as JSON ({in_a_line(problem)}); fetch the folder again"
        ) from problem
    return found if isinstance(found, dict) else {}


def _lacking(what: str, package: str) -> GenrobustError:
    return GenrobustError(f"{what} needs {package}; pip install 'genrobust[hub]'")
