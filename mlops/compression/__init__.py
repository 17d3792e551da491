"""Export to ONNX, graph optimisation, quantization, measuring."""
