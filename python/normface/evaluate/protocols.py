"""The ten-fold verification protocols of the papers by name; their published code differs in more than words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import ProtocolError, did_you_mean
from .pca import checked_keep
from .similarity import checked_metric
from .thresholds import CosineGrid, DistanceGrid, MostAccurate, ThresholdRule


@dataclass(frozen=True)
class FoldProtocol:
    """The treatment of each fold; all that is fitted, is fitted on the other folds."""

    name: str
    source: str
    metric: str = "cosine"
    centre: bool = False
    """Subtract the mean of the training folds' faces, each counted as often as it occurs in pairs."""
    pca: float | int | None = None
    """Project on the training folds' principal components; see fit_pca."""
    rule: ThresholdRule = MostAccurate()
    population_std: bool = False
    """Divide by the number of folds (NumPy's default), not by one less (the sample standard deviation)."""
    mirror: str = "sum"
    """The way in which the published pipeline merges the features of a face and its mirror image."""

    def with_options(self, *, pca: float | int | None = None, metric: str | None = None) -> FoldProtocol:
        """Return a copy with other numbers, under a name that says so."""
        changes: dict[str, object] = {}
        if pca is not None and pca != self.pca:
            changes["pca"] = checked_keep(pca)
        if metric is not None and checked_metric(metric) != self.metric:
            changes["metric"] = metric
            changes["rule"] = MostAccurate()  # the published grids are laid over their own metric's scores
        if not changes:
            return self
        words = ", ".join(f"{key} {value}" for key, value in changes.items() if key != "rule")
        return replace(self, name=f"{self.name} with {words}", **changes)  # type: ignore[arg-type]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        FoldProtocol("plain", "LFW's view 2: cosine, the threshold of the highest accuracy on the nine other folds"),
        FoldProtocol(
            "normface",
            "NormFace (Wang et al. 2017): PCA with 99.5 % of the variance, cosine. Its MATLAB code finds the threshold "
            "with a linear SVM on the one score, where this takes the most accurate one",
            pca=0.995,
        ),
        FoldProtocol(
            "sphereface",
            "SphereFace (Liu et al. 2017), test/code/evaluation.m: mean subtracted, cosine, 20,001 thresholds",
            centre=True,
            rule=CosineGrid(),
            mirror="concat",
        ),
        FoldProtocol(
            "insightface",
            "InsightFace, eval/verification.py (after FaceNet's): squared distance of unit features, thresholds 0, "
            "0.01, … 3.99, population standard deviation, TAR at FAR 1e-3 fold by fold",
            metric="normalized-euclid",
            rule=DistanceGrid(),
            population_std=True,
        ),
    )
}


def protocol_named(name: str) -> FoldProtocol:
    """The protocol of that name; raises ProtocolError that lists them."""
    if name not in PROTOCOLS:
        known = ", ".join(PROTOCOLS)
        raise ProtocolError(f'protocol "{name}" is unknown{did_you_mean(name, PROTOCOLS)}; known: {known}')
    return PROTOCOLS[name]
