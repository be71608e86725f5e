"""The scenes of a folder, image by image: what shows the same, what must stay together, what must not be equal."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.data.images import Levels, Part, some_floats
from pipeline.data.sources.layouts import NAMED, Scene, some
from pipeline.data.sources.reading import ImageFile
from pipeline.errors import ArgumentError, PipelineError, counted
from pipeline.noise.estimation import noise_sigma
from pipeline.text import printable

_LOOKED_AT = 50  # scenes or images, or a few more, that are looked at closely
_BLOCK = 8  # pixels
_ALIKE = 0.3  # correlation of blocks above which images may show the same; below it lies what is unrelated
_NOISY = 0.05  # standard deviation that clean images do not have, for pixels in [0, 1]
_SWAPPED = 0.9  # share of the pairs with a noisier clean image above which noisy and clean images have changed places
_VISIBLE = 1e-6  # variance of what is more than rounding
_FLAT = 0.25  # share of the blocks of an image that are taken for flat
_EXPLAINED = 0.5  # share of the difference of a pair in flat blocks that the clean one has more; 0.6 to 1 if swapped
_EVEN = (
    0.2  # share of it everywhere that there is in flat blocks: 0.27 to 1 for noise, at most 0.18 for what is sharper
)
FOLDER = "folder"  # the value of --group that is not a pattern


class Shown(NamedTuple):
    """An image: a page of a file."""

    file: str
    page: int


@dataclass(frozen=True)
class SceneImages:
    """The images of one scene."""

    part: str
    clean: Shown | None
    captures: list[Shown]
    group: str = ""  # what it stays together with; "" for nothing
    contents: Mapping[bytes, Shown] = field(default_factory=dict)  # as `ImageFile.contents`, but for those of one value

    @property
    def images(self) -> list[Shown]:
        return [*self.captures, *([self.clean] if self.clean else [])]

    @property
    def name(self) -> str:
        return self.images[0].file


Files = Mapping[str, ImageFile]


def images_of(scenes: Iterable[Scene], files: Files, group: str) -> list[SceneImages]:
    """The images of each scene, page by page.

    Args:
        scenes: by their files.
        files: what is in these.
        group: "", "folder", or a pattern whose match in a file's name is its group.

    Raises:
        PipelineError: two images of a scene differ in size, or stacks in their number of pages, or the pattern is none
            or finds nothing.
    """
    group_of = _grouping(group)
    found = []
    for scene in scenes:
        for one in _pages(scene, files):
            first, *others = one.images
            for other in others:
                sizes = [files[image.file].pixels.shape[-2:] for image in (first, other)]
                if sizes[0] != sizes[1]:
                    (height, width), (other_height, other_width) = sizes
                    raise PipelineError(
                        f"{printable(first.file)} is {height}x{width} pixels (height x width) and "
                        f"{printable(other.file)} is {other_height}x{other_width}; images of one scene must have one "
                        "size"
                    )
            contents = {files[image.file].contents[image.page]: image for image in one.images}
            contents.pop(b"", None)  # blank patches, say: they would keep all scans together
            found.append(SceneImages(one.part, one.clean, one.captures, group_of(one.name), contents))
    return found


def _pages(scene: Scene, files: Files) -> Iterable[SceneImages]:
    captures = [[Shown(name, page) for page in range(len(files[name].pixels))] for name in scene.captures]
    clean = [Shown(scene.clean, page) for page in range(len(files[scene.clean].pixels))] if scene.clean else []
    if scene.by_page and not captures:
        yield from (SceneImages(scene.part, image, []) for image in clean)
    elif scene.by_page and not clean:
        yield from (SceneImages(scene.part, None, [image]) for image in captures[0])
    elif scene.by_page and len(clean) == len(captures[0]):
        yield from (SceneImages(scene.part, one, [other]) for one, other in zip(clean, captures[0], strict=True))
    elif len(clean) > 1:
        noisy = counted(sum(map(len, captures)), "noisy one")
        raise PipelineError(
            f"{printable(clean[0].file)} holds {len(clean)} images for {noisy} in "
            f"{some(scene.captures)}; allowed are as many as there, page by page, or one"
        )
    else:
        yield SceneImages(scene.part, clean[0] if clean else None, [image for images in captures for image in images])


def as_part(scenes: Sequence[SceneImages], files: Files, levels: Levels) -> Part:
    """The pixels of scenes, which stay where they are."""

    def pixels(images: Iterable[Shown]) -> list[np.ndarray]:
        return [files[image.file].pixels[image.page] for image in images]

    clean = pixels(scene.clean for scene in scenes if scene.clean)
    noisy = pixels(image for scene in scenes for image in scene.captures)
    numbers = np.repeat(np.arange(len(scenes)), [len(scene.captures) for scene in scenes])
    return Part(clean or None, noisy or None, numbers if noisy else None, levels)


def describe(scenes: Sequence[SceneImages], part: Part) -> str:
    """The layout of a dataset in a few words."""
    if part.noisy is None:
        return f"clean images: {len(scenes):,}, to which noise is added"
    counts = [len(scene.captures) for scene in scenes]
    if part.layout == "bursts":
        low, high = min(counts), max(counts)
        captures = f"{low}" if low == high else f"{low} to {high}"
        clean = "without clean images" if part.clean is None else "with a clean image each"
        return f"bursts: {counted(len(scenes), 'scene')} with {captures} captures each, {clean}"
    if part.clean is None:
        return f"noisy images: {len(scenes):,}, without clean ones"
    return f"pairs: {len(scenes):,} noisy with {len(scenes):,} clean"


def keep_together(tokens: Sequence[Iterable[Hashable]]) -> np.ndarray:
    """Numbers of groups, int64: things that share a token are in one group, directly or by way of others."""
    parents = np.arange(len(tokens))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = number = parents[parents[number]]
        return number

    first: dict[Hashable, int] = {}
    for number, its_tokens in enumerate(tokens):
        for token in its_tokens:
            one, other = sorted((root(first.setdefault(token, number)), root(number)))
            parents[other] = one
    return np.unique([root(number) for number in range(len(tokens))], return_inverse=True)[1]


def _grouping(group: str) -> Callable[[str], str]:
    if group in ("", FOLDER):
        return lambda name: name.rpartition("/")[0] or "." if group else ""
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ArgumentError(f"--group {group}: it is neither folder nor a regular expression: {error}") from error

    def of(name: str) -> str:
        found = pattern.search(name)
        text = found[1 if pattern.groups else 0] if found else ""
        if not text:
            raise ArgumentError(f"--group {group}: it finds nothing in {printable(name)}")
        return text

    return of


def groups_of(scenes: Sequence[SceneImages]) -> np.ndarray:
    """Numbers of the scenes' groups, int64: in one are those of a group, and those with an image in common."""
    tokens: list[list[Hashable]] = [
        [*scene.contents, *([("group", scene.group)] if scene.group else [])] for scene in scenes
    ]
    return keep_together(tokens)


