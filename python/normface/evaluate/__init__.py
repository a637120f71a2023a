"""Verification protocols: LFW's ten folds, BLUFR, YTF, InsightFace's .bin sets and pairs of one's own.

A higher score means more alike; a pair is accepted at score >= threshold unless a protocol says otherwise.
"""

from .blufr import BlufrResult, evaluate_blufr
from .folds import FoldResult, verify_in_folds
from .lfw import evaluate_lfw, read_pairs
from .pair_lists import ListedPairs, read_pair_list
from .pairs import PairsResult, evaluate_all_pairs, evaluate_pairs
from .protocols import PROTOCOLS, FoldProtocol
from .roc import Verification, roc_curve, tar_at_far, verification

__all__ = [
    "PROTOCOLS",
    "BlufrResult",
    "FoldProtocol",
    "FoldResult",
    "ListedPairs",
    "PairsResult",
    "Verification",
    "evaluate_all_pairs",
    "evaluate_blufr",
    "evaluate_lfw",
    "evaluate_pairs",
    "read_pair_list",
    "read_pairs",
    "roc_curve",
    "tar_at_far",
    "verification",
    "verify_in_folds",
]
