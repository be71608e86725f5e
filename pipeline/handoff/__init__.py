"""The hand-off: writing the ONNX file, proving it, and packing it. Nothing else imports onnx or onnxruntime."""
