"""A net as an ONNX file, emitted from the graph."""
