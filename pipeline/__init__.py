"""Train image-denoising autoencoders, track them in MLflow, hand them off as proved ONNX files.

What programs use is in `pipeline.api`, and imported when it is first asked for.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.api import Config, Denoiser, PipelineError, Run, compare, evaluate, export, load, train

__all__ = ["Config", "Denoiser", "PipelineError", "Run", "compare", "evaluate", "export", "load", "train"]
__version__ = "0.1.0"

# MLflow reads it as soon as it is imported, and tells its makers how it is used, unless the user has decided that.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(".api", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
