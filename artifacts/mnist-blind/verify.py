"""Check a hand-off folder: is it complete, is its model safe to open, and does your runtime compute the right output?

    python verify.py [FOLDER] [--runtime onnxruntime|reference|tract|opencv|openvino|all]

Needs `pip install numpy onnx onnxruntime`, and the package of any other runtime that you choose. Exit code 0: every
check passed; 1: a package is not installed, or too old; 2: a usage error; 3: a check failed, and the last line says
which. The checks are in `verification/`, beside this file.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

sys.dont_write_bytecode = True  # it would be a file that no checksum is known of
FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

try:
    command = import_module("verification.command")
except ModuleNotFoundError as error:
    sys.exit(f"Error: {error.name} is not installed; run: pip install numpy onnx onnxruntime")

command.main(__doc__, FOLDER)
