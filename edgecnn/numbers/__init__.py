"""A model in numbers, PyTorch or ONNX: parameters, multiply-adds, activations, layer by layer. Behind `inspect`."""
