"""The clients in a hand-off folder: the examples, and the demo page in a real browser."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tifffile
from conftest import PROJECT, Cli, Trained, wait_for
from demo_server import serve_demo
from onnx import helper, numpy_helper
from PIL import Image
from small_models import write_identity, write_mean

from pipeline.data.formats.deep_png import encode_deep

needs_npm = pytest.mark.skipif(not shutil.which("npm"), reason="not run: npm is not installed")


def wanted(trained: Trained) -> np.ndarray:
    """The first sample, denoised in onnxruntime, uint8 [H, W]."""
    session = onnxruntime.InferenceSession(trained.handoff / "model.onnx")
    with Image.open(trained.handoff / "samples" / "0_noisy.png") as image:
        noisy = np.asarray(image, np.float32)[np.newaxis, np.newaxis] / 255
    return np.rint(session.run(None, {"noisy": noisy})[0][0, 0] * 255).astype(np.uint8)


def test_the_python_example(trained: Trained, tmp_path: Path) -> None:
    example = trained.handoff / "examples" / "python.py"
    command: list[str | Path] = [
        sys.executable,
        "-I",
        example,
        trained.handoff / "samples" / "0_noisy.png",
        tmp_path / "denoised.png",
    ]
    subprocess.run(command, check=True, timeout=60)
    with Image.open(tmp_path / "denoised.png") as image:
        assert np.array_equal(np.asarray(image), wanted(trained))


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The example for Python beside a model that returns what it is given, or takes colour: for a file, the result."""

    def run(
        image: Image.Image | Path, channels: int = 1, pixel_type: str = "uint8", white: int = 255, **options: Any
    ) -> Any:
        folder = tmp_path / f"{channels}{pixel_type}{white}"
        if not folder.exists():
            write_identity(folder) if channels == 1 else write_mean(folder, channels)
            proto = onnx.load(folder / "model.onnx")
            facts = {prop.key: prop.value for prop in proto.metadata_props}
            helper.set_model_props(proto, facts | {"black": "0", "white": str(white), "pixel_type": pixel_type})
            onnx.save(proto, folder / "model.onnx")
            (folder / "examples").mkdir()
            shutil.copy(PROJECT / "pipeline/handoff/files/examples/python.py", folder / "examples")
        source = image
        if isinstance(image, Image.Image):
            source = tmp_path / "noisy"
            image.save(source, **{"format": "PNG", **options})
        monkeypatch.setattr(sys, "argv", ["python.py", str(source), str(tmp_path / "denoised.png")])
        runpy.run_path(str(folder / "examples" / "python.py"))
        with Image.open(tmp_path / "denoised.png") as found:
            return np.asarray(found).copy()

    return run


def test_the_python_example_keeps_what_it_takes(example: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)
    gray, deep = random.integers(0, 256, (20, 30), np.uint8), random.integers(0, 65536, (20, 30), np.uint16)
    colour = random.integers(0, 256, (20, 30, 3), np.uint8)
    for array in (gray, colour, deep):  # deep: white is not that of a training on 8 bits
        assert np.array_equal(example(Image.fromarray(array)), array)
    twelve = deep >> 4
    assert np.array_equal(example(Image.fromarray(twelve), pixel_type="uint16", white=4095), twelve)
    with pytest.raises(SystemExit, match=r"noisy: it has a pixel of 65\d+, and white is 4095 in the images"):
        example(Image.fromarray(deep), pixel_type="uint16", white=4095)
    for array, form in [(array, form) for array in (gray, colour, deep) for form in ("PNG", "TIFF")]:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned to the right
        found = example(Image.fromarray(array), format=form, exif=exif)
        assert np.array_equal(found, np.rot90(array, -1)), form
    assert example(Image.fromarray(gray), channels=3).shape == gray.shape
    assert example(Image.fromarray(deep), channels=3).dtype == np.uint16
    assert example(Image.fromarray(colour), channels=3).shape == colour.shape
    preview = {"format": "MPO", "save_all": True, "append_images": [Image.fromarray(colour[:9])]}
    assert example(Image.fromarray(colour), **preview).shape == colour.shape


def test_the_python_example_refuses_what_it_would_ruin(example: Callable[..., Any], tmp_path: Path) -> None:
    gray = Image.fromarray(np.eye(20, dtype=np.uint8) * np.uint8(255))
    pages = {"save_all": True, "append_images": [gray.rotate(90)]}
    for image, options, said in (
        (gray.convert("F"), {"format": "TIFF"}, "it has pixels of the kind F; this example takes 8 bits"),
        (gray.convert("I"), {"format": "TIFF"}, "it has pixels of the kind I;"),
        (gray.convert("CMYK"), {"format": "TIFF"}, "it has pixels of the kind CMYK;"),
        (gray.convert("LA"), {}, "it has transparency;"),
        (gray, {"format": "TIFF", **pages}, "it holds 2 pictures; this example takes files with one"),
        (gray, {"format": "PNG", **pages}, "it holds 2 pictures;"),
        (gray, {"format": "WEBP", **pages}, "it holds 2 pictures;"),
        (gray, {"format": "PPM"}, "it cannot be read; this example takes PNG, JPEG, TIFF"),
    ):
        with pytest.raises(SystemExit, match=f"noisy: {said}"):
            example(image, **options)
    deep = np.zeros((20, 20, 3), np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "zip.tif", deep, photometric="rgb", compression="zlib")
    (tmp_path / "deep.png").write_bytes(encode_deep(None, b"", deep.transpose(2, 0, 1)[np.newaxis]))
    for name in ("deep.tif", "zip.tif", "deep.png"):
        with pytest.raises(SystemExit, match=f"{name}: it has 16 bits per colour; this example takes 8 bits"):
            example(tmp_path / name)
    with pytest.raises(SystemExit, match=r"nowhere\.png: No such file"):
        example(tmp_path / "nowhere.png")


