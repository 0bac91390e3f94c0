"""What a processor, a provider or a release of ONNX Runtime can take, and a graph made for it."""
