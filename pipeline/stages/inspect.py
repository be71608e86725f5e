"""What is in a folder of images, before anything is prepared or trained: the images, their faults, their noise."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from pipeline.config import AUTO, Config
from pipeline.data.finding import find_images
from pipeline.data.images import Images, Levels, Part, describe_sizes
from pipeline.data.levels import white_of_bits
from pipeline.data.prepared import PreparedData
from pipeline.data.sources import DATASETS, open_source
from pipeline.data.sources.reading import ImageFile, read_files
from pipeline.errors import PipelineError
from pipeline.files import printable, write_file
from pipeline.noise.estimation import NoiseCurve, curve_of_captures, curve_of_images, curve_of_pairs, noise_sigma
from pipeline.reports import figures
from pipeline.reports.inspection import inspection_page
from pipeline.tracking import names
from pipeline.tracking.run import OpenRun

PAGE = "inspection.html"
_PIXELS = 10_000_000  # of images that are looked at closely, about; more change nothing
_IMAGES = 200  # that are looked at closely, at most
_SHOWN = 6
_LITTLE = 1 / 8  # of the range from black to white, below which images look almost black


@dataclass
class Inspection:
    """What was found."""

    folder: str
    facts: list[tuple[str, str]] = field(default_factory=list)  # what it is about, and what there is to say
    faults: list[str] = field(default_factory=list)  # why `prepare` refuses the folder
    command: str = ""  # that trains on it
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNG files by their captions

    @property
    def page(self) -> str:
        """As HTML."""
        return inspection_page(f"Images in {self.folder}", self.facts, self.faults, self.command, self.pictures)


def inspect(config: Config, output: Path) -> bool:
    """Print what is in the folder `config.dataset`, and write it as a page into `output`. Nothing is prepared.

    Returns:
        Whether `prepare` would take the folder.

    Raises:
        PipelineError: the folder cannot be read, or the page not be written.
    """
    found = Inspection(printable(Path(config.dataset).resolve().name))
    with tempfile.TemporaryDirectory() as scratch:
        try:
            division = open_source(config).divide(config.channels, Path(scratch))
        except PipelineError as error:
            found.faults.append(str(error))
            _look_at_files(found, config, Path(scratch))
        else:
            layout, *others = division.lines
            found.facts += [("layout", layout), *(("note", line) for line in others)]
            found.faults += [division.fault] if division.fault else []
            parts = [part for part in (division.train, division.validation, division.test) if part]
            _look_at_parts(found, config, parts)
    for name, text in found.facts:
        click.echo(f"{name}: {text}")
    for fault in found.faults:
        click.echo(f"fault: {fault}")
    click.echo(f"{'once that is mended, ' if found.faults else ''}train with: {found.command}")
    path = output / PAGE
    output.mkdir(parents=True, exist_ok=True)
    write_file(path, found.page.encode())
    click.echo(f"inspect: {path}")
    return not found.faults


def page_of(data: PreparedData, config: Config) -> str:
    """The page about prepared images."""
    found = Inspection(config.dataset_name)
    _look_at_parts(found, config, [data.train, data.validation, data.test])
    return found.page


def log_dataset(run: OpenRun, data: PreparedData, config: Config) -> None:
    """Log the prepared images to a run; for those of a folder, with the page about them."""
    run.log_dataset(data, config.dataset_name)
    if config.dataset not in DATASETS:
        run.log_text(page_of(data, config), names.INSPECTION)


def _look_at_parts(found: Inspection, config: Config, parts: Sequence[Part]) -> None:
    first = parts[0]
    images, dtype = first.images, first.images[0].dtype
    low, high = _range([part.images for part in parts])
    found.facts += _facts_of(
        sum(map(len, parts)), describe_sizes(*(part.images for part in parts)), images[0].shape[0], dtype
    )
    found.facts.append(("values", _describe_values(low, high, first.levels, dtype)))
    numbers = _some(images)
    some = [first.levels.to_floats(images[number]) for number in numbers]
    found.pictures["Values of the pixels: 0 is black, 1 is white"] = figures.as_png(figures.value_histogram(some))
    sigma, curve, source = _noise_of(first, numbers, some)
    found.facts.append(("noise", f"standard deviation {sigma:.4f} for pixels in [0, 1], {source}"))
    if first.noisy is not None and len(curve.brightness):
        line = f"{curve.a:.3g} x + {curve.b:.3g}"
        found.facts.append(("by brightness", f"variance {line} at brightness x: of photons, and of electronics"))
        caption = "Variance of the noise by brightness, and the line that fits"
        found.pictures[caption] = figures.as_png(figures.noise_by_brightness(curve, line))
    found.pictures.update(_pictures(first, numbers))
    is_white = curve.a * float(np.mean([image.mean() for image in some])) < curve.b
    found.command = _command(config, "r2r" if first.layout == "noisy" and is_white and sigma > 0 else "")


def _look_at_files(found: Inspection, config: Config, scratch: Path) -> None:
    """What can be said of a folder that has faults: each file by itself, all faults by name."""
    files: list[ImageFile] = []
    faults: list[str] = []
    folders = [Path(folder) for folder in dict.fromkeys([config.dataset, config.noisy]) if folder]
    paths = [path for folder in folders for path in find_images(folder).images]
    for path in dict.fromkeys(paths):
        try:
            files += read_files([path], config.channels, scratch)
        except PipelineError as error:
            faults.append(str(error))
    found.faults = faults or found.faults  # where files cannot be read, nothing else is known yet
    white = ""
    for dtype in sorted({file.pixels.dtype for file in files}, key=str):
        alike = [file for file in files if file.pixels.dtype == dtype]
        images = [image for file in alike for image in file.pixels]
        channels = sorted({image.shape[0] for image in images})
        found.facts += _facts_of(len(images), describe_sizes(images), " and ".join(map(str, channels)), dtype)
        low, high = min(file.lowest for file in alike), max(file.highest for file in alike)
        found.facts.append(("values", f"{low:g} to {high:g}"))
        if dtype == np.float32 and 1.5 < high <= 65535:
            white = str(white_of_bits(high))
            found.facts.append(("suggested white", white))
    others = (find_images(folder).left_out for folder in folders)
    found.facts += [("left out", text.removeprefix("left out: ")) for text in others if text]
    found.command = _command(config, "", white)


def _facts_of(count: int, sizes: str, channels: int | str, dtype: np.dtype) -> list[tuple[str, str]]:
    kind = "floats" if dtype.kind == "f" else f"{dtype.itemsize * 8} bits"
    colour = {"1": " (gray)", "3": " (colour)"}.get(str(channels), "")
    return [("images", f"{count:,} of {sizes}, {kind}"), ("channels", f"{channels}{colour}")]


def _describe_values(low: float, high: float, levels: Levels, dtype: np.dtype) -> str:
    used = (high - levels.black) / (levels.white - levels.black)
    text = f"{low:g} to {high:g}, which is up to {used:.0%} of white, {levels.white:g}"
    if used < _LITTLE and dtype != np.float32:
        text += f": very dark; --white {white_of_bits(high) if dtype == np.uint16 else round(high)} would use more"
    return text


def _range(images: Sequence[Images]) -> tuple[float, float]:
    return (
        min(float(image.min()) for of_part in images for image in of_part),
        max(float(image.max()) for of_part in images for image in of_part),
    )


def _some(images: Images) -> list[int]:
    """The numbers of images from everywhere, not too many and not too large."""
    chosen, pixels = [], 0
    for number in range(0, len(images), -(-len(images) // _IMAGES)):
        chosen.append(number)
        pixels += images[number].size
        if pixels > _PIXELS:
            break
    return chosen


def _noise_of(part: Part, numbers: list[int], some: list[np.ndarray]) -> tuple[float, NoiseCurve, str]:
    """The standard deviation of the noise, the noise by brightness, and where they are from."""
    if part.layout == "noisy":
        return noise_sigma(some), curve_of_images(some), f"estimated from {len(some):,} images"
    if part.layout == "clean":
        return noise_sigma(some), curve_of_images(some), f"left in the clean images, estimated from {len(some):,}"
    assert part.scenes is not None
    assert part.noisy is not None
    scenes = np.unique(part.scenes[numbers])
    if part.clean is not None:
        pairs = [
            (part.levels.to_floats(part.clean[scene]), part.levels.to_floats(part.noisy[int(capture)]))
            for scene in scenes
            for capture in part.captures_of(np.array([scene]))[0][:1]
        ]
        sigma = float(np.sqrt(np.mean([np.square(noisy - clean).mean() for clean, noisy in pairs])))
        return sigma, curve_of_pairs(pairs), f"measured on {len(pairs):,} pairs"
    stacks = [
        np.stack([part.levels.to_floats(part.noisy[int(capture)]) for capture in captures])
        for scene in scenes
        if len(captures := part.captures_of(np.array([scene]))[0]) > 1
    ]
    sigma = float(np.sqrt(np.mean([np.square(np.diff(stack, axis=0)).mean() / 2 for stack in stacks])))
    return sigma, curve_of_captures(stacks), f"measured on {len(stacks):,} bursts"


def _pictures(part: Part, numbers: list[int]) -> dict[str, bytes]:
    """Some of the images, and beside each noisy one its clean one, if there is one."""
    shown = numbers[:: -(-len(numbers) // _SHOWN)][:_SHOWN]
    images = [part.levels.to_floats(part.images[number]) for number in shown]
    if part.noisy is None or part.clean is None:
        return {"Some of the images": figures.as_png(figures.picture_grid(images))}
    clean = [part.levels.to_floats(part.clean[part.scene_of(number)]) for number in shown]
    beside = [image for pair in zip(images, clean, strict=True) for image in pair]
    grid = figures.picture_grid(beside, columns=4, titles=("noisy", "clean"))
    return {"Some of the noisy images, and to the right of each its clean one": figures.as_png(grid)}


def _command(config: Config, target: str, white: str = "") -> str:
    given = {name: getattr(config, name) for name in ("noisy", "group", "channels", "white", "black")}
    if white and given["white"] == AUTO:
        given["white"] = white
    options = {name: value for name, value in given.items() if value != getattr(Config, name)}
    if target:
        options["target"] = target
    words = ["python", "-m", "pipeline", "run", "--dataset", config.dataset]
    return shlex.join([*words, *(word for name, value in options.items() for word in (f"--{name}", str(value)))])
