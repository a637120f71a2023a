"""Answers about the face on a photo: whose face it is nearest to, and whether two photos show one person."""

from .gallery import Gallery, Match
from .photo import FaceReader, PhotoFace
from .threshold import Threshold, threshold_for

__all__ = ["FaceReader", "Gallery", "Match", "PhotoFace", "Threshold", "threshold_for"]
