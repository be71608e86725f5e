"""The speed and the accuracy of a hand-off. Prints Markdown tables.

    python benchmarks/handoff.py

Needs `pip install -e '.[test]'`, and for the browser npm, chromium and chromedriver. Takes about five minutes on two
cores. Both sides of a ratio alternate, because absolute times on a shared machine mean little.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image

from pipeline.data.images import Part
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.handoff.onnx_file import export_onnx
from pipeline.models import build_model
from pipeline.models.facts import halo
from pipeline.noise import make_noise
from pipeline.scoring.score import noisy_batches
from pipeline.verification.runtimes import RUNTIMES, is_installed

RELEASED = Path(__file__).parent.parent / "artifacts" / "mnist-blind"
FILES, FILE_ROUNDS = 10_000, 3


def main() -> None:
    torch.set_num_threads(1)
    images = BundledMNIST().images()[1]
    assert images is not None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _export("autoencoder", "", folder / "autoencoder.onnx")
        print(f"`denoise` on {FILES:,} PNG files of 28x28 pixels, compared with only reading and writing them:\n")
        print("| model | without a model | denoise | relative speed (smallest to largest) |\n|---|---:|---:|---:|")
        _write_files(images, folder / "in")
        for title, path in {"autoencoder": folder / "autoencoder.onnx", "mnist-blind (resunet m)": RELEASED}.items():
            print(_files(title, path, folder))

    print(f"\nLargest difference from torch on the golden images of {RELEASED.name}:\n")
    print("| runtime | difference |\n|---|---:|")
    noisy_golden, wanted = (
        numpy_helper.to_array(onnx.TensorProto.FromString((RELEASED / "test_data_set_0" / name).read_bytes()))
        for name in ("input_0.pb", "output_0.pb")
    )
    for name, runtime in RUNTIMES.items():
        if is_installed(name):
            difference = np.abs(runtime.open(RELEASED / "model.onnx")(noisy_golden) - wanted).max()
            print(f"| {name} | {difference:.1e} |")
        else:
            print(f"| {name} | not run: not installed |")
    print(f"| onnxruntime-web, in Chromium | {_browser(noisy_golden, wanted)} |")


def _export(model: str, size: str, path: Path) -> torch.nn.Module:
    """A model with random weights and settled batch normalisation, also written as a file that `denoise` accepts."""
    torch.manual_seed(0)
    network = build_model(model, size)
    with torch.no_grad():  # settle the statistics of batch normalisation
        for _ in range(20):
            network(torch.rand(64, 1, 28, 28))
    metadata = {
        "description": "a benchmark",
        "input_range": "any",
        "output_range": "[0, 1]",
        "accepted_range": "-3 4",
        "halo": str(halo(network.eval(), 1)),
        "clip_input": "false",
    }
    export_onnx(network, 1, path, metadata)
    return network.eval()


def _files(title: str, model: Path, folder: Path) -> str:
    plain = (
        "import sys; from pathlib import Path; from PIL import Image; import numpy as np\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    with Image.open(path) as image: pixels = np.asarray(image)\n"
        "    Image.fromarray(pixels).save(Path(sys.argv[2]) / path.name)\n"
    )
    source, copies, target = folder / "in", folder / "copies", folder / "out"
    for path in (copies, target):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()

    def run(*command: object) -> Callable[[], object]:
        return partial(subprocess.run, [sys.executable, *map(str, command)], check=True, capture_output=True)

    times = _in_turn(
        {
            "copy": run("-c", plain, source, copies),
            "denoise": run("-m", "pipeline", "denoise", "--model", model, source, "--output", target),
        },
        FILE_ROUNDS,
    )
    shares = [without / with_model for without, with_model in zip(times["copy"], times["denoise"], strict=True)]
    seconds = [statistics.median(values) for values in times.values()]
    return (
        f"| {title} | {seconds[0]:.1f} s | {seconds[1]:.1f} s | {statistics.median(shares):.2f} "
        f"({min(shares):.2f} to {max(shares):.2f}) |"
    )


def _in_turn(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every side in every round, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def _write_files(images: np.ndarray | list[np.ndarray], folder: Path) -> None:
    folder.mkdir()
    index = 0
    for _, noisy in noisy_batches(Part(images[:FILES]), make_noise("gaussian", "0.01")):
        for image in (noisy.clamp(0, 1) * 255).round().to(torch.uint8).numpy():
            Image.fromarray(image[0]).save(folder / f"{index:05}.png")
            index += 1


def _browser(noisy: np.ndarray, wanted: np.ndarray) -> str:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver and shutil.which("npm")):
        return "not run: no chromium, chromedriver and npm"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{argument}")
    command = [sys.executable, "-u", "-m", "pipeline", "demo", str(RELEASED), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        assert server.stdout is not None
        address = re.findall(r"http\S+", server.stdout.readline())[0]
        browser.get(address)
        while not browser.execute_script("return Boolean(window.denoiser)"):
            time.sleep(0.2)
        found = browser.execute_async_script(
            "const [data, dims, done] = arguments;"
            "window.denoiser.run(Float32Array.from(data), dims).then((result) => done([...result]))",
            noisy.ravel().tolist(),
            list(noisy.shape),
        )
        return f"{np.abs(np.array(found, np.float32).reshape(wanted.shape) - wanted).max():.1e}"
    finally:
        browser.quit()
        server.terminate()


if __name__ == "__main__":
    main()
