"""Features of images, by a converted Caffe model or any ONNX file.

extractor = Extractor("deploy.prototxt", "face.caffemodel", preset="center-face", mirror="sum")
features = extractor.features(normface.data.open_images("faces/"))
"""

from .extractor import Extractor
from .feature_set import Features
from .features import load_features, save_features
from .loading import load
from .mirror import MERGES

__all__ = ["MERGES", "Extractor", "Features", "load", "load_features", "save_features"]
