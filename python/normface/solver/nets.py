"""The nets that a solver names: their texts and states, the weights they start from, how test nets share them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffeport import CaffeportWarning, Message, Net, Operator, read_prototxt
from caffeport.errors import shape_text
from caffeport.formats import caffemodel
from caffeport.formats.upgrade import upgrade
from caffeport.graph.build import build
from caffeport.graph.module_names import state_names
from caffeport.graph.options import Options
from caffeport.graph.weights import attach
from caffeport.operators.base import Phase
from caffeport.to_torch.module import CaffeModule
from torch import Tensor, nn

from ..errors import TrainingError
from .fields import NetStateChange
from .parameters import SolverText


@dataclass(frozen=True)
class Reading:
    """The way to read nets: ``sources`` takes shapes from what the data layers read, the rest is caffeport.load's."""

    sources: bool = False
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    custom_layers: Sequence[type[Operator]] = ()
    exact_gradients: bool = False
    bn: str | None = None
    allow_unknown_fields: bool = False


class Places:
    """Files as a solver names them: from the working directory, as Caffe, else from the solver's own folder.

    Published solvers name their nets from Caffe's root (``examples/mnist/lenet_train_test.prototxt``), and people keep
    both files in one folder; so what is in neither place is looked for there under its bare name. ``notes`` tells of
    every file that was found only beside the solver.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self._bare = False  # something was found under its bare name: the solver is written for another root

    def find(self, name: str, what: str) -> Path:
        path = Path(name)
        if os.path.exists(path):
            return path
        for beside in dict.fromkeys((self.folder / path, self.folder / path.name)):
            if os.path.exists(beside):
                self._bare |= beside != self.folder / path
                self._note(f"{name} ({what}) is taken from beside the solver: {beside}")
                return beside
        raise TrainingError(f"{name}: no such file ({what}); looked in the working directory and in {self.folder}")

    def find_folder(self, prefix: str) -> str:
        """A snapshot_prefix whose folder exists, if there is one: as it is named, or beside the solver.

        Where the nets were found under their bare names, so is its place.
        """
        folder = Path(prefix).parent
        if os.path.isdir(folder) or folder.is_absolute():
            return prefix
        beside = self.folder / prefix
        if not os.path.isdir(beside.parent):
            if not self._bare:
                return prefix
            beside = self.folder / Path(prefix).name
        self._note(f"snapshots go beside the solver: {beside}_iter_N.caffemodel")
        return str(beside)

    def _note(self, note: str) -> None:
        if note not in self.notes:  # the general net is read again for every test net
            self.notes.append(note)


def train_text(text: SolverText, net: str | Path | None, places: Places) -> Message:
    """The text of the net to train: ``net`` if given, else what the solver names or holds."""
    if net is not None:
        return upgrade(read_prototxt(net))
    if text.train_net_param is not None:
        return upgrade(text.train_net_param)
    if text.net_param is not None:
        return upgrade(text.net_param)
    named = text.fields.train_net or text.fields.net
    return upgrade(read_prototxt(places.find(named, "the net")))


def test_texts(text: SolverText, net: str | Path | None, places: Places) -> list[Message]:
    """The text of every test net, one a test_iter, in Caffe's order: test_net_param, test_net, then the general net."""
    texts = [upgrade(message) for message in text.test_net_param]
    texts += [upgrade(read_prototxt(places.find(name, "a test net"))) for name in text.fields.test_net]
    # Caffe reads the general net once for each test_iter that is left.
    texts += [train_text(text, net, places) for _ in range(len(text.fields.test_iter) - len(texts))]
    return texts


