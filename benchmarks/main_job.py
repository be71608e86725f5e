"""How good and how fast the main job is. Prints a Markdown table.

    python benchmarks/main_job.py

Needs `pip install -e .` and an active environment. Takes about six minutes on two cores: the main job once, as a
user starts it; then the training loop and the page's own loop, in turn; then the training stage once more, to
see what tracking costs. Absolute times on a shared machine mean little; the ratio is what counts.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
import torchvision
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline.batches import WholeImages
from pipeline.config import Config
from pipeline.data import PreparedData
from pipeline.devices import choose_device
from pipeline.models import build_model
from pipeline.stages import train as train_stage
from pipeline.stages.prepare import prepare
from pipeline.tracking import start_run
from pipeline.training import fit

PROJECT = Path(__file__).resolve().parent.parent
ROUNDS = 5
LOOP_IMAGES = 12_800  # a round, of each loop


def main_job() -> dict[str, float]:
    """`mlflow run . --env-manager local -P variance=0.01`, in a copy of the project."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        for name in ("MLproject", "conda.yaml"):
            shutil.copy(PROJECT / name, project)
        shutil.copytree(PROJECT / "pipeline", project / "pipeline")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        began = time.perf_counter()
        command = ["run", ".", "--env-manager", "local", "-P", "variance=0.01"]
        subprocess.run([sys.executable, "-m", "mlflow", *command], cwd=project, env=environment, check=True)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # KiB on Linux
        (run,) = mlflow.MlflowClient(f"sqlite:///{project / 'mlflow.db'}").search_runs(["0"])
    return {"psnr": run.data.metrics["test/psnr/0.01"], "seconds": seconds, "peak": peak}


def page_loop(data: PreparedData) -> float:
    """Images a second of the page's own loop: torchvision's MNIST, ToTensor, DataLoader, batch 64, no tricks."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        pixels = np.stack(list(data.train[:LOOP_IMAGES]))[:, 0]
        for name, header, content in (
            ("images-idx3", [0x803, *pixels.shape], pixels.tobytes()),
            ("labels-idx1", [0x801, len(pixels)], bytes(len(pixels))),
        ):
            for part in ("train", "t10k"):
                (raw / f"{part}-{name}-ubyte").write_bytes(b"".join(n.to_bytes(4, "big") for n in header) + content)
        dataset = torchvision.datasets.MNIST(folder, transform=torchvision.transforms.ToTensor())
    model = build_model("autoencoder")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    loader = DataLoader(dataset, batch_size=64, shuffle=True)

    def loop() -> None:
        for batch, _ in loader:
            images = batch + 0.1 * torch.randn(batch.shape)
            loss = functional.mse_loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return _speed(loop)


def our_loop(data: PreparedData, batch_size: int) -> float:
    """Images a second of `fit` with the default options, one image to validate."""
    choose_device("cpu")
    images = torch.from_numpy(np.stack(list(data.train[:LOOP_IMAGES])))
    validation = torch.from_numpy(np.stack(list(data.validation[:1])))
    defaults = Config()

    def loop() -> None:
        fit(
            build_model(defaults.model),
            WholeImages(images),
            validation,
            defaults.training_noise,
            epochs=1,
            batch_size=batch_size,
            lr=defaults.lr,
            beta2=defaults.beta2,
            schedule=defaults.schedule,
            target=defaults.target,
            loss=defaults.loss,
            precision=torch.float32,
            seed=defaults.seed,
            on_progress=lambda progress: None,
            on_epoch=lambda epoch: None,
        )

    return _speed(loop)


def _speed(loop: Callable[[], None]) -> float:
    loop()  # warms up
    began = time.perf_counter()
    loop()
    return LOOP_IMAGES / (time.perf_counter() - began)


LOOPS: dict[str, Callable[[PreparedData], float]] = {
    "page": page_loop,
    "ours": lambda data: our_loop(data, Config().batch_size),
    "ours, batch 256": lambda data: our_loop(data, 256),
}


def loops() -> dict[str, list[float]]:
    """Images a second of every loop, in turn, each time in a process of its own."""
    speeds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(ROUNDS):
        for name, results in speeds.items():
            done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
            results.append(float(done.stdout.split()[-1]))
    return speeds


def overhead() -> float:
    """Share of the `train` stage's time that is not training or validating: everything but `fit` less its callbacks."""
    inside = {"fit": 0.0, "callbacks": 0.0}

    def timed(function: Callable[..., Any], key: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                inside[key] += time.perf_counter() - began

        return call

    def timed_fit(*arguments: Any, on_progress: Any, on_epoch: Any, **options: Any) -> Any:
        callbacks = {"on_progress": timed(on_progress, "callbacks"), "on_epoch": timed(on_epoch, "callbacks")}
        return timed(fit, "fit")(*arguments, **options, **callbacks)

    config = Config()
    train_stage.fit = timed_fit
    with start_run(config) as run:
        began = time.perf_counter()
        train_stage.train(config, run)
        whole = time.perf_counter() - began
    training = inside["fit"] - inside["callbacks"]
    return (whole - training) / training


def main() -> None:
    if len(sys.argv) == 2:
        print(LOOPS[sys.argv[1]](prepare(Config())))
        return
    job = main_job()
    os.chdir(tempfile.mkdtemp())
    prepare(Config())
    speeds = loops()
    share = overhead()

    print(f"\n{os.cpu_count()} cores, torch {torch.__version__} with {torch.get_num_threads()} threads\n")
    print("| | measured | goal |")
    print("|---|---|---|")
    print(f"| test PSNR at variance 0.01 | {job['psnr']:.2f} dB | at least 29.7 dB |")
    page = speeds.pop("page")
    for name, mine in speeds.items():
        ratios = [own / theirs for own, theirs in zip(mine, page, strict=True)]
        print(
            f"| training loop ({name}) against the page's own | {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f}; {statistics.median(mine):,.0f} against "
            f"{statistics.median(page):,.0f} images/s) | at least 2 times |"
        )
    print(f"| tracking, figures and progress | {share:.1%} of the training time | at most 5 % |")
    print(f"| peak memory of the main job | {job['peak']:.2f} GiB | below 2.5 GB |")
    print(f"| the whole main job, from the command to the hand-off | {job['seconds']:.0f} s | |")


if __name__ == "__main__":
    main()
