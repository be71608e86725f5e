"""What the released models do to pictures of many kinds: prints the table of docs/photographs.md, draws its figures.

    python -m benchmarks.pictures FOLDER [--figures docs]

FOLDER gets the pictures with noise (`noisy/`), what `denoise` makes of them (`denoised/`), and the clean ones
(`clean/`), to be looked at side by side. All are pictures of scikit-image, or drawn here; the model that denoises a
picture was not trained on it. --figures also draws the figures, into a folder that exists.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.transform import downscale_local_mean

from pipeline.data.image_files import read_picture
from pipeline.data.images import psnr_of_error
from pipeline.denoising.command import denoise
from pipeline.noise import make_noise
from pipeline.reports.tables import markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
SEED = 7
BYTE, TWELVE, SIXTEEN = 255, 4095, 65535  # the largest pixel values


@dataclass(frozen=True)
class Case:
    """A picture, and what has happened to it before it is denoised."""

    name: str
    clean: Callable[[], np.ndarray]  # floats in [0, 1], [H, W] or [H, W, 3]
    noise: str = ""  # text for `make_noise`; "" for none
    quality: int = 0  # of JPEG; 0 for a form without loss
    white: int = BYTE

    @property
    def file(self) -> str:
        """The name of its file."""
        form = ".jpg" if self.quality else ".png" if self.white == BYTE else ".npy"
        return self.name.replace(",", "").replace(" ", "-") + form

    def noisy(self) -> np.ndarray:
        """The picture as it is stored, uint8 or uint16, but for JPEG."""
        clean = np.atleast_3d(self.clean()).transpose(2, 0, 1)[np.newaxis]
        pixels = torch.from_numpy(clean.astype(np.float32))
        if self.noise:
            pixels = make_noise(self.noise)(pixels, torch.Generator().manual_seed(SEED))
        return stored(pixels[0].numpy().transpose(1, 2, 0).squeeze(), self.white)


def sigma(level: float, kind: str = "gaussian:") -> str:
    """White noise, or another kind with a variance, of a standard deviation on the scale of 255."""
    return f"{kind}variance={(level / 255) ** 2:.3g}"


def stored(floats: np.ndarray, white: int) -> np.ndarray:
    """Floats in [0, 1] as integers up to `white`."""
    return np.rint(floats.clip(0, 1) * white).astype(np.uint8 if white == BYTE else np.uint16)


def photo(name: str) -> Callable[[], np.ndarray]:
    """A picture of scikit-image."""
    return lambda: getattr(skimage.data, name)() / 255


def halved(name: str) -> Callable[[], np.ndarray]:
    """The same at half its size: what JPEG and the camera left in it is gone."""
    return lambda: downscale_local_mean(photo(name)(), (2, 2, 1)[: np.ndim(photo(name)())])


def faded() -> np.ndarray:
    """A page of a book, from dark gray to light gray."""
    return 0.35 + 0.35 * photo("page")()


def text() -> np.ndarray:
    """Black and coloured letters from 9 to 28 pixels on white."""
    image = Image.new("RGB", (520, 330), "white")
    draw, top = ImageDraw.Draw(image), 8
    for size, colour in ((9, "black"), (11, "black"), (13, "navy"), (16, "darkred"), (20, "gray"), (28, "black")):
        for line in (
            "The quick brown fox jumps over the lazy dog, 0123456789",
            "Illicit 1lI| O0Q rn m vv w (e.g. 5S 8B)",
        ):
            draw.text((8, top), line, colour, ImageFont.load_default(size))
            top += round(1.4 * size)
    return np.asarray(image) / 255


def drawing() -> np.ndarray:
    """Thin coloured lines, a fan of rays and a grid of dots."""
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    for step in range(0, 181, 4):
        angle = np.deg2rad(step)
        draw.line((200, 299, 200 + 280 * np.cos(angle), 299 - 280 * np.sin(angle)), "black" if step % 8 else "crimson")
    for row in range(10, 90, 5):
        draw.line((5, row, 90, row), ("seagreen", "navy", "lightgray")[row // 5 % 3])
        draw.point([(column, row) for column in range(310, 395, 5)], "black")
    draw.ellipse((150, 150, 250, 250), outline="darkorange", width=2)
    return np.asarray(image) / 255


def screenshot() -> np.ndarray:
    """MLflow's interface, of the documentation."""
    with Image.open(DOCS / "mlflow_runs.png") as image:
        return np.asarray(image.convert("RGB")) / 255


