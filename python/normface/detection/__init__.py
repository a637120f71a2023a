"""MTCNN: faces and five landmarks in photos, by three Caffe nets run in ONNX Runtime.

Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks, 2016.
"""

from .detector import Detector, Faces

__all__ = ["Detector", "Faces"]
