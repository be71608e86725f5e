"""The command line: what it says, how it exits, and that it says so before anything slow is imported."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANG, PROJECT, Cli, run_cli, write_digits


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--variance", "-1"], ["evaluate", "--x"]])
def test_nothing_slow_is_imported_to_answer(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pipeline.cli.commands import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'torchvision', 'mlflow', 'onnx', 'onnxruntime', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PROJECT)}, timeout=HANG
    )
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [["run", "--variance", "0"], ["train", "--varance", "1"], ["trian"], ["verify"]])
def test_a_usage_error_is_one_line(arguments: list[str], cli: Cli) -> None:
    done = cli(*arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)


def test_a_failure_is_one_line_and_debug_shows_the_traceback(cli: Cli) -> None:
    done = cli("evaluate", MLFLOW_TRACKING_URI="nonsense://nowhere")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: cannot use the tracking store nonsense://nowhere")
    assert len(done.err.splitlines()) == 1

    done = cli("evaluate", "--debug", MLFLOW_TRACKING_URI="nonsense://nowhere")
    assert done.code == 1
    assert "Traceback" in done.err


def test_training_without_prepared_data_says_what_to_run(cli: Cli, tmp_path: Path) -> None:
    done = cli("train", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert done.code == 1
    assert "python -m pipeline prepare --dataset mnist" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_terminal_gets_a_bar(tmp_path: Path, digits) -> None:  # type: ignore[no-untyped-def]
    write_digits(tmp_path / "digits", digits[:60])
    run_cli("prepare", "--dataset", "digits", cwd=tmp_path)
    terminal, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", "--dataset", "digits", "--epochs", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=side,
    ) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                chunk = os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(terminal)
    assert process.returncode == 0, shown
    text = shown.decode()
    assert "100%" in text
    assert "epoch 2/2, loss 0." in text
    assert "images/s" in text