GRAIN = sigma(20, "correlated:blur=0.8,")
CASES = (
    Case("coffee, sensor", photo("coffee"), "sensor:shot=0.01"),
    Case("coffee, sensor, JPEG 40", halved("coffee"), "sensor:shot=0.005", quality=40),
    Case("coffee, 12 bits, sigma 15", photo("coffee"), sigma(15), white=TWELVE),
    Case("face, 16 bits, sigma 15", photo("astronaut"), sigma(15), white=SIXTEEN),
    Case("face, sigma 25", photo("astronaut"), sigma(25)),
    Case("face, sigma 50", photo("astronaut"), sigma(50)),
    Case("cat, sigma 10", photo("chelsea"), sigma(10)),
    Case("cat, sigma 25", photo("chelsea"), sigma(25)),
    Case("cat, grain", halved("chelsea"), GRAIN),
    Case("cat, JPEG 25", halved("chelsea"), quality=25),
    Case("coffee, 10 photons", photo("coffee"), "poisson:peak=10"),
    Case("coffee, 30 photons", photo("coffee"), "poisson:peak=30"),
    Case("coffee, 100 photons", photo("coffee"), "poisson:peak=100"),
    Case("cat, 10 photons", photo("chelsea"), "poisson:peak=10"),
    Case("face, dead pixels", photo("astronaut"), "salt-pepper:amount=0.04"),
    Case("face, sigma 3", photo("astronaut"), sigma(3)),
    Case("cat, sigma 3", photo("chelsea"), sigma(3)),
    Case("retina, sigma 50", photo("retina"), sigma(50)),
    Case("tissue, sensor", photo("immunohistochemistry"), "sensor:shot=0.01"),
    Case("night sky, sigma 10", photo("hubble_deep_field"), sigma(10)),
    Case("night sky, shot noise", photo("hubble_deep_field"), "poisson-gaussian:shot=0.01,read=0.0005"),
    Case("screenshot, sigma 25", screenshot, sigma(25)),
    Case("screenshot, sigma 3", screenshot, sigma(3)),
    Case("letters, sigma 3", text, sigma(3)),
    Case("letters, sigma 25", text, sigma(25)),
    Case("letters, sigma 50", text, sigma(50)),
    Case("letters, JPEG 30", text, quality=30),
    Case("line drawing, sigma 3", drawing, sigma(3)),
    Case("line drawing, sigma 25", drawing, sigma(25)),
    Case("camera, gray, sigma 50", photo("camera"), sigma(50)),
    Case("faded page, gray, sigma 12", faded, sigma(12)),
    Case("handwriting, gray, sensor", photo("text"), "sensor:shot=0.01"),
    Case("coins, gray, grain", photo("coins"), GRAIN),
    Case("moon, gray, 12 bits, sigma 10", photo("moon"), sigma(10), white=TWELVE),
    Case("clock, gray, sigma 25", photo("clock"), sigma(25)),
    Case("vessels, gray, sigma 25", photo("microaneurysms"), sigma(25)),
    Case("coffee, clean", photo("coffee")),
    Case("coffee at half size, clean", halved("coffee")),
    Case("face, clean", photo("astronaut")),
    Case("cat, clean", photo("chelsea")),
    Case("retina, clean", photo("retina")),
    Case("tissue, clean", photo("immunohistochemistry")),
    Case("night sky, clean", photo("hubble_deep_field")),
    Case("screenshot, clean", screenshot),
    Case("letters, clean", text),
    Case("line drawing, clean", drawing),
    Case("camera, gray, clean", photo("camera")),
    Case("page, gray, clean", photo("page")),
    Case("handwriting, gray, clean", photo("text")),
    Case("moon, gray, clean", photo("moon")),
    Case("coins, gray, clean", photo("coins")),
    Case("clock, gray, clean", photo("clock")),
)

Crop = tuple[str, int, int, int]  # of the case of this name: first row, first column, and how many times larger
FIGURES: dict[str, tuple[Crop, ...]] = {
    "photographs-scenes.jpg": (
        ("coffee, sensor", 100, 190, 1),
        ("face, sigma 25", 20, 140, 1),
        ("cat, sigma 10", 40, 100, 1),
        ("tissue, sensor", 100, 60, 1),
        ("handwriting, gray, sensor", 10, 30, 1),
    ),
    "photographs-print.jpg": (
        ("letters, sigma 25", 0, 0, 1),
        ("screenshot, sigma 25", 40, 40, 1),
        ("line drawing, sigma 25", 5, 50, 2),
        ("line drawing, clean", 5, 50, 2),
    ),
    "photographs-limits.jpg": (
        ("face, sigma 50", 60, 165, 2),
        ("night sky, sigma 10", 430, 480, 2),
        ("coins, gray, grain", 10, 20, 1),
        ("cat, JPEG 25", 30, 20, 2),
        ("retina, sigma 50", 600, 900, 1),
    ),
}
HEIGHT, WIDTH, GAP = 120, 290, 6  # pixels: of a crop, and between crops
DARK = 60 / BYTE  # in every channel
FIRST = "cat, sigma 25"  # the picture in the README,
BOX, SIZE = (0, 20, 451, 245), (1200, 600)  # what is shown of it, and how large


