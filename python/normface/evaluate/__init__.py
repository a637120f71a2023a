"""Verification protocols: LFW's ten folds, BLUFR, YTF and InsightFace's .bin sets, on features or scores.

A higher score means more alike; a pair is accepted at score >= threshold unless a protocol says otherwise.
"""

from .blufr import BlufrResult, evaluate_blufr
from .folds import FoldResult, verify_in_folds
from .lfw import evaluate_lfw, read_pairs
from .protocols import PROTOCOLS, FoldProtocol
from .roc import Verification, roc_curve, tar_at_far, verification

__all__ = [
    "PROTOCOLS",
    "BlufrResult",
    "FoldProtocol",
    "FoldResult",
    "Verification",
    "evaluate_blufr",
    "evaluate_lfw",
    "read_pairs",
    "roc_curve",
    "tar_at_far",
    "verification",
    "verify_in_folds",
]
