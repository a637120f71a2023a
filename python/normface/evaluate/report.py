"""Results as plain numbers for programs, and as lines for people."""

from __future__ import annotations

from typing import Any

from .blufr import BlufrResult
from .folds import INSIGHTFACE_FAR, FoldResult


def fold_figures(result: FoldResult, comparable: bool) -> dict[str, Any]:
    """Return what ``--json`` prints. Rates are shares between 0 and 1.

    comparable: the scores are cosines of features as extracted, so that "thresholds" (FAR -> cosine) hold for them.
    """
    pooled = result.pooled
    figures: dict[str, Any] = {
        "protocol": result.protocol,
        "pairs": len(result.same),
        "accuracy": result.accuracy,
        "std": result.std,
        "std_kind": result.std_kind,
        "standard_error": result.standard_error,
        "fold_accuracies": result.accuracies.tolist(),
        "fold_thresholds": result.thresholds.tolist(),
        "auc": pooled.auc,
        "eer": pooled.eer,
        "tar_at_far": {_rate(far): tar for far, tar in pooled.tar.items()},
        "best_accuracy": pooled.accuracy,
    }
    if result.tar_in_folds is not None:
        rates = result.tar_in_folds
        figures["tar_in_folds"] = {"far": INSIGHTFACE_FAR, "tar": rates.tar, "std": rates.std, "far_found": rates.far}
    if comparable:
        figures["thresholds"] = {_rate(far): threshold for far, threshold in result.pooled_thresholds.items()}
    return figures


def fold_lines(result: FoldResult) -> list[tuple[str, str]]:
    """(figure, value), in per cent."""
    pooled = result.pooled
    lines = [
        ("accuracy", f"{100 * result.accuracy:.3f} % ± {100 * result.std:.3f} ({result.std_kind} standard deviation)"),
        ("standard error", f"{100 * result.standard_error:.3f} %"),
        ("AUC", f"{pooled.auc:.6f}"),
        ("EER", f"{100 * pooled.eer:.3f} %"),
        *((f"TAR at FAR {_rate(far)}", f"{100 * tar:.3f} %") for far, tar in pooled.tar.items()),
    ]
    if result.tar_in_folds is not None:
        rates = result.tar_in_folds
        value = f"{100 * rates.tar:.3f} % ± {100 * rates.std:.3f} (FAR found: {rates.far:.2g})"
        lines.append((f"TAR at FAR {_rate(INSIGHTFACE_FAR)}, fold by fold", value))
    return lines


def blufr_figures(result: BlufrResult, comparable: bool) -> dict[str, Any]:
    """Return what --json prints: "reported" is 100 * (mean - standard deviation), the rest shares between 0 and 1."""
    figures: dict[str, Any] = {
        "protocol": "blufr",
        "trials": len(result.genuine_pairs),
        "rank": result.rank,
        "genuine_pairs": result.genuine_pairs.tolist(),
        "impostor_pairs": result.impostor_pairs.tolist(),
        "std_kind": "sample",
    }
    for name, rates in (("vr_at_far", result.vr), ("dir_at_far", result.dir)):
        figures[name] = {
            _rate(far): {
                "reported": rate.reported,
                "mean": rate.mean,
                "std": rate.std,
                "trials": rate.trials.tolist(),
                "threshold": float(rate.thresholds.mean()),
            }
            for far, rate in rates.items()
        }
    if comparable:
        figures["thresholds"] = {_rate(far): float(rate.thresholds.mean()) for far, rate in result.vr.items()}
    return figures


def blufr_rows(result: BlufrResult) -> list[tuple[str, ...]]:
    """(figure, mean - std, mean, std), in per cent."""
    named = [(f"VR at FAR {100 * far:g} %", rate) for far, rate in result.vr.items()]
    named += [(f"DIR at FAR {100 * far:g} %, rank {result.rank}", rate) for far, rate in result.dir.items()]
    return [(name, f"{r.reported:.2f}", f"{100 * r.mean:.2f}", f"{100 * r.std:.2f}") for name, r in named]


def _rate(far: float) -> str:
    return f"{far:g}"
