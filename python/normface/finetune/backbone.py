"""The Caffe net as what is trained: cut at the embedding, the frozen part apart from the trained one."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import caffeport
from caffeport import CaffeportWarning, Net, Param
from caffeport.graph.layer import Layer, Value
from caffeport.graph.module_names import state_names
from caffeport.graph.walk import needed_layers, wanted_values
from torch import Tensor, nn

from ..errors import NormfaceWarning, TrainingError, did_you_mean, shape_text
from ..preprocessing import Preprocessing
from ..preprocessing import preset as preset_named
from . import parts
from .config import Config


@dataclass
class Backbone:
    """``whole`` goes from the image to ``embedding``; ``frozen`` is its part that stays, ``trained`` the rest.

    size, channels: of the image input. width: of the embedding. new_layers: names of what --new-embedding added.
    preprocessing: what the images need.
    """

    whole: Net
    embedding: str
    width: int
    trained: Net | None
    frozen: Net | None
    new_layers: frozenset[str]
    size: tuple[int, int]
    channels: int
    preprocessing: Preprocessing

    def trunk(self, batch_norm: str) -> Trunk:
        """The module that trains; its input is the image, or the frozen part's feature."""
        return Trunk(self.trained, batch_norm)

    def frozen_module(self) -> Trunk | None:
        return Trunk(self.frozen, "frozen").eval() if self.frozen is not None else None

    def tuned(self, trunk_state: Mapping[str, Tensor]) -> Net:
        """The whole net with the trained part's weights."""
        names = state_names(self.whole.layers)
        state: dict[str, Any] = {
            f"{names[layer]}.{spec.name}": blob
            for layer in self.whole.layers
            for spec, blob in zip(layer.specs, (param.data for param in layer.params), strict=True)
        }
        prefix = Trunk.PREFIX
        state.update({k.removeprefix(prefix): v for k, v in trunk_state.items() if k.startswith(prefix)})
        return self.whole.with_weights(state)

    def multipliers(self) -> dict[str, Param]:
        """{key in the trunk's state_dict: the text's blob}, which knows lr_mult and decay_mult."""
        layers = self.trained.layers if self.trained is not None else []
        names = state_names(layers)
        return {
            f"{Trunk.PREFIX}{names[layer]}.{spec.name}": param
            for layer in layers
            for spec, param in zip(layer.specs, layer.params, strict=True)
        }

    def trained_keys(self) -> dict[str, bool]:
        """{key in the trunk's state_dict: whether it is of a new layer}."""
        return {key: layer.name in self.new_layers for key, layer in self._layers_of_keys().items()}

    def keys_before(self, blob: str) -> list[str]:
        """Return the keys in the trunk's state_dict of what the blob ``blob`` needs of the trained part."""
        if self.trained is None:
            return []
        needed = set(needed_layers(self.trained, wanted_values(self.trained, [blob])))
        return [key for key, layer in self._layers_of_keys().items() if layer in needed]

    def layers_behind(self) -> dict[str, int]:
        """{key in the trunk's state_dict: how many layers with weights lie between it and the embedding, at most}.

        Layers with weights are those of a matrix or kernel; PReLU, Scale or BatchNorm belong to the one before them,
        and new layers do not count.
        """
        behind: dict[Layer, int] = {}
        for layer in reversed(self.trained.layers if self.trained is not None else []):
            users = [user for value in layer.outputs for user in value.consumers if user in behind]
            behind[layer] = max((behind[user] + self._counts(user) for user in users), default=0)
        return {key: behind[layer] for key, layer in self._layers_of_keys().items()}

    def _counts(self, layer: Layer) -> bool:
        matrices = any(param.trained and sum(size > 1 for size in param.shape) > 1 for param in layer.params)
        return matrices and layer.name not in self.new_layers

    def _layers_of_keys(self) -> dict[str, Layer]:
        layers = self.trained.layers if self.trained is not None else []
        names = state_names(layers)
        return {f"{Trunk.PREFIX}{names[layer]}.{spec.name}": layer for layer in layers for spec in layer.specs}


class Trunk(nn.Module):
    """A net with one output, as (N, D), or nothing at all where all is frozen.

    With ``batch_norm`` "frozen" BatchNorm keeps its statistics while training; its scale and shift train all the same.
    """

    PREFIX = "net."

    def __init__(self, net: Net | None, batch_norm: str) -> None:
        super().__init__()
        self.net = nn.Identity() if net is None else net.to_torch()
        keepers = [module for module in self.net.modules() if any(b is not None for b in module._buffers.values())]
        self._kept = keepers if batch_norm == "frozen" else []
        self._resting: list[nn.Module] = []
        if batch_norm == "train" and any(getattr(module, "use_global_stats", None) for module in keepers):
            raise TrainingError(
                "--batch-norm train: the net's text says use_global_stats: true, which keeps the statistics; "
                "take it out of the text, or leave --batch-norm out"
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).flatten(1)

    def named_blobs(self) -> list[tuple[str, nn.Parameter]]:
        """The parameters by their keys in the state_dict, which have Caffe's names of the layers; a shared one once."""
        blobs: dict[int, tuple[str, nn.Parameter]] = {}
        for key, blob in self.state_dict(keep_vars=True).items():
            if isinstance(blob, nn.Parameter):
                blobs.setdefault(id(blob), (key, blob))
        return list(blobs.values())

    def train(self, mode: bool = True) -> Trunk:
        super().train(mode)
        for module in (*self._kept, *self._resting):
            module.eval()
        return self

    def rest(self, modules: list[nn.Module]) -> None:
        """Let these modules keep their statistics while training, and no others but those that always do."""
        self._resting = modules
        self.train(self.training)


