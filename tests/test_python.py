"""`import pipeline`: the page and the notebooks run as they are written, and nothing slow is imported too early."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import PROJECT, environment, run_module
from plugin import NETWORKS

import pipeline
from pipeline import api
from pipeline.tracking import names

PAGE = PROJECT / "docs" / "python.md"
NOTEBOOKS = [PROJECT / "examples" / f"{name}.ipynb" for name in ("own_images", "compare_and_hand_off")]


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def cells(notebook: Path) -> list[str]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_the_page_and_the_notebooks_run(tmp_path: Path, digits: np.ndarray) -> None:
    """In one process: what one has trained, the next finds. A notebook shows the last value of each cell."""
    np.savez(tmp_path / "given.npz", images=digits[:70], noisy=digits[70:73, np.newaxis])
    (tmp_path / "my_models.py").write_text(NETWORKS)
    given = "import numpy as np\nimages, noisy = np.load('given.npz').values()\n"
    check = "assert denoised.shape == noisy.shape and denoised.dtype == noisy.dtype\nassert len(table) == 1\n"
    script = "\n".join([given, *blocks(), check, *(_shown(cell) for notebook in NOTEBOOKS for cell in cells(notebook))])
    (tmp_path / "example.py").write_text(script, encoding="utf-8")
    done = run_module("example", [], tmp_path, environment(PYTHONPATH=f"{PROJECT}:{tmp_path}"))
    assert done.code == 0, done
    *_, last = done.out.strip().splitlines()
    assert last == "(3, 1, 32, 32)"
    assert re.search(r"^[\d.]+ dB before, [\d.]+ dB after: [+-][\d.]+ dB$", done.out, re.MULTILINE)
    assert len([*(tmp_path / "artifacts").iterdir()]) == 3


def _shown(cell: str) -> str:
    last = ast.parse(cell).body[-1]
    if not isinstance(last, ast.Expr):
        return cell
    lines = cell.splitlines()
    return "\n".join([*lines[: last.lineno - 1], f"print({ast.unparse(last)})"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_results(notebook: Path) -> None:
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_the_page_names_everything() -> None:
    named = re.findall(r"^\| `(\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)[:6]
    assert {*named, "Denoiser", "PipelineError", "Run"} == set(pipeline.__all__) == set(api.__all__)
    assert all((getattr(pipeline, name).__doc__ or "").strip() for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'trian'"):
        pipeline.trian  # noqa: B018


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'mlflow', 'pandas', 'onnx'))); import pipeline; "
        "assert 'numpy' not in sys.modules and 'click' not in sys.modules; "
        "import numpy as np; denoiser = pipeline.load('artifacts/mnist-blind'); "
        "image = np.full((28, 28), 99, np.uint8); print(denoiser.denoise(image).shape, pipeline.Config().model)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment(), capture_output=True, text=True)
    assert done.stdout == "(28, 28) autoencoder\n", done.stderr


INTERRUPTED = """
import _thread, pathlib, threading, time
import numpy as np, pipeline

def interrupt():
    while not list(pathlib.Path("data/runs").glob("*/states/*.pt")):
        time.sleep(0.05)
    _thread.interrupt_main()

threading.Thread(target=interrupt, daemon=True).start()
try:
    pipeline.train(pipeline.Config(epochs=100_000), clean=np.load("given.npy"), quiet=True)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_notebook_that_is_interrupted_leaves_a_run_that_can_be_resumed(tmp_path: Path, digits: np.ndarray) -> None:
    np.save(tmp_path / "given.npy", digits[:20])
    (tmp_path / "example.py").write_text(INTERRUPTED)
    done = run_module("example", [], tmp_path, environment(PYTHONPATH=f"{PROJECT}:{tmp_path}"))
    assert (done.code, done.out) == (0, "interrupted\n"), done
    (run,) = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["0"])
    assert run.info.status == "KILLED"
    assert run.data.tags[names.INTERRUPTED] == "by SIGINT"
    assert run.data.tags[names.RESUMABLE] == "true"


def test_what_goes_wrong_is_one_sentence(tmp_path: Path, digits: np.ndarray) -> None:
    config = pipeline.Config(data_dir=str(tmp_path / "data"))
    wrong: list[tuple[dict[str, object], str]] = [
        ({"clean": digits[:6], "noisy": digits[:4]}, "there must be a noisy image for each clean one"),
        ({"clean": [digits[0], "text"]}, r"clean\[1\] is a str, not a NumPy array"),
        ({"clean": digits[:6].astype(int)}, "clean holds int64; allowed are uint8, uint16, and floats"),
        ({"clean": digits[:2]}, "it needs at least 3"),
    ]
    for arrays, message in wrong:
        with pytest.raises(pipeline.PipelineError, match=message):
            pipeline.train(config, **arrays, quiet=True)  # type: ignore[arg-type]
    with pytest.raises(pipeline.PipelineError, match="arrays are given, and 'kmnist' as well"):
        pipeline.train(pipeline.Config(dataset="kmnist"), clean=digits[:9])
    with pytest.raises(pipeline.PipelineError, match="--variant: 'int4' is not known"):
        pipeline.export("0" * 32, variants=["int4"])
