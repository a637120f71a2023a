"""Galleries too large for an exact search: an index on the disk, built of feature files, added to and merged."""

from .building import add_to_index, build_index, merge_indexes
from .choice import Choice, choose
from .manifest import Recall
from .searching import IndexedGallery, is_index, open_gallery

__all__ = [
    "Choice",
    "IndexedGallery",
    "Recall",
    "add_to_index",
    "build_index",
    "choose",
    "is_index",
    "merge_indexes",
    "open_gallery",
]
