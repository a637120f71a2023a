"""A Caffe solver that runs in torch, one iteration at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from caffeport import Net
from caffeport.formats import caffemodel
from caffeport.graph.weights import attach
from caffeport.operators.base import Phase
from caffeport.operators.custom import CustomLayers, custom_operators
from caffeport.to_torch.float32 import whole_float32
from caffeport.to_torch.module import CaffeModule
from torch import Tensor
from torch.nn import Parameter

from ..errors import DivergedError, TrainingError
from . import debug, hdf5_state, nets, parameters, running, state
from .batches import Batch, Batches
from .fields import NetStateChange, SnapshotFormat
from .policies import current_step, learning_rate
from .precision import autocast, automatic_device, keep_full_precision, settle_device, settle_precision
from .randomness import Randomness
from .updates import Update


class Companion(Protocol):
    """Something that snapshots are to hold too, such as where the data stands."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Solver:
    """Run a ``solver.prototxt`` with Caffe's arithmetic: the update, the TRAIN phase, what layers do to their blobs.

    solver: the path of the solver's text.
    net: the path of the net, in place of the one that the solver names.
    weights: ``.caffemodel`` files (a path, several with commas between, or a list), in place of the solver's own
        ``weights``; layers that they lack start from their fillers.
    device: "cpu", "cuda", "cuda:1"; "auto" is what solver_mode and device_id ask for, or the CPU and a note where there
        is no such GPU.
    precision: "32", or "bf16" for mixed precision: products and convolutions in bfloat16, weights, their update and
        the losses in float32.
    sources: take the inputs' shapes from the files that the nets' data layers read, as Caffe does.
    input_shapes, custom_layers, exact_gradients, bn, allow_unknown_fields: as of caffeport.load.

    Relative paths in the solver are looked for from the working directory, as in Caffe, then beside the solver.
    random_seed seeds the fillers and dropout; without it both start from seed 0, not from the clock.

    step() is one iteration. The caller hands over the batches; ``normface.solver.training`` runs a net's own data
    layers, its tests and its snapshots. ``model`` is the torch module that is trained, in Caffe's TRAIN phase.

    Raises TrainingError, PrototxtError, NetError, WeightsError, each one line with the place and the way out.
    """

    def __init__(
        self,
        solver: str | Path,
        net: str | Path | None = None,
        weights: str | Path | Sequence[str | Path] | None = None,
        device: str | torch.device = "cpu",
        *,
        precision: str = "32",
        sources: bool = False,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        custom_layers: CustomLayers = (),
        exact_gradients: bool = False,
        bn: str | None = None,
        allow_unknown_fields: bool = False,
    ) -> None:
        self.precision = settle_precision(precision)
        self._text = parameters.read(solver, own_net=net is not None)
        self.parameters = self._text.fields
        self.places = nets.Places(Path(solver).absolute().parent)
        self.device = self._settled(device)
        # oneDNN's convolutions and torch's pooling take images faster that way; a layer of the user's own may not.
        operators = custom_operators(custom_layers)
        self._channels_last = self.device.type == "cpu" and not operators
        self._own_net = net
        self._reading = nets.Reading(sources, input_shapes or {}, operators, exact_gradients, bn, allow_unknown_fields)
        self.seed = max(self.parameters.random_seed, 0)
        self._stored = nets.read_weights(self._weights(weights))
        message = nets.train_text(self._text, net, self.places)
        self._net = self._build(message, Phase.TRAIN, self.parameters.train_state)
        self.model = self._module(self._net).train()
        if not self.model.loss_weights:
            raise TrainingError(f"{message.source}: has no loss in its TRAIN phase; there is nothing to train for")
        self._overwriting: list[Any] = [m for m in self.model.modules() if hasattr(m, "overwrite_blobs")]
        self._blobs = nets.blobs_of(self._net, self.model)
        self._update = Update(self.parameters, self._trained())
        self._randomness = Randomness(self.seed, self.device, any(layer.op.random for layer in self._net.layers))
        self._batches = Batches(self._net, self.device, self._channels_last)
        self._test_nets: list[tuple[Net, CaffeModule, Batches]] | None = None
        self.companions: dict[str, Companion] = {}
        """All that snapshots hold besides the solver; restore() hands each its state back."""

        self.iteration = 0
        """The number of updates of the weights."""
        self._current_step = 0
        self.loss = math.nan
        """The loss of the last iteration: the tops by their loss_weight, the mean over iter_size batches."""
        self.outputs: dict[str, Tensor] = {}
        """Every top of the last iteration, whole; the mean over iter_size batches."""
        self.last_outputs: dict[str, Tensor] = {}
        """The same of the last of these batches, which is what Caffe displays."""
        self.debug: Callable[[str], None] | None = None
        """Takes the lines of debug_info, of every forward and backward pass; None makes none."""

    def _settled(self, device: str | torch.device) -> torch.device:
        if device != "auto":
            return settle_device(device)
        settled, note = automatic_device(self.parameters)
        self.places.notes += [note] if note else []
        return settled

    def _weights(self, given: Any) -> list[Path]:
        if given is None:
            names = [name.strip() for listed in self.parameters.weights for name in listed.split(",")]
            return [self.places.find(name, "weights") for name in names if name]
        listed = given.split(",") if isinstance(given, str) else [given] if isinstance(given, Path) else given
        return [Path(str(name).strip()) for name in listed]

    def _build(self, message: Any, phase: Phase, change: NetStateChange) -> Net:
        return nets.build_net(message, phase, change, self._stored, self.seed, self._reading)

    def _module(self, net: Net) -> CaffeModule:
        model = nets.module_of(net)
        if self.precision != "32":
            keep_full_precision(model, self.device)
        if self._channels_last:
            for blob in model.parameters():
                if blob.dim() == 4:
                    blob.data = blob.data.to(memory_format=torch.channels_last)
        return model.to(self.device)

    def _trained(self) -> list[tuple[Tensor, float, float]]:
        trained = []
        for param, blob in zip(self._net.params, self._blobs, strict=True):
            if not param.spec.trained:
                continue
            if param.lr_mult == 0:
                blob.requires_grad_(False)
            else:
                trained.append((blob, param.lr_mult, param.decay_mult))
        return trained

    def __repr__(self) -> str:
        """Return its text's name, its type and where it stands, in one line."""
        p = self.parameters
        words = [p.type, f"iteration {self.iteration} of {p.max_iter}"]
        with suppress(TrainingError):  # poly has no rate beyond the last iteration
            words.append(f"learning rate {self.learning_rate:g}")
        words += [] if math.isnan(self.loss) else [f"loss {self.loss:.4g}"]
        return f"Solver({self._text.path.name!r}: {', '.join([*words, str(self.device)])})"

    @property
    def notes(self) -> list[str]:
        """Return notes of files found only beside the solver, and of a GPU that it asks for and that is not there."""
        return self.places.notes

    @property
    def learning_rate(self) -> float:
        """Return the rate that the next step will take."""
        p = self.parameters
        return learning_rate(p, self.iteration, current_step(p, self.iteration, self._current_step))

    def step(self, batch: Batch | Sequence[Batch]) -> dict[str, float]:
        """Do one iteration of Caffe's: forward and backward, the update.

        batch: {input blob: array or tensor}, with iter_size a list of that many.

        Returns {top: its first number} of the net's outputs, as they were before the update; the mean over iter_size
        batches. ``loss`` and ``outputs`` have more. Raises DivergedError, and leaves the weights alone, where the loss
        is no number; TrainingError for batches that do not fit.
        """
        p = self.parameters
        batches = [self._batches.tensors(one) for one in self._listed(batch)]
        drops = current_step(p, self.iteration, self._current_step)
        rate = learning_rate(p, self.iteration, drops)
        statistics = [(blob, blob.clone()) for blob in self._blobs if not isinstance(blob, Parameter)]
        try:
            self._forward_backward(batches)
            if math.isfinite(self.loss):
                self._update.apply(rate, self.iteration)
        finally:
            for blob in self._blobs:
                blob.grad = None
        if not math.isfinite(self.loss):
            for blob, kept in statistics:
                blob.copy_(kept)
            raise DivergedError(
                f"iteration {self.iteration}: the loss is {self.loss}; the weights are those before it. "
                "A lower base_lr or clip_gradients may help"
            )
        self._current_step = drops
        self.iteration += 1
        return {name: _first(self.outputs[name]) for name in self._net.outputs}

    @whole_float32()
    def _forward_backward(self, batches: list[list[Tensor]]) -> None:
        """Sum the gradients of all batches into the blobs' ``grad``; sets ``loss`` and ``outputs``, their means."""
        self.model.train()
        totals: dict[str, Tensor] = {}
        loss = torch.zeros((), device=self.device)
        for tensors in batches:
            for module in self._overwriting:
                module.overwrite_blobs()
            blobs: dict[str, Tensor] = {}
            outputs = self._forward(self.model, tensors, blobs)
            weighted = self.model.loss(outputs)
            if weighted.requires_grad:  # else every blob is frozen, and the run only gathers statistics
                weighted.backward()
                if self.debug is not None:
                    self._tell(debug.backward_lines(self._net, blobs, self._blobs))
            loss += weighted.detach()
            self.last_outputs = {name: top.detach() for name, top in outputs.items()}
            for name, top in outputs.items():
                totals[name] = totals[name] + top.detach() if name in totals else top.detach()
        count = len(batches)
        self.loss = float(loss) / count
        self.outputs = {name: total / count if count > 1 else total for name, total in totals.items()}

    @whole_float32()
    def loss_of(self, batch: Batch | Sequence[Batch]) -> float:
        """The loss of a forward pass in the TRAIN phase, as Caffe's last line has it; nothing is changed by it.

        batch: as of step(); of several the first counts. ``last_outputs`` has its tops.
        """
        one = batch if isinstance(batch, Mapping) else batch[0]
        held = [blob.clone() for blob in self._blobs]
        counters, random = running.state(self.model), self._randomness.state()
        try:
            with torch.no_grad():
                outputs = self._forward(self.model.train(), self._batches.tensors(one), {})
                self.last_outputs = outputs
                return float(self.model.loss(outputs))
        finally:
            with torch.no_grad():
                for blob, kept in zip(self._blobs, held, strict=True):
                    blob.copy_(kept)
            running.restore(self.model, counters, self.device)
            self._randomness.restore(random)

    def _forward(self, model: CaffeModule, tensors: list[Tensor], blobs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs; where lines of debug_info are asked for, ``blobs`` gets every blob, and the lines are told."""
        try:
            with self._randomness.own(), autocast(self.precision, self.device):
                outputs = model(*tensors) if self.debug is None else self._told_forward(model, tensors, blobs)
        except (IndexError, RuntimeError) as error:  # torch's: of memory, or of an index that is out of range
            said = str(error).partition("\n")[0]
            raise TrainingError(
                f"iteration {self.iteration}: the net cannot compute this batch ({said}); are all labels below the "
                "number of classes?"
            ) from error
        return outputs if isinstance(outputs, dict) else {model.output_names[0]: outputs}

    def _told_forward(self, model: CaffeModule, tensors: list[Tensor], blobs: dict[str, Tensor]) -> dict[str, Tensor]:
        net, params = self._net, self._blobs
        for test, test_model, _ in self._test_nets or ():
            if test_model is model:
                net, params = test, nets.blobs_of(test, test_model)
        blobs.update(model.blobs(*tensors))
        for blob in blobs.values():
            if blob.requires_grad:
                blob.retain_grad()
        self._tell(debug.forward_lines(net, blobs, params))
        return {name: blobs[name] for name in model.output_names}

    def _tell(self, lines: list[str]) -> None:
        assert self.debug is not None
        for line in lines:
            self.debug(line)

    def _listed(self, batch: Batch | Sequence[Batch]) -> Sequence[Batch]:
        batches = [batch] if isinstance(batch, Mapping) else list(batch)
        if len(batches) != self.parameters.iter_size:
            raise TrainingError(
                f"iter_size is {self.parameters.iter_size}: expected a list of that many batches, got {len(batches)}"
            )
        return batches

    @property
    def test_nets(self) -> list[Net]:
        """Return the nets of the TEST phase, one a test_iter; they share the weights of the net that is trained."""
        return [net for net, *_ in self._tests()]

    def _tests(self) -> list[tuple[Net, CaffeModule, Batches]]:
        if self._test_nets is None:
            tests = []
            states = self.parameters.test_state or [NetStateChange()] * len(self.parameters.test_iter)
            texts = nets.test_texts(self._text, self._own_net, self.places)
            for message, change in zip(texts, states, strict=True):
                net = self._build(message, Phase.TEST, change)
                model = self._module(net)
                nets.share(net, model, self._net, self.model)
                tests.append((net, model.eval(), Batches(net, self.device, self._channels_last)))
            self._test_nets = tests
        return self._test_nets

    @torch.no_grad()
    @whole_float32()
    def test(self, batch: Batch, index: int = 0) -> dict[str, Tensor]:
        """Return the outputs of test net number ``index`` for a batch; nothing is learned."""
        net, model, batches = self._tests()[index]
        outputs = self._forward(model.eval(), batches.tensors(batch), {})
        return {name: outputs[name].float() for name in net.outputs}

    def test_loss_weights(self, index: int = 0) -> dict[str, float]:
        """Return {top: loss_weight} of test net number ``index``."""
        return self._tests()[index][1].loss_weights

    def net(self) -> Net:
        """Return the net (TRAIN phase) with the weights as they are now; its save() writes a ``.caffemodel``."""
        return self._net.with_weights(self.model)

    @property
    def train_net(self) -> Net:
        """Return the net that is trained, with the weights that it started from."""
        return self._net

    def snapshot(self, prefix: str | Path | None = None) -> Path:
        """Write ``PREFIX_iter_N.caffemodel`` and ``.solverstate``; returns the path of the latter.

        With snapshot_format HDF5 both end in ``.h5``, which takes h5py. prefix: by default the solver's
        snapshot_prefix. Both files open in Caffe; the state holds in addition what
        it takes to go on to the same numbers. Raises DivergedError, and writes nothing, where a weight is no number.
        """
        for param, blob in zip(self._net.params, self._blobs, strict=True):
            if not bool(torch.isfinite(blob).all()):
                raise DivergedError(
                    f'iteration {self.iteration}: layer "{param.layer}" has weights that are no numbers; no snapshot '
                    "is written. A lower base_lr or clip_gradients may help"
                )
        prefix = self.parameters.snapshot_prefix if prefix is None else prefix
        hdf5 = self.parameters.snapshot_format is SnapshotFormat.HDF5
        model_path, path = (
            Path(f"{prefix}_iter_{self.iteration}{endings[hdf5]}") for endings in (state.WEIGHTS, state.STATES)
        )
        self.net().save(model_path)
        extras = {
            "randomness": self._randomness.state(),
            "running": running.state(self.model),
            "companions": {name: companion.state() for name, companion in self.companions.items()},
        }
        content = state.SolverState(self.iteration, str(model_path), self._current_step, extras=extras)
        write = hdf5_state.write if hdf5 else state.write
        write(path, content, self._histories())  # last: a state is there only when its weights are
        return path

    def _histories(self) -> Iterator[np.ndarray]:
        held = self._update.histories()
        for which in range(1 + self._update.two_histories):
            for param, blob in zip(self._net.params, self._blobs, strict=True):
                if blob in held:
                    yield held[blob][which].detach().cpu().numpy()
                else:
                    yield np.broadcast_to(np.float32(0), param.shape)

    def restore(self, path: str | Path) -> Path:
        """Go on from a snapshot, this solver's or Caffe's; returns the path of its state file.

        path: the ``.solverstate``, or a prefix given to snapshot(), of which the latest counts. Weights are looked
        for where the state says, then beside it.
        """
        path = state.newest(path)
        read = state.read(path)
        weights = _beside(path, read.learned_net)
        shapes = [param.shape for param in self._net.params]
        state.check_history(read, shapes, 1 + self._update.two_histories, path)
        self._load_weights(weights)
        held = self._update.histories()
        with torch.no_grad():
            for i, array in enumerate(read.history):
                blob = self._blobs[i % len(shapes)]
                if blob in held:
                    target = held[blob][i // len(shapes)]
                    target.copy_(torch.from_numpy(np.array(array, np.float32)).reshape(target.shape))
        self.iteration, self._current_step = read.iteration, read.current_step
        self._randomness.restore(read.extras.get("randomness") or {})
        running.restore(self.model, read.extras.get("running") or {}, self.device)
        for name, companion in self.companions.items():
            if name in (read.extras.get("companions") or {}):
                companion.restore(read.extras["companions"][name])
        return path

    @torch.no_grad()
    def _load_weights(self, path: Path) -> None:
        attach(self._net, caffemodel.read(path), allow_missing=False)
        for param, blob in zip(self._net.params, self._blobs, strict=True):
            blob.copy_(torch.from_numpy(np.array(param.data, np.float32)))


def _first(top: Tensor) -> float:
    return float(top.reshape(-1)[0])


def _beside(path: Path, learned_net: str) -> Path:
    """The weights of a state file."""
    for candidate in (Path(learned_net), path.parent / Path(learned_net).name):
        if candidate.is_file():
            return candidate
    raise TrainingError(f"{path}: its weights, {learned_net}, are not here, nor beside it")
