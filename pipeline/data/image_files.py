"""Reading and writing image files: bit depth, colour, transparency and format are kept."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.errors import PipelineError
from pipeline.files import write_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".npy")
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_ALPHA = ("LA", "RGBA")
_LOSSLESS: dict[str, dict[str, Any]] = {
    # As close to the pixels as the format allows: compression artefacts would be blamed on the model.
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_deflate"},
}


@dataclass(frozen=True)
class Picture:
    """The pixels of a file, and what is needed to write them back in the same form."""

    pixels: np.ndarray  # uint8, uint16 or float32 [N, C, H, W]; floats are on the [0, 1] scale
    alpha: np.ndarray | None  # [H, W], of the same type as `pixels`
    format: str  # a Pillow format; "NPY"; or "CV2" for 16-bit colour, which only OpenCV keeps
    mode: str = ""  # Pillow's
    shape: tuple[int, ...] = ()  # of the array in an .npy file ...
    dtype: str = ""  # ... and its type
    info: dict[str, Any] = field(default_factory=dict)  # ICC profile, EXIF and resolution

    @property
    def white(self) -> float:
        """The value of a white pixel."""
        return 1.0 if self.pixels.dtype == np.float32 else float(np.iinfo(self.pixels.dtype).max)


def read_picture(path: Path) -> Picture:
    """Read an image file or an .npy file.

    An .npy file holds [H, W], [H, W, C] with 1, 3 or 4 channels, or [N, C, H, W]: uint8, uint16, or floats on the
    [0, 1] scale.

    Raises:
        PipelineError: the file cannot be read or does not hold such an image. The message does not name the file.
    """
    try:
        return _read_npy(path) if path.suffix.lower() == ".npy" else _read_image(path)
    except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = "it is not in a known image format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise PipelineError(f"it cannot be read: {reason}") from error


def write_picture(picture: Picture, pixels: np.ndarray, path: Path) -> None:
    """Write `pixels`, of the shape and type of `picture.pixels`, in the form of `picture`.

    Raises:
        OSError: the file cannot be written; a file that was there before is still there.
    """
    if picture.format == "NPY":
        content = io.BytesIO()
        np.save(content, _to_array(picture, pixels))
        data = content.getvalue()
    elif picture.format == "CV2":
        data = _encode_16_bit_colour(picture, pixels, path.suffix)
    else:
        planes = [*pixels[0], *([] if picture.alpha is None else [picture.alpha])]
        array = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
        image = Image.fromarray(array) if picture.mode != "CMYK" else Image.fromarray(array, mode="CMYK")
        content = io.BytesIO()
        image.save(content, picture.format, **_LOSSLESS.get(picture.format, {}), **picture.info)
        data = content.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, data)


def _read_image(path: Path) -> Picture:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large images are denoised in tiles
        with Image.open(path) as image:
            form = "JPEG" if image.format == "MPO" else image.format or ""  # a JPEG and more, which some cameras write
            if form not in _FORMATS:
                raise PipelineError(f"it is a {form} file; allowed are {', '.join(_FORMATS)} and .npy")
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise PipelineError(f"it holds {image.n_frames} images; a file must hold one")  # type: ignore[attr-defined]
            if image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile):
                return _read_16_bit_colour(path)
            info = {key: image.info[key] for key in ("icc_profile", "exif", "dpi") if image.info.get(key)}
            return _planes(image, form, info)


def _planes(image: Image.Image, form: str, info: dict[str, Any]) -> Picture:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "YCbCr":
        image = image.convert("RGB")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        array = np.asarray(image)
    elif image.mode.startswith("I;16"):
        array = np.asarray(image).astype(np.uint16)
    elif image.mode == "F":
        array = _check_floats(np.asarray(image, np.float32))
    else:
        raise PipelineError(f"it has pixels of the kind {image.mode}; allowed are 8 or 16 bits, gray or colour")
    array = array[..., np.newaxis] if array.ndim == 2 else array
    alpha = array[..., -1] if image.mode in _ALPHA else None
    colours = array[..., :-1] if alpha is not None else array
    return Picture(np.ascontiguousarray(colours.transpose(2, 0, 1))[np.newaxis], alpha, form, image.mode, info=info)


def _read_npy(path: Path) -> Picture:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise PipelineError("it is an archive of several arrays; a file must hold one")
    shape, dtype = array.shape, array.dtype.str
    if array.size == 0:
        raise PipelineError(f"it is empty: its shape is {list(shape)}")
    if array.dtype.kind == "f":
        array = _check_floats(array.astype(np.float32))
    elif array.dtype not in (np.uint8, np.uint16):
        raise PipelineError(f"it holds {array.dtype}; allowed are uint8, uint16, and floats on the [0, 1] scale")
    if array.ndim == 2:
        planes = array[np.newaxis, np.newaxis]
    elif array.ndim == 3 and shape[2] in (1, 3, 4):
        planes = array.transpose(2, 0, 1)[np.newaxis]
    elif array.ndim == 4 and shape[1] in (1, 3):
        planes = array
    else:
        raise PipelineError(
            f"its shape is {list(shape)}; allowed are [H, W], [H, W, C] with C 1, 3 or 4, "
            "and [N, C, H, W] with C 1 or 3"
        )
    alpha = planes[0, 3] if array.ndim == 3 and shape[2] == 4 else None
    return Picture(np.ascontiguousarray(planes[:, :3]), alpha, "NPY", shape=shape, dtype=dtype)


def _check_floats(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise PipelineError("it holds NaN or infinity")
    return array


def _to_array(picture: Picture, pixels: np.ndarray) -> np.ndarray:
    """The array to store in an .npy file, from `pixels` [N, C, H, W]."""
    dimensions = len(picture.shape)
    if dimensions == 4:
        array = pixels
    elif dimensions == 3:
        planes = [*pixels[0], *([] if picture.alpha is None else [picture.alpha])]
        array = np.stack(planes, axis=-1)
    else:
        array = pixels[0, 0]
    return array.astype(picture.dtype)


def _read_16_bit_colour(path: Path) -> Picture:
    """Read by OpenCV, because Pillow would drop the lower 8 bits."""
    try:
        import cv2
    except ImportError:
        raise PipelineError(
            "it has 16 bits per colour, which needs OpenCV; run: pip install opencv-python-headless"
        ) from None
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] not in (3, 4):
        raise PipelineError("it has 16 bits per colour, in a form that OpenCV cannot read either")
    alpha = array[..., 3] if array.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(array[..., 2::-1].transpose(2, 0, 1))[np.newaxis], alpha, "CV2")


def _encode_16_bit_colour(picture: Picture, pixels: np.ndarray, suffix: str) -> bytes:
    import cv2

    planes = [*pixels[0][::-1], *([] if picture.alpha is None else [picture.alpha])]  # blue first
    done, data = cv2.imencode(suffix, np.stack(planes, axis=-1))
    if not done:
        raise OSError(f"OpenCV could not write a {suffix} file")
    return data.tobytes()
