"""The layers of NoiseFace (see caffeport.operators.noise_face). N samples, C classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .gradients import given_gradient

SPREAD = 2.576
"""Half the width of the middle 99 % of a normal distribution, in its deviations."""
TAIL = 0.5 * (1 - 0.99)
"""The share of the histogram beyond either end, as the fork rounds it."""
RADIUS = 2  # of the mean over bins


class NormL2(nn.Module):
    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        squares = x.flatten(1).square().sum(1).reshape(-1, *[1] * (x.dim() - 1))
        return (x / (squares + self.eps).sqrt()).reshape(*x.shape, *[1] * (4 - x.dim()))


class NoiseTolerantFR(nn.Module):
    """``history`` has the bins of the last batches, -1 for a sample without a label; ``ends`` are l, lt, rt and r."""

    running_state = ("iteration", "history", "ends")

    def __init__(self, bins: int, batches: int, start: int, low: float, high: float, shield: bool) -> None:
        super().__init__()
        self.bins, self.batches, self.start, self.low, self.high, self.shield = bins, batches, start, low, high, shield
        self.iteration = 0
        self.history = torch.zeros(0, dtype=torch.long, device="cpu")
        self.ends = torch.full((4,), -1, dtype=torch.long, device="cpu")

    def forward(self, x: Tensor, cosines: Tensor, label: Tensor, noise: Tensor | None = None) -> Tensor:
        if not self.training:
            return x
        labels = label.reshape(-1).long()
        with torch.no_grad():
            own = cosines.reshape(x.shape[0], -1).gather(1, labels.clamp_min(0)[:, None])[:, 0]
            place = (self.bins * (own - self.low) / (self.high - self.low)).trunc().clamp(0, self.bins).long().cpu()
            place = torch.where(labels.cpu() >= 0, place, -1)
            length = self.batches * x.shape[0]
            self.history = torch.cat([self.history.cpu(), place])[-length:]  # a restored one may be elsewhere
            self.iteration += 1
            if self.iteration < self.start:
                return x
            has_ends = self._follow()
            weights = self._weights(place) if has_ends else torch.zeros(len(place), dtype=torch.float64)
            weights = torch.where(place >= 0, weights, 1.0).to(x)
        weights = weights.reshape(-1, *[1] * (x.dim() - 1))
        if self.shield or not has_ends:  # without ends the fork passes rows through, and gives them no gradient
            return given_gradient(x, x, weights)
        return x * weights

    def _follow(self) -> bool:
        """Move the ends towards those of the histogram; False where it has none."""
        bins = self.bins
        counts = torch.bincount(self.history[self.history >= 0], minlength=bins + 1).double()
        smooth = self._smoothed(counts)
        shares = (smooth / smooth.cumsum(0)[-1]).cumsum(0)
        below, above = (shares >= TAIL).nonzero(), (shares <= 1 - TAIL).nonzero()
        left = int(below[0]) if len(below) else bins + 1
        right = int(above[-1]) if len(above) else -1
        if left >= right:
            return False
        middle, peak = (left + right) // 2, int(smooth.argmax())
        peaks = self._peaks(smooth.tolist(), max(left, 5), min(right, bins - 5)) or [peak]
        if peak < middle:
            wanted = (left, peak, max(peaks[-1], middle), right)
        else:
            wanted = (left, min(peaks[0], middle), peak, right)
        pairs = zip(wanted, self.ends.tolist(), strict=True)
        steps = [new - old if old == -1 else (new > old) - (new < old) for new, old in pairs]
        self.ends = self.ends.cpu() + torch.tensor(steps)
        return True

    def _smoothed(self, counts: Tensor) -> Tensor:
        """Return means over bins, summed in the fork's order: which of two equal heights is a peak is its rounding."""
        width = 2 * RADIUS + 1
        smooth = torch.zeros_like(counts)
        inner = smooth[RADIUS : self.bins - RADIUS + 1]
        for first in range(width if len(inner) else 0):
            inner += counts[first : first + len(inner)] / width
        return smooth

    @staticmethod
    def _peaks(smooth: list[float], first: int, last: int) -> list[int]:
        """Return bins that rise above their five neighbours on either side, by the number of bins beyond the second."""
        peaks, i = [], first
        while i <= last:
            here = smooth[i]
            if all(
                here >= smooth[i + side] if away == 1 else here > smooth[i + side] + max(away - 2, 0)
                for away in range(1, 6)
                for side in (-away, away)
            ):
                peaks.append(i)
                i += 5
            i += 1
        return peaks

    def _weights(self, place: Tensor) -> Tensor:
        left, low_peak, high_peak, right = self.ends.tolist()
        bins = place.double()
        cosine = self.low + (self.high - self.low) * right / self.bins
        alpha = min(max(min(max(cosine, self.low), self.high), 0.0), 1.0)
        beta = 2 - 1 / (1 + math.exp(5 - 20 * alpha)) - 1 / (1 + math.exp(20 * alpha - 15))
        weights = (1 - beta) * self._clean(bins, low_peak, right)
        if alpha < 0.5:
            weights = weights + beta
        if alpha > 0.5:
            deviation = torch.where(bins > high_peak, right - high_peak, high_peak - left).double() / SPREAD
            near = torch.exp(-((bins - high_peak) ** 2) / (2 * deviation**2))
            weights = weights + beta * torch.where(bins == high_peak, 1.0, near)  # also of no width
        return weights

    @staticmethod
    def _clean(bins: Tensor, peak: int, right: int) -> Tensor:
        """Weigh samples more that lie further above the lower peak."""
        rise = 10 * (bins - peak) / max(right - peak, 1)
        return (torch.logaddexp(rise, torch.zeros_like(rise)) / math.log1p(math.exp(10))).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"bins={self.bins}, batches={self.batches}, iteration={self.iteration}"
