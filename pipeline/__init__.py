"""Train image-denoising autoencoders, track them in MLflow, hand them off as proved ONNX files."""

import os

__version__ = "0.1.0"

# MLflow reads it as soon as it is imported, and tells its makers how it is used, unless the user has decided that.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
