"""Nobody is told what is trained here: MLflow's and OpenVINO's telemetry is off, unless the user turns it on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANG, environment
from small_models import write_mean

_CI = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST")
FAKE = """
from unittest.mock import MagicMock
TOLD = []
class Telemetry:
    def __init__(self, **_): self.backend = MagicMock()
    def send_event(self, *what): TOLD.append(what)
    def __getattr__(self, _): return lambda *a, **k: None
"""


def run(code: str, **variables: str) -> str:
    """What a script prints, outside of what the two take for continuous integration."""
    usual = {name: value for name, value in environment(**variables).items() if name not in _CI}
    done = subprocess.run([sys.executable, "-c", code], env=usual, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_that_of_mlflow_is_off() -> None:
    code = "import pipeline.tracking.store; from mlflow.telemetry import get_telemetry_client as found; print(found())"
    assert run(code) == "None"


def test_what_the_user_has_set_counts() -> None:
    code = "import pipeline, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    assert run(code, MLFLOW_DISABLE_TELEMETRY="false") == "false"
    assert run(code) == "true"


@pytest.mark.parametrize(("consent", "told"), [("", False), ("0", False), ("1", True)])
def test_that_of_openvino_is_off_unless_the_user_agreed(tmp_path: Path, consent: str, told: bool) -> None:
    pytest.importorskip("openvino_telemetry", reason="not run: openvino is not installed")
    if consent:
        (tmp_path / "intel").mkdir()
        (tmp_path / "intel" / "openvino_telemetry").write_text(f"{consent}\n")
    file = write_mean(tmp_path / "handoff", 1) / "model.onnx"
    # In place of the package, which would reach out from here.
    (tmp_path / "openvino_telemetry").mkdir()
    for name, text in {"__init__": FAKE, "backend": "backend_ga4 = None"}.items():
        (tmp_path / "openvino_telemetry" / f"{name}.py").write_text(text)
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from pipeline.verification.runtimes import RUNTIMES
RUNTIMES["openvino"].open(Path({str(file)!r}))
print(getattr(sys.modules.get("openvino_telemetry"), "TOLD", []) != [])
"""
    assert run(code, HOME=str(tmp_path)) == str(told)