def build_net(
    message: Message, phase: Phase, state: NetStateChange, stored: caffemodel.Caffemodel | None, seed: int, how: Reading
) -> Net:
    """A net of the phase, with the stored weights it has layers for, else its fillers' numbers."""
    chosen = state.phase or phase
    shapes = {name: tuple(shape) for name, shape in how.input_shapes.items()}
    if how.sources:
        from ..data.caffe import input_shapes

        sizes = input_shapes(
            message,
            chosen.name,
            stages=state.stage,
            level=state.level,
            custom_layers=how.custom_layers,
            allow_unknown_fields=how.allow_unknown_fields,
        )
        shapes = {**sizes, **shapes}
    options = Options(
        phase=chosen,
        stages=tuple(state.stage),
        level=state.level,
        custom_layers=tuple(how.custom_layers),
        input_shapes=shapes,
        allow_unknown_fields=how.allow_unknown_fields,
        allow_missing_weights=True,
        layer_options={"bn": how.bn, "exact_gradients": how.exact_gradients},
        seed=seed,
        reads_data=how.sources,
    )
    net = build(message, stored, options)
    if stored is not None:
        if phase is Phase.TRAIN:
            attach(net, stored, allow_missing=True)
            net.weights_path = Path(stored.path)
        elif {layer.name for layer in stored.layers} & {layer.name for layer in net.layers if layer.params}:
            with warnings.catch_warnings():  # what is missing was told of the train net
                warnings.simplefilter("ignore", CaffeportWarning)
                attach(net, stored, allow_missing=True)
    return net


def read_weights(paths: Sequence[Path]) -> caffemodel.Caffemodel | None:
    """Several weights files as one; where two have a layer, the later counts, as in Caffe."""
    if not paths:
        return None
    read = [caffemodel.read(path) for path in paths]
    layers: list[caffemodel.StoredLayer] = []
    for model in read:
        names = {layer.name for layer in model.layers}
        layers = [*(layer for layer in layers if layer.name not in names), *model.layers]
    return caffemodel.Caffemodel(", ".join(model.path for model in read), read[-1].name, layers)


def module_of(net: Net) -> CaffeModule:
    """The net's module; it returns, besides the net's outputs, blobs inside the net that have a loss_weight."""
    weighted = [
        value
        for layer in net.layers
        for value, weight in zip(layer.outputs, layer.loss_weights, strict=True)
        if weight and net.blobs[value.name] is value and value not in net.output_values
    ]
    return CaffeModule(net, net.layers, [*net.output_values, *weighted], None)


def blobs_of(net: Net, model: nn.Module) -> list[Tensor]:
    """The tensor of every ``net.params``, in that order."""
    held = model.state_dict(keep_vars=True)
    names = state_names(net.layers)
    keys = {
        id(param): f"{names[layer]}.{spec.name}"
        for layer in reversed(net.layers)
        for param, spec in zip(layer.params, layer.specs, strict=True)
    }
    return [held[keys[id(param)]] for param in net.params]


def share(test: Net, test_model: CaffeModule, train: Net, train_model: CaffeModule) -> None:
    """Give the test net's layers the train net's own tensors, by layer name (Caffe's ShareTrainedLayersWith)."""
    owners = {layer.name: layer for layer in train.layers if layer.params}
    source_names, target_names = state_names(train.layers), state_names(test.layers)
    for layer in test.layers:
        owner = owners.get(layer.name)
        if owner is None or not layer.params:
            continue
        mine, theirs = [spec.shape for spec in layer.specs], [spec.shape for spec in owner.specs]
        if mine != theirs:
            raise TrainingError(
                f"{layer.title}: its blobs are {' and '.join(map(shape_text, mine))} in the test net, "
                f"but {' and '.join(map(shape_text, theirs))} in the train net"
            )
        source = train_model.get_submodule(train_model.layer_paths[source_names[owner]])
        target = test_model.get_submodule(test_model.layer_paths[target_names[layer]])
        for spec in layer.specs:
            for table in ("_parameters", "_buffers"):
                if spec.name in getattr(source, table):
                    _forget(target, spec.name)
                    getattr(target, table)[spec.name] = getattr(source, table)[spec.name]


def _forget(module: Any, name: str) -> None:
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