def write(case: Case, folder: Path) -> None:
    """Write a picture to `noisy/`, and the clean one, in 8 bits, to `clean/`."""
    pixels = case.noisy()
    if case.white == BYTE:
        Image.fromarray(pixels).save(folder / "noisy" / case.file, quality=case.quality)  # PNG has none
    else:
        np.save(folder / "noisy" / case.file, pixels)
    Image.fromarray(stored(case.clean(), BYTE)).save((folder / "clean" / case.file).with_suffix(".png"))


def read(case: Case, folder: Path) -> np.ndarray:
    """A picture that was written, floats in [0, 1], [H, W, C]."""
    return read_picture(folder / case.file).pixels[0].transpose(1, 2, 0) / case.white


def score(case: Case, folder: Path) -> list[str]:
    """The PSNR in dB of a picture before and after."""
    clean = np.atleast_3d(case.clean())
    errors = [float(np.square(read(case, folder / name) - clean).mean()) for name in ("noisy", "denoised")]
    return [case.name, *(f"{psnr_of_error(error):.2f}" if error else "same" for error in errors)]


def shadows(case: Case, folder: Path) -> list[str]:
    """The mean level, of 255, of the parts of a picture that are dark: clean, before and after."""
    clean = np.atleast_3d(case.clean())
    dark = clean.max(axis=2) < DARK
    pictures = [clean, *(read(case, folder / name) for name in ("noisy", "denoised"))]
    return [case.name, *(f"{BYTE * pixels[dark].mean():.1f}" for pixels in pictures)]


def draw(crops: Sequence[Crop], folder: Path, path: Path) -> None:
    """A figure with a row for each crop: before, after, clean."""
    named = {case.name: case for case in CASES}
    sheet = Image.new("RGB", (3 * WIDTH + 2 * GAP, len(crops) * (HEIGHT + GAP) - GAP), "white")
    for line, (name, top, left, times) in enumerate(crops):
        case = named[name]
        height, width = HEIGHT // times, WIDTH // times
        for place, pixels in enumerate([*(read(case, folder / of) for of in ("noisy", "denoised")), case.clean()]):
            crop = np.atleast_3d(pixels)[top : top + height, left : left + width]
            image = Image.fromarray(np.broadcast_to(stored(crop, BYTE), (*crop.shape[:2], 3)).copy())
            image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
            sheet.paste(image, (place * (WIDTH + GAP), line * (HEIGHT + GAP)))
    sheet.save(path, quality=72, subsampling=0, optimize=True)


def draw_first(folder: Path, path: Path) -> None:
    """One picture, its left half before and its right half after."""
    case = next(case for case in CASES if case.name == FIRST)
    pixels, after = (stored(read(case, folder / name), BYTE) for name in ("noisy", "denoised"))
    middle = pixels.shape[1] // 2
    pixels[:, middle:] = after[:, middle:]
    pixels[:, middle - 1 : middle + 1] = BYTE
    Image.fromarray(pixels).resize(SIZE, Image.Resampling.LANCZOS, box=BOX).save(path, quality=75, optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figures", type=Path, help="folder for the figures")
    options = parser.parse_args(arguments)
    folder = options.folder
    for name in ("noisy", "clean"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for case in CASES:
        write(case, folder)
    for white in (BYTE, TWELVE, SIXTEEN):
        files = [folder / "noisy" / case.file for case in CASES if case.white == white]
        denoise("", files, folder / "denoised", white=TWELVE if white == TWELVE else None)
    print(markdown_table([["picture", "before", "after"], *(score(case, folder) for case in CASES)]))
    photons = (shadows(case, folder) for case in CASES if case.noise.startswith("poisson:"))
    print("\n" + markdown_table([["shadows", "clean", "before", "after"], *photons]))
    if options.figures:
        for name, crops in FIGURES.items():
            draw(crops, folder, options.figures / name)
        draw_first(folder, options.figures / "photograph.jpg")


if __name__ == "__main__":
    main()
