"""Which images of a folder show the same scene: clean images, pairs, bursts, or noisy images alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.data.sources.names import CLEAN, NOISY, Named, means_noisy, tokens
from pipeline.errors import PipelineError, counted
from pipeline.text import printable

NAMED = 3  # files of a kind that a message names; it counts the others


@dataclass(frozen=True)
class Scene:
    """The files of a scene, by their paths as in `Named`; or of several: the pages of a stack, if `by_page`."""

    part: str  # "train", "validation", "test", or ""
    clean: str | None
    captures: tuple[str, ...] = ()
    by_page: bool = True  # whether each page is a scene of its own; else all are captures of one


@dataclass(frozen=True)
class Layout:
    """The scenes of a dataset, in the order of their names, and the images that are in none."""

    scenes: list[Scene]
    alone: list[str] = field(default_factory=list)  # noisy or clean, without a partner
    unused: list[str] = field(default_factory=list)  # neither noisy nor clean, beside those that are
    note: str = ""  # what else there is to say

    @property
    def remarks(self) -> str:
        """On the images in no scene, and the note, beginning with a comma; "" if there is nothing to say."""
        text = f", {self.note}" if self.note else ""
        text += f", {len(self.alone):,} without a partner: {some(self.alone)}" if self.alone else ""
        if self.unused:
            text += f", {len(self.unused):,} neither noisy nor clean left out: {some(self.unused)}"
        return text


def some(names: Iterable[str]) -> str:
    """The first few of many names of files, for a message."""
    names = list(names)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(printable, names[:NAMED])) + more


def find_layout(files: list[Named], folder: str, is_noisy: bool) -> Layout:
    """The layout that the names of a folder's images mean.

    Args:
        files: all images, in order.
        folder: for messages.
        is_noisy: what images are whose names say nothing: noisy, or else clean.

    Raises:
        PipelineError: the names look like pairs, and do not match.
    """
    clean, noisy, others = ([file for file in files if file.role == role] for role in (CLEAN, NOISY, ""))
    if not noisy and (is_noisy or clean):
        noisy, others = others, []
    if clean and noisy:
        return match(noisy, clean, others, folder)
    if not noisy:
        chosen, rest = _without_strays(clean or others)
        names = sorted({name for file in chosen for name in file.folders if means_noisy(name, beside_clean=True)})
        note = f"as there is no folder of clean ones beside {some(names)}" if names else ""
        return Layout([Scene(file.part, file.path) for file in chosen], unused=rest, note=note)
    if others:
        raise PipelineError(
            f"{folder} holds {counted(len(noisy), 'image')} in folders whose names say that they are noisy "
            f"({some(_paths(noisy))}) and {counted(len(others), 'other')} ({some(_paths(others))}); put clean images "
            "into a folder clean/, or give the folders by --dataset and --noisy"
        )
    chosen, rest = _without_strays(noisy)
    return Layout(_noisy_alone(chosen), unused=rest)


def match(noisy: list[Named], clean: list[Named], others: list[Named], folder: str) -> Layout:
    """Pairs and bursts with clean images, by the names without suffix.

    Captures of a scene lie in a folder of its own, and its clean image has the name of that folder, lies alone in a
    folder of that name, or lies with the captures and is called `clean`, `gt` and so on.

    Raises:
        PipelineError: nothing matches, or several images have one name.
    """
    scenes, note = _match(noisy, clean, folder), ""
    if not scenes:
        # noisy/1_noisy.png and clean/1_clean.png: what all have in common is not part of the name.
        scenes = _match(_without_affixes(noisy), _without_affixes(clean), folder)
        note = f"such as {printable(scenes[0].captures[0])} and {printable(scenes[0].clean or '')}" if scenes else ""
    if not scenes:
        raise PipelineError(
            f"{folder} looks like pairs, but no noisy image has the name of a clean one: {len(noisy):,} noisy "
            f"({some(_paths(noisy))}), {len(clean):,} clean ({some(_paths(clean))}); names must be equal but for the "
            "suffix. If these are no pairs, rename the folders"
        )
    used = {path for scene in scenes for path in (scene.clean, *scene.captures)}
    alone = [file.path for file in (*noisy, *clean) if file.path not in used]
    return Layout(scenes, alone, _paths(others), note)


def _match(noisy: list[Named], clean: list[Named], folder: str) -> list[Scene]:
    partners = _by_key(clean, folder, NOISY)
    pairs = _by_key([file for file in noisy if file.key in partners], folder, CLEAN)
    scenes = {file.path: Scene(file.part, partners[key].path, (file.path,)) for key, file in pairs.items()}
    paired, neighbours = {file.home for file in pairs.values()}, _homes(clean)
    for home, captures in _homes(file for file in noisy if file.home not in paired).items():
        own = neighbours.get(home, [])
        partner = partners.get(home) or (own[0] if len(own) == 1 and len(home) > 1 else None)
        if partner:
            scenes[captures[0].path] = Scene(partner.part, partner.path, tuple(_paths(captures)), by_page=False)
    return [scenes[path] for path in sorted(scenes, key=lambda path: path.split("/"))]


def _noisy_alone(noisy: list[Named]) -> list[Scene]:
    """Each image is a scene, and so is each folder below the noisy one."""
    scenes = []
    for home, captures in _homes(noisy).items():
        if len(home) > 1:
            scenes.append(Scene(home[0], None, tuple(_paths(captures)), by_page=False))
        else:
            scenes += [Scene(file.part, None, (file.path,)) for file in captures]
    return scenes


def _by_key(files: list[Named], folder: str, others: str) -> Mapping[tuple[str, ...], Named]:
    found: dict[tuple[str, ...], Named] = {}
    for file in files:
        if file.key in found:
            both = " and ".join(map(printable, (found[file.key].path, file.path)))
            raise PipelineError(
                f"{folder}: {both} have one name, so which of them belongs to the {others} image is not clear"
            )
        found[file.key] = file
    return found


def _homes(files: Iterable[Named]) -> dict[tuple[str, ...], list[Named]]:
    homes: dict[tuple[str, ...], list[Named]] = {}
    for file in files:
        homes.setdefault(file.home, []).append(file)
    return homes


def _without_strays(files: list[Named]) -> tuple[list[Named], list[str]]:
    """The images to use, and those beside `train/`, if there is one, that are in no part."""
    if any(file.part == "train" for file in files):
        return [file for file in files if file.part], [file.path for file in files if not file.part]
    return files, []


def _without_affixes(files: list[Named]) -> list[Named]:
    """The files without the words that all their names begin or end with."""
    words = [tokens(file.stem) for file in files]
    first, last = _common(words), _common([one[::-1] for one in words])
    cut = [one[first : len(one) - last] for one in words]
    if not all(cut):
        return files
    return [replace(file, stem="_".join(one)) for file, one in zip(files, cut, strict=True)]


def _common(words: list[list[str]]) -> int:
    """How many words all begin with."""
    count = 0
    for column in zip(*words, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def _paths(files: Iterable[Named]) -> list[str]:
    return [file.path for file in files]
