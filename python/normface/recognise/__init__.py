"""Answers about the face on a photo: whose face it is nearest to, and whether two photos show one person."""

from .gallery import Gallery, Match
from .index import IndexedGallery, add_to_index, build_index, merge_indexes, open_gallery
from .photo import FaceReader, PhotoFace
from .threshold import Threshold, threshold_for

__all__ = [
    "FaceReader",
    "Gallery",
    "IndexedGallery",
    "Match",
    "PhotoFace",
    "Threshold",
    "add_to_index",
    "build_index",
    "merge_indexes",
    "open_gallery",
    "threshold_for",
]
