"""Imported once by the process that `benchmarks.kills` forks commands from: all that is slow and writes nothing."""

from __future__ import annotations

import importlib
import pkgutil

import git  # noqa: F401
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import sqlalchemy.dialects.sqlite  # noqa: F401
import torch

import pipeline
from pipeline.config import Config
from pipeline.handoff.onnx_file import export_program
from pipeline.models import build_model

for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    if module.name != "pipeline.__main__" and ".files." not in module.name:
        importlib.import_module(module.name)
export_program(build_model(Config().model, Config().size, 1), 1, torch.float32)
