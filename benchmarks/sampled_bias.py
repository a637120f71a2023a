"""What sampling classes costs a loss: how far the sampled loss and its gradient are from those of all classes.

Of class weights on the unit sphere and features around their own class's, at a noise that leaves a training's early
loss and one that leaves its late loss; means over draws. Each other class that is drawn counts for those that it stands
for, so that the loss is right where the others are many and far; where few are near, most draws miss them, and some
count them too often. What trains is the gradient of the features: its bias (the mean over
the draws, less the whole one), its noise, and the cosine between one draw's and the whole one; all but the cosine are
relative to the whole one's length.

    python benchmarks/sampled_bias.py [--classes 20000] [--draws 30] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from normface import parallel
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
NOISES = {"early": 4.0, "late": 0.7}
FEATURES, SAMPLES = 128, 64


def step(head: parallel.ClassParallel, features: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    x = features.clone().requires_grad_()
    value = head(x, labels)
    (gradient,) = torch.autograd.grad(value, x)
    return value.item(), gradient


def measure(name: str, classes: int, noise: float, rate: float, draws: int) -> dict[str, float]:
    torch.manual_seed(0)
    whole = parallel.make(name, classes, FEATURES)
    sampled = parallel.make(name, classes, FEATURES, sample_rate=rate)
    sampled.loss.load_state_dict(whole.loss.state_dict())
    labels = torch.randint(classes, (SAMPLES,))
    own = normalize(whole.loss.weight[labels].detach())
    features = normalize(own + noise * torch.randn(SAMPLES, FEATURES) / FEATURES**0.5)
    expected, gradient = step(whole, features, labels)
    found = [step(sampled, features, labels) for _ in range(draws)]
    gradients = torch.stack([one for _, one in found])
    length = gradient.norm()
    return {
        "loss": expected,
        "sampled loss": sum(value for value, _ in found) / draws,
        "bias": float((gradients.mean(0) - gradient).norm() / length),
        "noise": float((gradients - gradients.mean(0)).flatten(1).norm(dim=1).square().mean().sqrt() / length),
        "cosine": float(cosine_similarity(gradients.flatten(1), gradient.flatten()[None]).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--classes", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--draws", type=int, default=30, help="(default 30)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    for name in ("normalized-softmax", "arcface"):
        for stage, noise in NOISES.items():
            for rate in RATES:
                figures = measure(name, options.classes, noise, rate, options.draws)
                rows.append({"loss name": name, "stage": stage, "rate": rate, **figures})
                print(name, stage, rate, *(f"{key} {value:.4g}" for key, value in figures.items()), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
