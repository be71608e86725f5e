"""The hand-off: write the ONNX file, prove it, and pack the folder for the team that receives it."""
