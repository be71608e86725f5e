"""What the names of folders and files say about the images in them: their part of the dataset, noisy or clean."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# In any case, and with _, - or a space where there are two words; `clean_images` and `train_noisy` are understood, too.
NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
    "noisy": ("noisy", "corrupted", "degraded", "burst", "bursts", "captures"),
    # Noisy where there are clean images as well; else names like any other.
    "noisy beside clean": ("noise", "input", "inputs", "low", "lq", "raw", "dirty"),
    "clean": (
        *("clean", "cleaned", "gt", "groundtruth", "truth", "target", "targets", "reference", "references"),
        *("label", "labels", "hq", "high"),
    ),
}
NOISY, CLEAN = "noisy", "clean"
PARTS = ("train", "validation", "test")
_FILLERS = {"image", "images", "img", "imgs", "picture", "pictures", "frames", "data", "set"}  # say nothing
_MEANINGS = {word: meaning for meaning, words in NAMES.items() for word in words}
_TOKENS = re.compile(r"\d+|[^\W\d_]+")  # numbers and words
# Words in the names of files that lie in one folder, such as `0001_noisy.png` and `0001_gt.png`.
_IN_FILES = {NOISY: {"noisy", "input", "lq"}, CLEAN: {"clean", "cleaned", "gt", "groundtruth", "target", "reference"}}


@dataclass(frozen=True)
class Named:
    """A file by its path below the dataset's folder, and what that says."""

    path: str  # with / between folders
    part: str  # in `PARTS`, or ""
    role: str  # `NOISY`, `CLEAN` or ""
    folders: tuple[str, ...]  # those that say nothing of it
    stem: str  # of the name, without what says something

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for a noisy image and its clean one; that of a clean image may be the `home` of captures."""
        return (*self.home, self.stem) if self.stem else self.home

    @property
    def home(self) -> tuple[str, ...]:
        """Equal for the captures of a scene that has a folder."""
        return (self.part, *self.folders)


def tokens(name: str) -> list[str]:
    """The numbers and words of a name, in small letters: `IMG_001Noisy` has img, 001 and noisy."""
    return [token.lower() for token in _TOKENS.findall(name)]


def read_names(paths: list[str], beside_clean: bool = False) -> list[Named]:
    """What the paths of files below a dataset's folder say.

    Args:
        paths: with / between folders, in order.
        beside_clean: whether there are clean images, so that more names mean noisy.
    """
    meanings: dict[str, tuple[str, str]] = {}
    named = []
    for path in paths:
        *folders, name = path.split("/")
        part = role = ""
        others: list[str] = []
        for folder in folders:
            if folder not in meanings:
                meanings[folder] = _meaning(folder, beside_clean)
            its_part, its_role = meanings[folder]
            if its_role and not role:
                part, role = part or its_part, its_role
            elif its_part and not part and not others:
                part = its_part
            else:
                others.append(folder)
        named.append(Named(path, part, role, tuple(others), (name.rpartition(".")[0] or name).removesuffix(".ome")))
    if not beside_clean and any(file.role == CLEAN for file in named):
        return read_names(paths, beside_clean=True)
    return _roles_of_files(named)


def means_noisy(folder: str, beside_clean: bool = False) -> bool:
    """Whether the name of a folder says that its images are noisy, if there are clean ones or none."""
    return _meaning(folder, beside_clean)[1] == NOISY


def _meaning(folder: str, beside_clean: bool) -> tuple[str, str]:
    """The part and the role that the name of a folder stands for, each "" for none."""
    words = re.sub(r"ground[\W_]?truth", "groundtruth", folder.lower())
    found = [_MEANINGS.get(word, "") for word in tokens(words) if word not in _FILLERS]
    found = [NOISY if beside_clean and meaning == "noisy beside clean" else meaning for meaning in found]
    parts, roles = ([meaning for meaning in found if meaning in kind] for kind in (PARTS, (NOISY, CLEAN)))
    if len(parts) + len(roles) != len(found) or len(parts) > 1 or len(roles) > 1:
        return "", ""
    if parts and not roles and not _TOKENS.fullmatch(folder):
        return "", ""  # `train_images` may be anything
    return parts[0] if parts else "", roles[0] if roles else ""


def _roles_of_files(named: list[Named]) -> list[Named]:
    """Noisy and clean files that lie in one folder, by the first or the last word of their names."""
    homes: dict[tuple[str, ...], list[int]] = {}
    for number, file in enumerate(named):
        if not file.role:
            homes.setdefault(file.home, []).append(number)
    named = list(named)
    for numbers in homes.values():
        for number, file in zip(numbers, _one_folder([named[number] for number in numbers]), strict=True):
            named[number] = file
    return named


def _one_folder(files: list[Named]) -> list[Named]:
    found = [_role_of_file(file) for file in files]
    clean, noisy = ([file for file in found if file.role == role] for role in (CLEAN, NOISY))
    scenes = {file.key for file in clean}
    if any(file.key in scenes for file in noisy):
        return found  # 1_noisy.png, 1_clean.png, 2_noisy.png, 2_clean.png
    if len(clean) == 1 and not clean[0].stem and len(files) > 1:
        # 1.png, 2.png and clean.png: the folder is a scene.
        return [
            file if file.role == CLEAN else replace(given, role=NOISY) for file, given in zip(found, files, strict=True)
        ]
    return files


def _role_of_file(file: Named) -> Named:
    words = tokens(re.sub(r"ground[\W_]?truth", "groundtruth", file.stem.lower()))
    for role, names in _IN_FILES.items():
        for place in (0, -1):
            if words and words[place] in names:
                del words[place]
                return replace(file, role=role, stem="_".join(words))
    return file
