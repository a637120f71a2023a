"""Class-parallel losses beside the same losses in one process, on ranks that support.ranks starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from normface import losses, parallel
from normface.errors import TrainingError
from torch import Tensor, nn

from .loss_cases import CASES

D = 5
ALL = [
    *[(name, options) for name, options, _ in CASES],
    ("softmax", {"bias": True}),
    ("l2-softmax", {"bias": True}),
    ("elasticface", {"std": 0.2, "seed": 3}),
    ("c-contrastive", {"positive_first": True, "positive_upper_bound": 1.7}),
    ("c-contrastive", {"exp_negative_weight": True}),
    ("c-triplet", {"positive_first": True, "positive_upper_bound": 1.7}),
    ("center", {"center_step": "fork"}),
    ("softmax+0.1*center", {}),
    ("sphereface+0.5*mhe", {"base": 2.0, "lambda_min": 0.0}),
    ("normalized-softmax+0.1*mhe", {"half_space": True, "power": 0.0}),
    ("arcface+0.3*ring", {}),
    ("normalized-softmax+0.3*c-triplet", {}),
]
SMOOTHED = [
    ("softmax", {"label_smoothing": 0.1}),
    ("arcface", {"label_smoothing": 0.2}),
    ("curricularface", {"label_smoothing": 0.1}),
    ("large-margin-softmax", {"label_smoothing": 0.1}),
    ("sub-center-arcface", {"label_smoothing": 0.3}),
]
SUPPORTED = [case for case in ALL if case[1].get("exact_gradient", True)]


@dataclass
class Case:
    """A loss on C classes, whose ranks have so many samples each (the first rank takes what is not said)."""

    name: str
    options: dict[str, Any]
    classes: int = 11
    samples: int = 13
    few: dict[int, int] = field(default_factory=dict)
    weighted: bool = False
    ignored: bool = False
    zeros: bool = False
    one_class: bool = False
    dtype: torch.dtype = torch.float64

    @property
    def title(self) -> str:
        return f"{self.name} {self.options} C={self.classes} N={self.samples} {self.few}"


EDGES = [
    Case("arcface", {}, few={0: 0}),
    Case("arcface", {}, few={0: 13}),
    Case("normalized-softmax", {}, classes=2),
    Case("c-triplet", {"hardest_only": False}, classes=2),
    Case("sphereface2", {}, classes=2),
    Case("c-contrastive", {}, classes=1, samples=3),
    Case("softmax", {}, classes=1, samples=3),
    Case("arcface", {}, samples=1),
    Case("sub-center-arcface", {}, classes=3, samples=2),
    Case("center", {}, classes=3, samples=2),
    Case("am-softmax", {}, weighted=True),
    Case("curricularface", {"momentum": 0.5}, weighted=True),
    Case("center", {}, weighted=True, ignored=True),
    Case("arcface", {"ignore_index": -1}, ignored=True),
    Case("adaface", {"ignore_index": -1, "momentum": 0.5}, ignored=True),
    Case("magface", {"ignore_index": -1}, ignored=True),
    Case("normalized-softmax", {"reduction": "sum"}),
    Case("c-contrastive", {"reduction": "none"}, weighted=True),
    Case("arcface", {"scale": 2000.0, "reduction": "none"}),
    Case("arcface", {}, zeros=True),
    Case("softmax", {}, zeros=True),
    Case("sphereface", {}, zeros=True),
    Case("c-triplet", {}, zeros=True),
    Case("large-margin-softmax", {"base": 0.0, "lambda_min": 0.0}, zeros=True),
    Case("l2-softmax", {"bias": True}, one_class=True),
    Case("sphereface+0.5*mhe", {"reduction": "none"}, classes=4, weighted=True),
    Case("normalized-softmax", {"label_smoothing": 0.3}, classes=2, samples=5),
]


def sharded_like(whole: losses.Loss, head: parallel.ClassParallel) -> None:
    """Give the head its rows of the whole loss's class weights, and everything else as it is."""
    own = dict(head.loss.named_parameters())
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            own[name].copy_(rows_of(head, name, parameter))