def describe_noise(part: Part) -> str:
    """A warning where images that are taken for clean look noisy; "" elsewhere."""
    if part.layout != "clean":
        return ""
    sigma = noise_sigma(some_floats(part.images, part.levels, _LOOKED_AT))
    if sigma < _NOISY:
        return ""
    return (
        f"these images look noisy, with a standard deviation of {sigma:.2g} for pixels in [0, 1], and are taken for "
        "clean ones; if they are noisy, put them into a folder noisy/, or give their folder by --dataset and by --noisy"
    )


def describe_swapped(scenes: Sequence[SceneImages], files: Files, levels: Levels) -> str:
    """What to say where the clean images of nearly all pairs are noisier than the noisy ones; "" elsewhere.

    Then what a clean image has more than its noisy one is noise: it is there where both are flat, too. Where it is not,
    the clean image is merely sharper, such as the original of a JPEG file or of a blurred image.
    """
    pairs = [(scene.clean, scene.captures[0]) for scene in scenes if scene.clean and scene.captures]
    noisier, evenness = [], []
    looked_at = pairs[:: max(1, len(pairs) // _LOOKED_AT)]
    for pair in looked_at:
        clean, noisy = (_blocks(levels.to_floats(files[image.file].pixels[image.page])) for image in pair)
        variances = [blocks.var(axis=(2, 4), dtype=np.float64).ravel() for blocks in (clean, noisy, clean - noisy)]
        both = variances[0] + variances[1]
        of_clean, of_noisy, of_difference = (of[both <= np.quantile(both, _FLAT)].mean() for of in variances)
        evenness.append(of_difference / variances[2].mean() if of_difference > _VISIBLE else 0.0)
        if of_difference > _VISIBLE and of_clean - of_noisy > _EXPLAINED * of_difference:
            noisier.append((pair, (of_clean**0.5, of_noisy**0.5)))
    if not noisier or len(noisier) < _SWAPPED * len(looked_at) or np.median(evenness) < _EVEN:
        return ""
    (one, other), sigmas = max(noisier, key=lambda found: found[1][0] / max(found[1][1], 1e-3))  # the clearest
    return (
        f"the clean images look noisier than the noisy ones in {len(noisier)} of {len(looked_at)} pairs, as if the two "
        f"had changed places: where both are flat, {printable(one.file)} has a standard deviation of "
        f"{sigmas[0]:.2g} for pixels in [0, 1], and {printable(other.file)} one of {sigmas[1]:.2g}"
    )


def describe_equal(scenes: Sequence[SceneImages], files: Files) -> str:
    """One line on images that are equal; "" if there are none."""
    first: dict[bytes, Shown] = {}
    pairs, captures = [], []
    for scene in scenes:
        for content, image in scene.contents.items():
            if content in first:
                pairs.append(f"{printable(image.file)} and {printable(first[content].file)}")
            first.setdefault(content, image)
        contents = [content for image in scene.images if (content := files[image.file].contents[image.page])]
        captures += [printable(scene.name)] * (len(contents) - len(scene.contents))
    texts = []
    if pairs:
        texts.append(f"equal images, which stay in one part: {len(pairs):,}: {_few(pairs)}")
    if captures:
        texts.append(f"equal images of one scene, which show no noise: {len(captures):,}: {some(captures)}")
    return "; ".join(texts)


def describe_gray(files: Files) -> str:
    """How many images in colour became gray; "" if none did."""
    count = sum(len(file.pixels) for file in files.values() if file.was_colour)
    return f"{counted(count, 'image')} in colour became gray" if count else ""


def check_apart(training: Sequence[SceneImages], test: Sequence[SceneImages]) -> None:
    """Refuse images that are for training and for testing.

    Raises:
        PipelineError: images for testing are equal to others, or in a group with others.
    """
    both = _equal(training, test)
    if both:
        raise PipelineError(f"test images are equal to images to train on, {len(both):,} in all: {_few(both)}")
    members = {scene.group: scene for scene in training if scene.group}
    both = [
        f"{printable(scene.name)} and {printable(members[scene.group].name)}"
        for scene in test
        if scene.group in members
    ]
    if both:
        raise PipelineError(
            f"--group: test images are in a group with images to train on, {len(both):,} in all: {_few(both)}"
        )


def describe_shared(training: Sequence[SceneImages], validation: Sequence[SceneImages]) -> str:
    """One line on images that are for training and for validation; "" if there are none."""
    both = _equal(training, validation)
    return f"warning: equal images in training and validation: {len(both):,}: {_few(both)}" if both else ""


def _equal(some: Sequence[SceneImages], others: Sequence[SceneImages]) -> list[str]:
    """The names of the images of `others` that are equal to one of `some`, and of that one."""
    if not others:
        return []
    known = {content: image for scene in some for content, image in scene.contents.items()}
    return [
        f"{printable(image.file)} and {printable(known[content].file)}"
        for scene in others
        for content, image in scene.contents.items()
        if content in known
    ]


def describe_unlike(scenes: Sequence[SceneImages], files: Files) -> str:
    """A warning where the images of most scenes show different things; "" if they do not."""
    several = [scene for scene in scenes if len(scene.images) > 1]
    looked_at = several[:: max(1, len(several) // _LOOKED_AT)]
    unlike = []
    for scene in looked_at:
        one, other = (_coarse(files[image.file].pixels[image.page]) for image in (scene.images[0], scene.images[-1]))
        if one.std() and other.std() and np.corrcoef(one, other)[0, 1] < _ALIKE:
            unlike.append(f"{printable(scene.images[-1].file)} and {printable(scene.images[0].file)}")
    if 2 * len(unlike) <= len(looked_at):
        return ""
    return f"warning: these should show one scene each, and hardly resemble each other: {_few(unlike)}"


def _coarse(image: np.ndarray) -> np.ndarray:
    """The means of blocks of an image [C, H, W], in which there is little noise, one after the other."""
    return _blocks(image).mean(axis=(2, 4), dtype=np.float64).ravel()


def _blocks(image: np.ndarray) -> np.ndarray:
    """An image [C, H, W] in square blocks, [C, rows, side, columns, side], without what is left at its edges."""
    side = max(1, min(_BLOCK, *(size // 4 for size in image.shape[1:])))
    height, width = (size // side for size in image.shape[1:])
    return image[:, : height * side, : width * side].reshape(-1, height, side, width, side)


def _few(pairs: list[str]) -> str:
    return "; ".join(pairs[:NAMED]) + (f"; and {len(pairs) - NAMED:,} more" if len(pairs) > NAMED else "")
