"""The demo page with photographs, in a real browser: at full size, compared by a line that is pulled, and saved."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import PROJECT, wait_for
from demo_server import serve_demo
from PIL import Image
from small_models import write_mean

from pipeline.denoising.familiarity import Limits
from pipeline.denoising.model import Model, open_model

pytestmark = pytest.mark.skipif(not shutil.which("npm"), reason="not run: npm is not installed")


def write_handoff(folder: Path, channels: int) -> Path:
    """The hand-off folder of a small model, as far as the page needs it, with one test image."""
    write_mean(folder, channels)
    shutil.copytree(PROJECT / "pipeline" / "handoff" / "files" / "demo", folder / "demo")
    manifest = json.loads((PROJECT / "artifacts" / "mnist-blind" / "manifest.json").read_text())
    manifest |= {"channels": channels, "halo": 8, "samples": 1}
    manifest["trained_on"]["dataset"] = "photos"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "samples").mkdir()
    Image.fromarray(picture(80, 96)[..., :channels].squeeze()).save(folder / "samples" / "0_clean.png")
    return folder


def picture(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_handoff(tmp_path_factory.mktemp("demo") / "photo-color", 3)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_demo(folder, whole=False) as address:
        yield address


class Page:
    """The page in a browser, ready to be used."""

    def __init__(self, browser: Any, address: str, downloads: Path) -> None:
        self.browser, self.downloads = browser, downloads
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        browser.get(address)
        wait_for(browser, "window.denoiser")

    def text(self, name: str) -> str:
        return self.browser.find_element("id", name).text

    def choose(self, path: Path) -> None:
        self.browser.find_element("id", "file").send_keys(str(path))
        wait_for(self.browser, f"document.getElementById('size').textContent.startsWith({path.name!r})")
        self.wait()

    def wait(self) -> None:
        wait_for(self.browser, "!document.getElementById('save').disabled")

    def set(self, name: str, value: float) -> None:
        self.browser.execute_script(
            "const range = document.getElementById(arguments[0]);"
            "range.value = arguments[1]; range.dispatchEvent(new Event('input'))",
            name,
            value,
        )
        self.wait()

    def saved(self) -> np.ndarray:
        """The pixels [H, W, C] of what the button saves."""
        self.browser.find_element("id", "save").click()
        for _ in range(100):
            for path in self.downloads.glob("*-denoised.png"):
                try:
                    with Image.open(path) as image:
                        pixels = np.asarray(image.convert("RGB"))
                except OSError:  # it is there, but not yet written to its end
                    continue
                path.unlink()
                return pixels
            time.sleep(0.1)
        raise AssertionError("nothing was saved")


def wanted(model: Model, pixels: np.ndarray) -> np.ndarray:
    """What `denoise` makes of [H, W, 3]."""
    images = np.ascontiguousarray(pixels.transpose(2, 0, 1))[np.newaxis]
    return model.denoise([images], images.dtype)[0][0].transpose(1, 2, 0).astype(int)


def test_a_photograph_is_denoised_at_full_size_and_saved(
    folder: Path, address: str, browser: Any, tmp_path: Path
) -> None:
    """In four tiles, in all strengths; as `denoise` does it."""
    colour = picture(530, 610)
    Image.fromarray(colour).save(tmp_path / "holiday.png")
    page = Page(browser, address, tmp_path)
    assert page.text("about") == "This model removes noise from colour photographs. Other images it may spoil."
    assert not browser.find_element("id", "drawing").is_displayed()  # nobody draws photographs
    assert "of 255" in page.text("level")
    page.choose(tmp_path / "holiday.png")
    assert page.text("size") == "holiday.png: 610 \N{MULTIPLICATION SIGN} 530 pixels"
    assert page.text("level") == "none"  # it has its own noise
    for strength in (1, 0.4, 0, 1.5, 1.2):
        page.set("strength", strength)
        if strength > 1:
            wait_for(browser, "shown.twice")
        model = open_model(folder / "model.onnx", strength=strength)
        difference = np.abs(page.saved() - wanted(model, colour))
        assert difference.max() <= (2 if strength > 1 else strength > 0), strength  # it rounds between the passes
    assert "clean" not in browser.find_element("tag name", "main").text
    assert page.text("before-psnr") == page.text("after-psnr") == ""  # nobody knows the noise
    assert browser.get_log("browser") == []


def test_gray_through_a_model_in_colour_stays_gray(folder: Path, address: str, browser: Any, tmp_path: Path) -> None:
    gray = picture(60, 70)[..., :1]
    Image.fromarray(gray[..., 0]).save(tmp_path / "gray.png")
    page = Page(browser, address, tmp_path)
    page.choose(tmp_path / "gray.png")
    found = page.saved()
    model = open_model(folder / "model.onnx")
    assert np.abs(found[..., :1] - wanted(model, gray)).max() <= 1
    assert (found == found[..., :1]).all()


def test_colour_through_a_model_of_gray_keeps_its_colours(browser: Any, tmp_path: Path) -> None:
    folder, colour = write_handoff(tmp_path / "photo-gray", 1), picture(60, 70)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    with serve_demo(folder, whole=False) as address:
        page = Page(browser, address, tmp_path)
        assert page.text("about").startswith("This model removes noise from gray photographs.")
        page.choose(tmp_path / "colour.png")
        assert np.abs(page.saved() - wanted(open_model(folder / "model.onnx"), colour)).max() <= 1


def shown_before(browser: Any) -> float:
    """The share of the picture that is shown before denoising."""
    return browser.execute_script(
        "const box = document.getElementById('view').getBoundingClientRect();"
        "const line = document.getElementById('line').getBoundingClientRect();"
        "const clipped = /inset\\(0px ([\\d.]+)px/.exec(document.getElementById('before').style.clipPath);"
        "const share = (line.left + line.width / 2 - box.left) / box.width;"
        "return Math.abs(1 - (clipped?.[1] ?? 0) / box.width - share) < 0.01 ? share : NaN"
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_line_is_pulled_by_pointer_finger_and_keyboard(
    address: str, browser: Any, width: int, tmp_path: Path
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    is_phone = width < 500
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": is_phone},
    )
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": is_phone})
    page = Page(browser, address, tmp_path)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width  # nothing overflows
    page.wait()
    wipe = browser.find_element("id", "wipe")
    assert shown_before(browser) == pytest.approx(0.5, abs=0.01)
    wipe.send_keys(Keys.ARROW_RIGHT * 3)
    assert shown_before(browser) == pytest.approx(0.53, abs=0.01)
    wipe.send_keys(Keys.HOME)
    assert shown_before(browser) == pytest.approx(0, abs=0.01)
    assert wipe.get_attribute("aria-label") == "Line between before and after"
    assert wipe.get_attribute("aria-valuetext") == "0 % before, 100 % denoised"
    view = browser.find_element("id", "view")
    if is_phone:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", view)
        box = browser.execute_script("return arguments[0].getBoundingClientRect()", view)
        at = [{"x": box["left"] + share * box["width"], "y": box["top"] + 20} for share in (0.3, 0.5, 0.8)]
        for kind, points in (("touchStart", at[:1]), ("touchMove", at[1:2]), ("touchMove", at[2:]), ("touchEnd", [])):
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    else:
        half = view.size["width"] / 2
        actions = ActionChains(browser).move_to_element_with_offset(view, int(-0.4 * half), 0).click_and_hold()
        actions.move_to_element_with_offset(view, int(0.6 * half), 0).release().perform()
    assert shown_before(browser) == pytest.approx(0.8, abs=0.02)


def test_it_says_when_a_picture_is_unlike_those_of_the_training(browser: Any, tmp_path: Path) -> None:
    """As `denoise` says it; and where the noise of the training ended."""
    folder = write_handoff(tmp_path / "digits", 3)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["trained_on"]["noise"] = "gaussian:variance=0:0.01,clip=0.25+sensor"
    limits = Limits(0, 0.4)
    manifest["removed_correlation"] = [limits.unclipped, limits.clipped]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    blocks = np.kron(picture(12, 15), np.ones((9, 9, 1), np.uint8))
    model = open_model(folder / "model.onnx")
    with serve_demo(folder, whole=False) as address:
        page = Page(browser, address, tmp_path)
        for gray in (False, True):
            for name, pixels in {"noise": picture(90, 120), "blocks": blocks}.items():
                shown = pixels[..., :1] if gray else pixels
                images = np.ascontiguousarray(shown.transpose(2, 0, 1))[np.newaxis]
                is_strange = limits.are_exceeded(images / 255, model.denoise([images], images.dtype)[0] / 255)
                assert is_strange == (name == "blocks")
                Image.fromarray(shown.squeeze()).save(tmp_path / f"{name}.png")
                page.choose(tmp_path / f"{name}.png")
                wait_for(browser, "document.getElementById('time').textContent.includes('on one thread')")
                assert ("does not look like what this model was trained on" in page.text("message")) == is_strange
        page.set("sigma", 0.1)
        assert page.text("level").endswith("(26 of 255)")
        page.set("sigma", 0.105)
        assert page.text("level").endswith("(27 of 255), more than it was trained for")
        assert browser.execute_script("return document.getElementById('trained').value") == "0.100"


def test_messages_go_when_another_image_is_chosen(address: str, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    Image.new("L", (17_000, 1)).save(tmp_path / "long.png")
    Image.fromarray(picture(30, 40)).save(tmp_path / "good.png")
    page = Page(browser, address, tmp_path)
    for name, said in {
        "text.png": "is not an image that this browser can read",
        "long.png": "17000 \N{MULTIPLICATION SIGN} 1 pixels",
    }.items():
        browser.find_element("id", "file").send_keys(str(tmp_path / name))
        wait_for(browser, f"document.getElementById('message').textContent.includes({said!r})")
        assert page.text("size").startswith("It stays on this device")  # the former image is still there
        browser.find_element("css selector", "#samples button").click()
        page.wait()
        assert page.text("message") == ""
    page.choose(tmp_path / "good.png")
    assert page.text("left-name") == "as chosen"
    page.set("sigma", 0.1)
    wait_for(browser, "document.getElementById('before-psnr').textContent.includes(' dB')")
    assert page.text("time").endswith("on one thread. PSNR against the image as chosen.")
    options = [option.text for option in browser.find_elements("css selector", "#left option")]
    assert options == ["noisy", "as chosen", "what is removed, on gray"]


def test_a_file_that_is_chosen_before_the_model_is_loaded_is_not_lost(
    address: str, browser: Any, tmp_path: Path
) -> None:
    Image.fromarray(picture(30, 40)).save(tmp_path / "early.png")
    slow = (
        "const quick = fetch;"
        "fetch = (...wanted) => new Promise((go) => setTimeout(go, 2000)).then(() => quick(...wanted))"
    )
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": slow})
    browser.get(address)
    browser.find_element("id", "file").send_keys(str(tmp_path / "early.png"))
    assert not browser.execute_script("return Boolean(window.denoiser)")
    wait_for(browser, "document.getElementById('time').textContent.includes('40 \N{MULTIPLICATION SIGN} 30 pixels in')")


def test_noisy_test_images_without_clean_ones_get_no_noise_and_no_psnr(browser: Any, tmp_path: Path) -> None:
    folder = write_handoff(tmp_path / "photo-gray", 1)
    (folder / "samples" / "0_clean.png").rename(folder / "samples" / "0_noisy.png")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"samples_are_clean": False}))
    with serve_demo(folder, whole=False) as address:
        page = Page(browser, address, tmp_path)
        page.wait()
    assert (page.text("left-name"), page.text("level")) == ("as chosen", "none")
    assert page.text("before-psnr") == page.text("after-psnr") == ""
    assert "clean" not in browser.find_element("tag name", "main").text
