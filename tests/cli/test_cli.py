"""The command line: what it says, how it exits, and that it says so before anything slow is imported."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, Cli, run_cli, write_digits


def test_help_lists_the_stages(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0
    for command in ("prepare", "train", "evaluate", "export", "run"):
        assert f"  {command} " in done.out


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--variance", "-1"], ["evaluate", "--x"]])
def test_nothing_slow_is_imported_to_answer(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pipeline.cli.commands import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'torchvision', 'mlflow', 'onnx', 'onnxruntime', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PROJECT)}, timeout=60
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--variance", "-1"], ["--variance", "'-1'", "above 0 to 100"]),
        (["run", "--variance", "0"], ["--variance", "'0'", "above 0 to 100"]),
        (["run", "--variance", "nan"], ["--variance", "'nan'", "above 0 to 100"]),
        (["run", "--variance", "inf"], ["--variance", "'inf'", "above 0 to 100"]),
        (["run", "--variance", "abc"], ["--variance", "'abc'", "above 0 to 100"]),
        (["run", "--variance", ""], ["--variance", "''", "above 0 to 100"]),
        (["train", "--epochs", "0"], ["--epochs", "'0'", "from 1 to 100,000"]),
        (["train", "--epochs", "1.5"], ["--epochs", "'1.5'", "an integer"]),
        (["train", "--batch-size", "0"], ["--batch-size", "'0'", "from 1"]),
        (["train", "--lr", "-0.1"], ["--lr", "'-0.1'", "above 0"]),
        (["train", "--seed", "-1"], ["--seed", "'-1'", "from 0"]),
        (["train", "--model", "unnet"], ["--model", "'unnet'", "autoencoder"]),
        (["train", "--noise", "pink"], ["--noise", "'pink'", "gaussian"]),
        (["train", "--target", "both"], ["--target", "'both'", "clean", "noisy"]),
        (["train", "--device", "tpu"], ["--device", "'tpu'", "cuda"]),
        (["prepare", "--dataset", "minst"], ["--dataset", "'minst'", "did you mean 'mnist'", "folder", "kmnist"]),
        (["evaluate", "--run-id", "../etc"], ["--run-id", "'../etc'", "32 digits"]),
        (["export", "--name", "../up"], ["--name", "'../up'", "letters, digits"]),
        (["train", "--varance", "1"], ["--varance", "--variance"]),
        (["train", "extra"], ["extra"]),
        (["trian"], ["trian", "train"]),
    ],
)
def test_a_usage_error_is_one_line_that_says_what_is_allowed(arguments: list[str], parts: list[str], cli: Cli) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    for part in parts:
        assert part in done.err


def test_underscores_are_accepted_in_option_names(cli: Cli) -> None:
    done = cli("train", "--batch_size", "0")
    assert done.code == 2
    assert "'--batch-size'" in done.err
    assert "from 1" in done.err


def test_a_failure_is_one_line_and_debug_shows_the_traceback(cli: Cli) -> None:
    done = cli("train", MLFLOW_TRACKING_URI="nonsense://nowhere")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: cannot use the tracking store nonsense://nowhere")
    assert len(done.err.splitlines()) == 1

    done = cli("train", "--debug", MLFLOW_TRACKING_URI="nonsense://nowhere")
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
