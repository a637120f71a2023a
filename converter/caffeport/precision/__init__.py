"""ONNX files in fewer bits: half precision, and 8-bit integers calibrated on images."""
