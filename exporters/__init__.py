"""The workshop: export, passes, calibration, quantization, packing. Imports onnx, onnxsim, onnxscript and torch."""
