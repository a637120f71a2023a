"""Faces found in photos, and brought onto one place by five landmarks."""

from ..detection import Detector, Faces
from .choosing import choose_faces
from .crop import align_face
from .drawing import draw_faces
from .landmarks import read_landmarks
from .similarity import similarity_transform
from .template import SIZES, template

__all__ = [
    "SIZES",
    "Detector",
    "Faces",
    "align_face",
    "choose_faces",
    "draw_faces",
    "read_landmarks",
    "similarity_transform",
    "template",
]