def load(config: Config) -> Backbone:
    """Read the net, cut it, add the new layers. Raises CaffeportError in one line for whatever does not fit."""
    with _remembered_notes() as notes:
        # Heads that the weights lack are cut off; whether anything else is missing shows afterwards.
        net = caffeport.load(
            config.net,
            config.weights,
            custom_layers=config.layers or (),
            allow_missing_weights=True,
            seed=config.seed,
        )
    if config.embedding not in net.blobs:
        raise TrainingError(
            f'--embedding "{config.embedding}" is no blob of {config.net}{did_you_mean(config.embedding, net.blobs)}'
        )
    whole = parts.part(net, config.embedding)
    _check_weights(config, whole)
    for note in notes:
        if "initialised by their fillers" not in note:
            warnings.warn(note, NormfaceWarning, stacklevel=2)
    image = _image_input(config, whole)
    preprocessing = _preprocessing(config, net.preprocessing.get(image.name), image.shape[1])
    embedding, frozen_blob = config.embedding, config.frozen_blob
    if frozen_blob is not None and frozen_blob not in whole.blobs:
        near = did_you_mean(frozen_blob, whole.blobs)
        raise TrainingError(f'--freeze-to "{frozen_blob}" is no blob before "{embedding}"{near}')
    new_layers: set[str] = set()
    _width(whole, embedding)
    if config.new_sizes:
        whole, embedding, new_layers = _with_new_layers(whole, embedding, config.new_sizes)
    frozen: Net | None = None
    trained: Net | None = whole
    if frozen_blob is not None:
        parts.check_apart(whole, frozen_blob)
        frozen = parts.part(whole, frozen_blob)
        trained = parts.part(whole, embedding, frozen_blob) if frozen_blob != embedding else None
    _, channels, height, width = image.shape
    return Backbone(
        whole,
        embedding,
        _width(whole, embedding),
        trained,
        frozen,
        frozenset(new_layers),
        (height, width),
        channels,
        preprocessing,
    )


def _check_weights(config: Config, whole: Net) -> None:
    from caffeport.formats import caffemodel

    stored = {layer.name for layer in caffemodel.read(config.weights).layers if layer.blobs}
    shared = {param.layer for param in whole.params}
    missing = [layer.name for layer in whole.layers if layer.params and layer.name in shared - stored]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise TrainingError(
            f'{config.weights}: lacks the weights of {shown}, which "{config.embedding}" needs; '
            "are these weights for this net?"
        )


def _image_input(config: Config, net: Net) -> Value:
    inputs = net.input_values
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (1, 3):
        listed = ", ".join(f"{value.name} {shape_text(value.shape)}" for value in inputs) or "none"
        raise TrainingError(
            f'{config.net}: "{config.embedding}" has to depend on one image input (N, 1 or 3 channels, H, W), '
            f"and its inputs are {listed}"
        )
    return inputs[0]


def _width(net: Net, embedding: str) -> int:
    shape = net.blob_shapes[embedding]
    if len(shape) < 2 or any(dim != 1 for dim in shape[2:]):
        raise TrainingError(
            f'--embedding "{embedding}" is {shape_text(shape)}; a feature is one vector an image, NxD or NxDx1x1'
        )
    return shape[1]


def _with_new_layers(net: Net, embedding: str, sizes: list[int]) -> tuple[Net, str, set[str]]:
    """InnerProduct layers of these sizes, PReLU between them."""
    added: set[str] = set()
    blob = embedding
    for number, size in enumerate(sizes, 1):
        last = number == len(sizes)
        name = parts.free_name(net, f"new_fc{number}")
        top = parts.free_name(net, "embedding") if last else name
        layers = [parts.fully_connected(name, blob, top, size)]
        added.add(name)
        if not last:
            activation = parts.free_name(net, f"new_prelu{number}")
            layers.append(parts.prelu(activation, top))
            added.add(activation)
        net = parts.continued(net, layers)
        blob = top
    return net, blob, added


def _preprocessing(config: Config, transform: Any, channels: int) -> Preprocessing:
    """Return what flags, preset and the transform_param of the image's data layer say, in this order."""
    own = None if transform is None else _of_transform(transform, config)
    start = preset_named(config.preset) if config.preset else own
    if start is None and config.mean is None and config.scale is None:
        raise TrainingError(
            f"{config.net}: does not say what its images need; give --preset, or --mean and --scale "
            "(0 and 1: pixels as they are)"
        )
    preprocessing = (start or Preprocessing()).with_options(
        mean=config.mean, scale=config.scale, rgb=config.rgb, fit=config.fit
    )
    if len(preprocessing.mean) not in (1, channels):
        raise TrainingError(
            f"--mean: has {len(preprocessing.mean)} numbers, and the net's images have {channels} channels"
        )
    if preprocessing.rgb and channels != 3:
        raise TrainingError("--rgb needs a net that takes images of 3 channels; this one takes grey ones")
    return preprocessing


def _of_transform(transform: Any, config: Config) -> Preprocessing | None:
    if transform.mean_file and config.mean is None and config.preset is None:
        raise TrainingError(
            f'{config.net}: subtracts the mean image "{transform.mean_file}"; give --mean as numbers instead'
        )
    if not transform.mean_value and transform.scale == 1:
        return None
    return Preprocessing(tuple(transform.mean_value) or (0.0,), transform.scale)


@contextlib.contextmanager
def _remembered_notes() -> Any:
    """Caffeport's notes of a load, as text, instead of on the screen."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CaffeportWarning)
        yield notes
        notes += [str(one.message) for one in caught if issubclass(one.category, CaffeportWarning)]
