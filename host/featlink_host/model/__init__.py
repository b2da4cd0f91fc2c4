"""ONNX models to model streams and back: graphs, layers, the search for settings, versions."""
