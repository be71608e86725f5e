"""What is in a folder of images, before anything is prepared or trained: the images, their faults, their noise."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import AUTO, Config
from pipeline.data.finding import find_images
from pipeline.data.images import Images, Levels, Part, describe_sizes
from pipeline.data.levels import suggested_levels, white_of_bits
from pipeline.data.prepared import PARTS, PreparedData
from pipeline.data.sources import DATASETS, Division, open_source
from pipeline.data.sources.reading import ImageFile, read_files
from pipeline.errors import PipelineError, counted
from pipeline.files import write_file
from pipeline.noise.estimation import NoiseCurve, curve_of_captures, curve_of_images, curve_of_pairs, noise_sigma
from pipeline.reports import figures
from pipeline.reports.inspection import inspection_page
from pipeline.reports.svg import as_file
from pipeline.stages.prepare import split
from pipeline.text import printable, say
from pipeline.tracking import names
from pipeline.tracking.run import OpenRun

PAGE = "inspection.html"
_PIXELS = 10_000_000  # of images that are looked at closely, about; more change nothing
_IMAGES = 200  # that are looked at closely, at most
_SHOWN = 6


@dataclass
class Inspection:
    """What was found."""

    folder: str
    facts: list[tuple[str, str]] = field(default_factory=list)  # what it is about, and what there is to say
    faults: list[str] = field(default_factory=list)  # why `prepare` refuses the folder
    command: str = ""  # that trains on it
    pictures: dict[str, bytes] = field(default_factory=dict)  # SVG files by their captions

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
            found.faults += _faults(division, config)
            parts = dict(zip(PARTS, (division.train, division.validation, division.test), strict=True))
            _look_at_parts(found, config, division.lines, {name: part for name, part in parts.items() if part})
    for name, text in found.facts:
        say(f"{name}: {text}")
    for fault in found.faults:
        say(f"fault: {fault}")
    say(f"{'once that is mended, ' if found.faults else ''}train with: {found.command}")
    path = output / PAGE
    output.mkdir(parents=True, exist_ok=True)
    write_file(path, found.page.encode())
    say(f"inspect: {path}")
    return not found.faults


def _faults(division: Division, config: Config) -> list[str]:
    """Why `prepare` refuses images that can be read."""
    faults = [division.fault] if division.fault else []
    try:
        split(division, config)
    except PipelineError as error:
        faults.append(str(error))
    return faults


def page_of(data: PreparedData, config: Config) -> str:
    """The page about prepared images."""
    found = Inspection(config.dataset_name)
    _look_at_parts(found, config, data.manifest.get("found", ()), {name: getattr(data, name) for name in PARTS})
    return found.page


def log_dataset(run: OpenRun, data: PreparedData, config: Config) -> None:
    """Log the prepared images to a run; for those of a folder, with the page about them."""
    run.log_dataset(data, config.dataset_name)
    if config.dataset not in DATASETS:
        run.log_text(page_of(data, config), names.INSPECTION)


def _look_at_parts(found: Inspection, config: Config, lines: Sequence[str], parts: Mapping[str, Part]) -> None:
    """What there is to say of images that can be prepared.

    Args:
        found: what is added to.
        config: names the folder.
        lines: what was said when it was read, of the layout first.
        parts: those that there are, "train" among them.
    """
    found.facts += [("note" if number else "layout", line) for number, line in enumerate(lines)]
    first, of_parts = parts["train"], [part.images for part in parts.values()]
    images, dtype = first.images, first.images[0].dtype
    low, high = _range(of_parts)
    found.facts += _facts_of(sum(map(len, of_parts)), describe_sizes(*of_parts), images[0].shape[0], dtype)
    if len(parts) > 1:
        missing = [name for name in PARTS if name not in parts]
        text = ", ".join(f"{len(part):,} in {name}" for name, part in parts.items())
        found.facts.append(("parts", text + (f"; {missing[0]} will be taken from train" if missing else "")))
    found.facts.append(("values", _describe_values(low, high, first.levels)))
    numbers = _some(images)
    some = [first.levels.to_floats(images[number]) for number in numbers]
    found.pictures["Values of the pixels: 0 is black, 1 is white"] = as_file(figures.value_histogram(some))
    sigma, curve, source = _noise_of(first, numbers, some)
    found.facts.append(("noise", f"standard deviation {sigma:.4f} for pixels in [0, 1], {source}"))
    if first.noisy is not None and len(curve.brightness):
        line, text = _describe_curve(curve)
        found.facts.append(("by brightness", text))
        caption = "Variance of the noise by brightness, and the line that fits"
        found.pictures[caption] = as_file(figures.noise_by_brightness(curve, line))
    found.pictures.update(_pictures(first, numbers))
    is_white = curve.a * float(np.mean([image.mean() for image in some])) < curve.b
    found.command = _command(config, "r2r" if first.layout == "noisy" and is_white and sigma > 0 else "")


def _describe_curve(curve: NoiseCurve) -> tuple[str, str]:
    """The line that fits the noise, and what it means."""
    if curve.a == 0:
        return f"{curve.b:.3g}", f"variance {curve.b:.3g}, the same at every brightness: of electronics"
    if curve.b == 0:
        return f"{curve.a:.3g} x", f"variance {curve.a:.3g} x at brightness x, and 0 at black: of photons"
    line = f"{curve.a:.3g} x + {curve.b:.3g}"
    return line, f"variance {line} at brightness x: the first of photons, the second of electronics"


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
    suggested: dict[str, Any] = {}
    for dtype in sorted({file.pixels.dtype for file in files}, key=str):
        alike = [file for file in files if file.pixels.dtype == dtype]
        images = [image for file in alike for image in file.pixels]
        channels = sorted({image.shape[0] for image in images})
        found.facts += _facts_of(len(images), describe_sizes(images), " and ".join(map(str, channels)), dtype)
        low, high = min(file.lowest for file in alike), max(file.highest for file in alike)
        found.facts.append(("values", f"{low:g} to {high:g}"))
        suggested |= _suggested(config, dtype, low, high)
    if {image.shape[0] for file in files for image in file.pixels} == {1, 3}:
        suggested["channels"] = 1
    if suggested:
        found.facts.append(("suggested", shlex.join(_words(suggested))))
    others = (find_images(folder).left_out for folder in folders)
    found.facts += [("left out", text.removeprefix("left out: ")) for text in others if text]
    found.command = _command(replace(config, **suggested), "")


def _suggested(config: Config, dtype: np.dtype, low: float, high: float) -> dict[str, float]:
    """The options for levels that the images may need, because they do not lie within those of `config`."""
    levels = Levels.of_type(dtype) if config.white == AUTO else Levels(float(config.white), config.black)
    if dtype == np.float32:
        margin = 0.5 * (levels.white - levels.black)
        if levels.black - margin <= low <= high <= levels.white + margin:
            return {}
        levels = suggested_levels(low, high)
    elif high > levels.white:
        levels = Levels(white_of_bits(high), config.black)
    else:
        return {}
    return {"white": levels.white, **({"black": levels.black} if levels.black else {})}


def _facts_of(count: int, sizes: str, channels: int | str, dtype: np.dtype) -> list[tuple[str, str]]:
    kind = "floats" if dtype.kind == "f" else f"{dtype.itemsize * 8} bits"
    colour = {"1": " (gray)", "3": " (colour)"}.get(str(channels), "")
    return [("images", f"{count:,} of {sizes}, {kind}"), ("channels", f"{channels}{colour}")]


def _describe_values(low: float, high: float, levels: Levels) -> str:
    used = (high - levels.black) / (levels.white - levels.black)
    return f"{low:g} to {high:g}, which is up to {used:.0%} of white, {levels.white:g}"


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
        return noise_sigma(some), curve_of_images(some), f"estimated from {counted(len(some), 'image')}"
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
        return sigma, curve_of_pairs(pairs), f"measured on {counted(len(pairs), 'pair')}"
    stacks = [
        np.stack([part.levels.to_floats(part.noisy[int(capture)]) for capture in captures])
        for scene in scenes
        if len(captures := part.captures_of(np.array([scene]))[0]) > 1
    ]
    sigma = float(np.sqrt(np.mean([np.square(np.diff(stack, axis=0)).mean() / 2 for stack in stacks])))
    return sigma, curve_of_captures(stacks), f"measured on {counted(len(stacks), 'burst')}"


def _pictures(part: Part, numbers: list[int]) -> dict[str, bytes]:
    """Some of the images, and beside each noisy one its clean one, if there is one."""
    shown = numbers[:: -(-len(numbers) // _SHOWN)][:_SHOWN]
    images = [part.levels.to_floats(part.images[number]) for number in shown]
    if part.noisy is None or part.clean is None:
        return {"Some of the images": as_file(figures.picture_grid(images))}
    clean = [part.levels.to_floats(part.clean[part.scene_of(number)]) for number in shown]
    beside = [image for pair in zip(images, clean, strict=True) for image in pair]
    grid = figures.picture_grid(beside, columns=4, titles=("noisy", "clean"))
    return {"Some of the noisy images, and to the right of each its clean one": as_file(grid)}


def _command(config: Config, target: str) -> str:
    given = {name: getattr(config, name) for name in ("noisy", "group", "channels", "white", "black")}
    options = {name: value for name, value in given.items() if value != getattr(Config, name)}
    if config.dataset not in DATASETS:
        options["model"] = "resunet"  # the default, a small autoencoder, is for digits
    if target:
        options["target"] = target
    return shlex.join(["python", "-m", "pipeline", "run", "--dataset", config.dataset, *_words(options)])


def _words(options: Mapping[str, Any]) -> list[str]:
    texts = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in options.items()}
    return [word for name, text in texts.items() for word in (f"--{name}", text)]