def rows_of(head: parallel.ClassParallel, name: str, whole: Tensor) -> Tensor:
    """This rank's part of a parameter, or of its gradient, of the whole loss."""
    last = name.rpartition(".")[2]
    if last == "more":
        return head.shard.own_rows(whole.transpose(0, 1)).transpose(0, 1)
    return head.shard.own_rows(whole) if last == "weight" or (last == "bias" and whole.dim()) else whole


def data(case: Case, seed: int) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(case.samples, D, generator=generator, dtype=case.dtype) * 2
    labels = torch.randint(case.classes, (case.samples,), generator=generator)
    if case.one_class:
        labels[:] = case.classes - 1
    if case.zeros:
        x[0] = 0
    if case.ignored:
        labels[1] = -1 if "ignore_index" in case.options else labels[1]
    weights = torch.rand(case.samples, generator=generator, dtype=case.dtype) if case.weighted else None
    if weights is not None and case.ignored:
        weights[2] = 0
    return x, labels, weights


def share_of(case: Case, rank: int, size: int) -> slice:
    """The samples of a rank: of uneven numbers."""
    ends = [case.samples * (r + 1) ** 2 // size**2 for r in range(size)]
    if case.few:
        ((chosen, number),) = case.few.items()
        if number:  # one rank has all
            ends = [0 if r < chosen else case.samples for r in range(size)]
        elif size > 1:  # one rank has none
            ends = [0 if r == chosen else case.samples * (r + 1) // size for r in range(size)]
    return slice(0 if rank == 0 else ends[rank - 1], ends[rank])


def made(case: Case) -> tuple[losses.Loss, parallel.ClassParallel]:
    torch.manual_seed(7)
    whole = losses.make(case.name, case.classes, D, dtype=case.dtype, **case.options)
    head = parallel.make(case.name, case.classes, D, dtype=case.dtype, backbone_gradients="summed", **case.options)
    if case.zeros:
        with torch.no_grad():
            whole.weight[case.classes // 2] = 0
    sharded_like(whole, head)
    return whole, head


def apart(one: Tensor | None, other: Tensor | None) -> float:
    """The largest difference, relative to the largest number where that is above 1; NaN is like NaN."""
    if one is None or other is None:
        left = other if one is None else one
        return 0.0 if left is None else float(left.abs().sum())
    assert one.shape == other.shape, (one.shape, other.shape)
    if not one.numel():
        return 0.0
    assert torch.equal(one.isnan(), other.isnan()), "NaN elsewhere"
    most = other.nan_to_num().abs().max().clamp_min(1)
    return float(((one - other).nan_to_num().abs() / most).max())


def one_step(case: Case, seed: int = 1) -> dict[str, float]:
    """How far values, gradients and buffers are from those of one process, after a step in training mode."""
    whole, head = made(case)
    x, labels, weights = data(case, seed)
    rank, size = head.shard.rank, head.shard.size
    share = share_of(case, rank, size)
    theirs, mine = x.clone().requires_grad_(), x[share].clone().requires_grad_()
    expected = whole(theirs, labels, weights)
    value = head(mine, labels[share], None if weights is None else weights[share])
    pull = torch.linspace(0.5, 1.5, expected.numel(), dtype=expected.dtype).view(expected.shape)
    (expected * pull).sum().backward()
    (value * pull).sum().backward()
    found = {"value": apart(value.detach(), expected.detach()), "features": apart(mine.grad, theirs.grad[share])}
    own = dict(head.loss.named_parameters())
    for name, parameter in whole.named_parameters():
        gradient = parameter.grad if parameter.grad is None else rows_of(head, name, parameter.grad)
        found[f"gradient of {name}"] = apart(own[name].grad, gradient)
    buffers = dict(head.loss.named_buffers())
    for name, buffer in whole.named_buffers():
        found[name] = apart(buffers[name].double(), buffer.double())
    with torch.no_grad():
        found["value without gradient"] = apart(head(mine, labels[share], None if weights is None else weights[share]),
                                                whole(theirs, labels, weights))  # fmt: skip
    return found


def of_each_loss() -> dict[str, dict[str, float]]:
    """One step of every loss, and of every edge case: {case: {what: how far apart}}."""
    cases = [*(Case(name, options) for name, options in [*SUPPORTED, *SMOOTHED]), *EDGES]
    return {case.title + f" {number}": one_step(case) for number, case in enumerate(cases)}


def ten_steps(case: Case) -> dict[str, float]:
    """How far a net and a head are from those of one process after ten steps of SGD with momentum and decay."""
    whole, head = made(case)
    head.backbone_gradients = "averaged"
    torch.manual_seed(9)
    net = nn.Linear(D, D, dtype=case.dtype)
    own_net = nn.Linear(D, D, dtype=case.dtype)
    own_net.load_state_dict(net.state_dict())
    rank, size = head.shard.rank, head.shard.size
    ranks = nn.parallel.DistributedDataParallel(own_net) if size > 1 else own_net
    rule: dict[str, float] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    one = torch.optim.SGD([*net.parameters(), *whole.parameters()], **rule)
    many = torch.optim.SGD([*own_net.parameters(), *head.parameters()], **rule)
    for step in range(10):
        x, labels, _ = data(case, 100 + step)
        share = share_of(case, rank, size)
        for optimizer, value in (
            (one, whole(net(x), labels)),
            (many, head(ranks(x[share]), labels[share])),
        ):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    found = {f"net {name}": apart(p.detach(), dict(net.named_parameters())[name].detach())
             for name, p in own_net.named_parameters()}  # fmt: skip
    own = dict(head.loss.named_parameters())
    for name, parameter in whole.named_parameters():
        found[name] = apart(own[name].detach(), rows_of(head, name, parameter).detach())
    return found


STEPPED = [
    ("normalized-softmax", {}),
    ("positive-scale-softmax", {}),
    ("am-softmax", {}),
    ("arcface", {"label_smoothing": 0.1}),
    ("sphereface", {}),
    ("l2-softmax", {"alpha": "learned", "bias": True}),
    ("c-contrastive", {}),
    ("c-triplet", {}),
    ("curricularface", {"momentum": 0.3}),
    ("adaface", {"momentum": 0.3}),
    ("sub-center-arcface", {}),
    ("sphereface2", {}),
    ("softmax+0.1*center", {}),
]
"""Of every way of computing one; with what learns and runs beside the class weights."""


def ten_steps_of_each() -> dict[str, dict[str, float]]:
    cases = [Case(name, options) for name, options in STEPPED]
    return {case.title: ten_steps(case) for case in cases}


def started_rows() -> list[list[float]]:
    """The class weights of all ranks as they start, from generators of which only the first rank's counts."""
    torch.manual_seed(5 + 100 * (torch.distributed.get_rank() if torch.distributed.is_initialized() else 0))
    head = parallel.make("sub-center-arcface", 11, 3, sub_centers=2, dtype=torch.float64)
    rows = torch.stack([head.loss.weight, head.loss.more[0]], 1)
    padded = rows.new_zeros(11, 2, 3)
    padded[: len(rows)] = rows.detach()
    counts = head.shard.gather(torch.tensor(len(rows)))
    parts = zip(head.shard.gather(padded), counts, strict=True)
    return torch.cat([part[:count] for part, count in parts]).flatten(1).tolist()


def refusals() -> list[str]:
    """What a rank is told where the second rank's samples do not fit, or all ranks' labels, or more is asked."""
    head = parallel.make("arcface", 7, D)
    rank = head.shard.rank
    x, labels = torch.randn(3, D), torch.tensor([0, 1, 2])
    calls: list[tuple[Tensor, ...]] = [
        (x if rank != 1 else x[:, 1:], labels),
        (x, labels if rank != 1 else labels[1:]),
        (x, labels, torch.ones(3)) if rank != 1 else (x, labels),
        (x if rank != 1 else x.double(), labels),
        (x, labels if rank != 1 else labels + 7),
        (x[:0], labels[:0]),
    ]
    said = []
    for call in calls:
        try:
            head(*call)
            said.append("")
        except TrainingError as error:
            said.append(str(error))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(head(x, labels), x)
    said.append("" if gradient.isfinite().all() else "no numbers")
    try:
        torch.autograd.grad(head(x, labels), x, create_graph=True)
    except TrainingError as error:
        said.append(str(error))
    return said


def rows_beside_dense(rate: float, fused: bool, name: str = "arcface", **more: Any) -> dict[str, float]:
    """How far sampled rows, stepped late or at once, are from dense SGD on the same gradients, at changing rates.

    The gradients are those of a second head, that draws the same rows and whose rows are the dense optimizer's.
    """
    classes, size = 40, 4
    options = {"dtype": torch.float64, "sample_rate": rate, "scale": 8.0, **more}
    head, other = (parallel.make(name, classes, size, **options) for _ in range(2))  # type: ignore[arg-type]
    own, dense = head.loss.weight, other.loss.weight
    with torch.no_grad():
        dense.copy_(own)
    late = parallel.RowSGD(head, 0.1, momentum=0.9, weight_decay=0.01, fused=fused)
    at_once = torch.optim.SGD([dense], lr=0.1, momentum=0.9, weight_decay=0.01)
    shared = torch.Generator().manual_seed(77)
    for step in range(30):
        x = torch.randn(6, size, generator=shared, dtype=torch.float64)
        labels = torch.randint(classes, (6,), generator=shared)
        rate_now = 0.1 / (1 + 0.3 * step)
        late.param_groups[0]["lr"] = at_once.param_groups[0]["lr"] = rate_now
        for one, optimizer in ((head, late), (other, at_once)):
            optimizer.zero_grad()
            one(x if one.shard.rank == 0 else x[:0], labels if one.shard.rank == 0 else labels[:0]).backward()
            if optimizer is at_once and dense.grad is not None:
                dense.grad = dense.grad.to_dense()
            optimizer.step()
    late.settle()
    buffer = at_once.state[dense]["momentum_buffer"]
    return {
        "weights": apart(own.detach(), dense.detach()),
        "momentum": apart(late.state[own]["momentum_buffer"], buffer),
    }


def all_rows_beside_dense() -> dict[str, dict[str, float]]:
    """rows_beside_dense of sampled rows and of all, fused and not; and of a loss that reads labels' rows by itself."""
    ways = [(rate, fused) for rate in (0.2, 1.0) for fused in (False, True)]
    found = {f"rate {rate} fused {fused}": rows_beside_dense(rate, fused) for rate, fused in ways}
    return found | {"running mean": rows_beside_dense(0.2, False, "curricularface", momentum=0.5)}


def narrow_steps(name: str) -> dict[str, float]:
    """How far bfloat16 and float16 weights are from float32's, relative to the lengths, in value and gradients.

    The whole loss has the narrow weights' numbers in float32.
    """
    found = {}
    for dtype in (torch.bfloat16, torch.float16):
        torch.manual_seed(2)
        head = parallel.make(name, 50, 8, dtype=torch.float32, backbone_gradients="summed")
        head.loss.weight.data = head.loss.weight.data.to(dtype)
        parallel.RowSGD(head, 0.1)
        whole = losses.make(name, 50, 8)
        parts = head.shard.gather(torch.nn.functional.pad(head.loss.weight.float(), (0, 0, 0, 50 - head.shard.count)))
        with torch.no_grad():
            whole.weight.copy_(torch.cat([*parts[:-1, : -(-50 // head.shard.size)], parts[-1]])[:50])
        x = torch.randn(6, 8, generator=torch.Generator().manual_seed(4))
        labels = torch.arange(6) * 9
        share = slice(head.shard.rank, None, head.shard.size)
        # The ranks' order is not the batch's, and a mean knows none.
        theirs, mine = x.clone().requires_grad_(), x[share].clone().requires_grad_()
        expected, value = whole(theirs, labels), head(mine, labels[share])
        expected.backward()
        value.backward()
        gradient, own = whole.weight.grad, head.loss.weight.grad
        assert gradient is not None and own is not None and own.dtype == dtype and value.dtype == torch.float32
        found[f"{dtype} value"] = apart(value.detach(), expected.detach())
        found[f"{dtype} features"] = apart(mine.grad, theirs.grad[share])
        rounded = head.shard.own_rows(gradient).to(dtype).float()
        found[f"{dtype} weights"] = apart(own.float(), rounded)
    return found
