"""What a file of images holds, whatever its format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.data.filling import filled
from pipeline.errors import PipelineError, counted

# Large images are denoised in tiles, but a small file must not claim more memory than machines have.
MAX_PIXELS = 2**30
_INVERSE = {6: 8, 8: 6}  # of the orientations; every other one is its own inverse


@dataclass(frozen=True)
class Picture:
    """The pixels of a file, as they are stored, and how they are written back in the same form."""

    pixels: np.ndarray  # uint8, uint16 or float32 [N, C, H, W], C from 1 to 64
    alpha: np.ndarray | None  # [N, H, W] of the same type; 0 is transparent
    format: str  # "PNG", "TIFF", …
    encode: Callable[[np.ndarray], bytes]  # from pixels of the same shape and type to the content of a file
    orientation: int = 1  # as EXIF and TIFF define it: 1 is upright
    is_cmyk: bool = False  # its channels are four inks
    left_out: tuple[str, ...] = ()  # what `encode` leaves out, in words

    @property
    def hidden(self) -> np.ndarray | None:
        """Which pixels nobody sees, because they are transparent: bool [N, H, W]; None if nothing is."""
        return None if self.alpha is None else self.alpha == 0

    @property
    def upright(self) -> np.ndarray:
        """The pixels as they are seen: upright, inks as red, green and blue, and nothing of what is transparent."""
        pixels = filled(self.pixels, self.hidden)
        return turned(_without_inks(pixels) if self.is_cmyk else pixels, self.orientation)


def in_eight(bits: int) -> tuple[str, ...]:
    """What `encode` leaves out of gray pixels that are stored with so many bits."""
    return (f"{counted(bits, 'bit')} per pixel (it has 8, for gray levels)",) if bits < 8 else ()


def _without_inks(pixels: np.ndarray) -> np.ndarray:
    """Cyan, magenta, yellow and black [N, 4, H, W] in uint8 or uint16 as red, green and blue, as Pillow does it."""
    white = np.iinfo(pixels.dtype).max
    paper = white - pixels.astype(np.uint64)
    return ((paper[:, :3] * paper[:, 3:] + white // 2) // white).astype(pixels.dtype)


def check_size(count: int, limit: int, what: str = "it") -> None:
    """Make sure that a file does not claim more than `limit` pixels, in all of its images together.

    Args:
        count: of pixels, whatever the number of channels.
        what: holds them, for the message.

    Raises:
        PipelineError: it does.
    """
    if count > limit:
        raise PipelineError(
            f"{what} has {count:,} pixels, and more than {limit:,} are not read; denoise reads them with "
            f"--max-pixels {count}"
        )


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [..., H, W] that are stored in an orientation of TIFF 6.0 (tag 274), upright."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(-1, -2)  # what was the first row is the first column now
    if orientation in (2, 3, 6, 7):
        pixels = pixels[..., ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[..., ::-1, :]
    return pixels


def stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `turned`."""
    return turned(pixels, _INVERSE.get(orientation, orientation))


def checked(pixels: np.ndarray, what: str = "it") -> np.ndarray:
    """Numbers of any shape as uint8, uint16 or float32, in the byte order of this machine.

    Args:
        what: holds these numbers, for the message: "it", or "its array 'a'".

    Raises:
        PipelineError: they are of another type, or there are none.
    """
    if pixels.size == 0:
        raise PipelineError(f"{what} is empty: its shape is {list(pixels.shape)}")
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is found then
            return pixels.astype(np.float32, copy=False)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    raise PipelineError(
        f"{what} holds {pixels.dtype}; allowed are uint8, uint16, and floats on the [0, 1] scale, or on any other "
        "whose white is given: convert it to one of them, such as with array.astype('float32')"
    )


def check_finite(images: np.ndarray, what: str = "it") -> None:
    """Make sure that images [N, C, H, W] have no NaN or infinity.

    Raises:
        PipelineError: one has; the message says which one.
    """
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        first = int(np.argmin(np.isfinite(images).all(axis=(1, 2, 3))))
        raise PipelineError(
            f"{what} holds NaN or infinity" + (f" in image {first + 1} of {len(images)}" if len(images) > 1 else "")
        )


def joined(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Pixels [N, C, H, W], with their alpha [N, H, W] as a last channel if there is one."""
    return pixels if alpha is None else np.concatenate([pixels, alpha[:, np.newaxis]], axis=1)