@needs_npm
def test_the_node_example(trained: Trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.handoff, tmp_path / "received"))
    # Its first comment says what to install.
    install = (folder / "examples" / "node.mjs").read_text().split("`")[1].split()
    assert install == ["npm", "install", "onnxruntime-web", "pngjs"]
    subprocess.run([*install, "--no-audit", "--no-fund"], cwd=tmp_path, check=True, timeout=300, capture_output=True)
    command: list[str | Path] = [
        "node",
        folder / "examples" / "node.mjs",
        folder / "samples" / "0_noisy.png",
        tmp_path / "denoised.png",
    ]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    with Image.open(tmp_path / "denoised.png") as image:
        found = np.asarray(image)
    assert found.shape == (28, 28)
    assert np.abs(found.astype(int) - wanted(trained)).max() <= 1
    deep = np.zeros((28, 28), np.uint16)
    for array in (deep, np.zeros((28, 28, 2), np.uint8), np.zeros((28, 28, 3), np.uint8)):  # depth, alpha, colour
        Image.fromarray(array).save(tmp_path / "other.png")
        command[2:] = [tmp_path / "other.png", tmp_path / "none.png"]
        done = subprocess.run(command, cwd=tmp_path, timeout=120, capture_output=True, text=True)
        assert (done.returncode, "this example takes 8 bits in gray, without" in done.stderr) == (1, True), done
    assert not (tmp_path / "none.png").exists()


@pytest.fixture(scope="module")
def demo(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A received folder, and the address that `demo` serves it at."""
    folder = Path(shutil.copytree(trained.handoff, tmp_path_factory.mktemp("demo") / "received"))
    with serve_demo(folder) as address:
        yield folder, address


@needs_npm
def test_the_demo_page_computes_the_golden_output(demo: tuple[Path, str], browser: Any, cli: Cli) -> None:
    folder, address = demo
    browser.get(address)
    wait_for(browser, "window.denoiser")
    golden = folder / "test_data_set_0"
    noisy, expected = (
        numpy_helper.to_array(onnx.TensorProto.FromString((golden / f"{name}_0.pb").read_bytes()))
        for name in ("input", "output")
    )
    found = browser.execute_async_script(
        "const [data, dims, done] = arguments;"
        "window.denoiser.run(Float32Array.from(data), dims).then((result) => done([...result]))",
        noisy.ravel().tolist(),
        list(noisy.shape),
    )
    np.testing.assert_allclose(np.array(found).reshape(expected.shape), expected, rtol=0, atol=2e-6)
    assert browser.get_log("browser") == []
    # The folder still verifies, with onnxruntime-web beside the page.
    assert (folder / "demo" / "ort" / "ort-wasm-simd-threaded.wasm").is_file()
    assert cli("verify", folder).code == 0


@needs_npm
@pytest.mark.parametrize("width", [1100, 360])
def test_the_demo_page_works_by_keyboard_at_any_width(demo: tuple[Path, str], browser: Any, width: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(demo[1])
    wait_for(browser, "window.denoiser")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width  # nothing overflows

    def text(name: str) -> str:
        return browser.find_element("id", name).text

    def changed(name: str, before: str) -> None:
        wait_for(browser, f"document.getElementById({name!r}).textContent !== {before!r}")

    assert "variance 0.010, standard deviation 0.100" in text("level")
    assert float(text("after-psnr").split()[0]) > float(text("before-psnr").split()[0]) + 1
    slider = browser.find_element("id", "sigma")
    before = text("before-psnr")
    slider.send_keys(Keys.HOME)
    changed("before-psnr", before)
    assert text("before-psnr") == "equal to the clean image"
    slider.send_keys(Keys.END)
    changed("before-psnr", "equal to the clean image")
    assert "variance 0.25" in text("level")

    # Another sample, then a stroke on the pad: each by keyboard.
    before = text("before-psnr")
    browser.find_elements("css selector", "#samples button")[3].send_keys(Keys.ENTER)
    changed("before-psnr", before)
    before = text("before-psnr")
    browser.execute_script("document.getElementById('pad').focus()")
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN * 6).key_up(Keys.SHIFT).perform()
    changed("before-psnr", before)


@needs_npm
def test_the_browser_example(demo: tuple[Path, str], trained: Trained, browser: Any) -> None:
    browser.get(demo[1].replace("demo/index.html", "examples/browser.html"))
    wait_for(browser, "document.title === 'done'")
    pixels = browser.execute_script(
        "const c = document.getElementById('denoised');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    found = np.array(pixels).reshape(28, 28, 4)[..., 0]
    assert np.abs(found - wanted(trained)).max() <= 1


def test_without_npm_the_command_says_what_to_do(trained: Trained, tmp_path: Path, cli: Cli) -> None:
    folder = Path(shutil.copytree(trained.handoff, tmp_path / "received"))
    nowhere = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = cli("demo", folder, **nowhere)
    assert done.code == 1
    assert "is fetched with npm, which is not installed" in done.err
    assert done.err.count("\n") == 1
    done = cli("demo", tmp_path)
    assert done.code == 2
    assert "is not a hand-off folder: it has no demo/index.html" in done.err
