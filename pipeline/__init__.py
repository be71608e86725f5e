"""Train image-denoising autoencoders, track them in MLflow, hand them off as proved ONNX files."""

__version__ = "0.1.0"
