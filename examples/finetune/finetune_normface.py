"""Finetune a Caffe face net in plain PyTorch: a script to copy and to change. Everything is here and nothing is hidden.

    python finetune_normface.py deploy.prototxt face.caffemodel faces/ tuned --embedding fc5 --preset center-face

With the same settings it comes to the same numbers as ``normface finetune``, which has more of them, and resumes.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import caffeport
import numpy as np
import torch
from normface.data import open_images
from normface.evaluate import verification
from normface.finetune.sampling import Sampler, hold_out
from normface.losses import NormalizedSoftmaxLoss
from normface.preprocessing import Preprocessing, preset
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

FAR = 1e-3  # the false accept rate at which true accepts are counted


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("net")
    parser.add_argument("weights")
    parser.add_argument("data", help="a folder for each person, a list, an LMDB, a .rec or a .zip")
    parser.add_argument("out", type=Path)
    parser.add_argument("--embedding", required=True, help="blob of the feature")
    parser.add_argument("--preset", help="what a published net's images need, or --mean and --scale")
    parser.add_argument("--mean", type=float, default=0.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3, help="of the net; of the head ten times as much")
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the people held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def features_of(model: nn.Module, loader: DataLoader, device: str) -> Tensor:
    """(N, D), in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(images.to(device)).flatten(1).cpu() for images, _ in loader])


def verify(features: Tensor, labels: np.ndarray) -> tuple[float, float]:
    """(true accepts at FAR, area under the ROC) of all pairs of images, by the cosine."""
    units = nn.functional.normalize(features)
    first, second = np.triu_indices(len(labels), 1)
    scores = (units @ units.T).numpy()[first, second]
    figures = verification(scores, labels[first] == labels[second], fars=(FAR,))
    return figures.tar[FAR], figures.auc


def start_from_means(loss: NormalizedSoftmaxLoss, features: Tensor, labels: Tensor) -> None:
    """Class weights: each class's mean direction, so that a good net is not first pulled about by random ones."""
    counts = torch.bincount(labels, minlength=loss.num_classes)[:, None]
    sums = torch.zeros(loss.num_classes, features.shape[1]).index_add_(0, labels, nn.functional.normalize(features))
    with torch.no_grad():
        length = loss.weight.norm(dim=1).mean()
        loss.weight[:] = (nn.functional.normalize(sums / counts)).to(loss.weight) * length


def groups(net: caffeport.Net, model: nn.Module, loss: NormalizedSoftmaxLoss, lr: float, decay: float) -> list[dict]:
    """Each blob with lr_mult and decay_mult of the net's text; class weights, and a scale that does not decay."""
    parameters = dict(model.named_parameters())
    own = [
        {"params": [parameters[name]], "lr": lr * text.lr_mult, "weight_decay": decay * text.decay_mult}
        for name, text in {f"{param.layer}.{param.name}": param for param in net.params}.items()
        if name in parameters and text.lr_mult > 0
    ]
    head = {"params": [loss.weight], "lr": 10 * lr, "weight_decay": decay}
    rest = [parameter for parameter in loss.parameters() if parameter is not loss.weight]
    return [*own, head, {"params": rest, "lr": 10 * lr, "weight_decay": 0.0}]


def rate(step: int, steps: int) -> float:
    """A twentieth of the run to warm up, then a cosine."""
    warmup = round(0.05 * steps)
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2


def main() -> None:
    args = options()
    # The net, cut at its feature: what follows (heads, losses) goes.
    net = caffeport.load(args.net, args.weights, allow_missing_weights=True, seed=args.seed).cut([args.embedding])
    (_, channels, height, width) = net.input_values[0].shape
    # The images, as the net wants them.
    prepared = preset(args.preset) if args.preset else Preprocessing((args.mean,), args.scale)
    dataset = open_images(args.data, color=channels == 3, labelled=True)
    dataset.transform = lambda image: torch.from_numpy(prepared.batch([prepared.fitted(image, (height, width))])[0])
    training, held_out = hold_out(dataset.labels, args.val_share, args.seed)
    faces, (classes, labels) = Subset(dataset, training), np.unique(dataset.labels[training], return_inverse=True)
    in_order = {"batch_size": args.batch_size, "num_workers": args.workers}
    # Model and loss.
    torch.manual_seed(args.seed)
    loss = NormalizedSoftmaxLoss(len(classes), net.blob_shapes[args.embedding][1]).to(args.device)
    model = net.to_torch().to(args.device)
    targets = torch.from_numpy(labels)
    start_from_means(loss, features_of(model, DataLoader(faces, **in_order), args.device), targets)
    optimizer = torch.optim.SGD(groups(net, model, loss, args.lr, 5e-4), momentum=0.9)
    base = [group["lr"] for group in optimizer.param_groups]
    # The loop. Which images a step sees follows from the seed and its number.
    sampler = Sampler(labels, args.batch_size, seed=args.seed, mirror=True, balanced=False)
    steps = max(1, round(args.epochs * sampler.batches_per_epoch))
    chosen = [sampler.batch(step) for step in range(steps)]
    loader = DataLoader(faces, batch_sampler=[one.places for one in chosen], num_workers=args.workers)
    validation = DataLoader(Subset(dataset, held_out), **in_order)
    best, best_state = (-1.0, -1.0), copy.deepcopy(model.state_dict())
    for step, (images, _) in enumerate(loader):
        model.train()
        for module in model.modules():
            if any(buffer is not None for buffer in module._buffers.values()):
                module.eval()  # BatchNorm keeps its statistics
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * rate(step, steps)
        mirrored = torch.from_numpy(chosen[step].mirrored)
        images[mirrored] = images[mirrored].flip(3)
        value = loss(model(images.to(args.device)).flatten(1), targets[chosen[step].places].to(args.device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if (step + 1) % sampler.batches_per_epoch == 0 or step + 1 == steps:
            features = features_of(model, validation, args.device) if len(held_out) else None
            figures = verify(features, dataset.labels[held_out]) if features is not None else (0.0, 0.0)
            print(f"step {step + 1} of {steps}: loss {value:.4f}, true accepts {figures[0]:.4f}, area {figures[1]:.4f}")
            if figures > best or not len(held_out):
                best, best_state = figures, copy.deepcopy(model.state_dict())
    # The best model for Caffe and ONNX Runtime.
    args.out.mkdir(parents=True, exist_ok=True)
    tuned = net.with_weights({key: value.cpu() for key, value in best_state.items()})
    tuned.save(args.out / "model.caffemodel", prototxt=args.out / "deploy.prototxt")
    tuned.to_onnx(args.out / "model.onnx")
    print(f"{args.out}: model.caffemodel, deploy.prototxt, model.onnx")


if __name__ == "__main__":
    main()
