"""What Pillow reads and writes: PNG, JPEG, WebP and the like, with 8 or 16 bits; every frame is an image."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from pipeline.data.formats.deep_png import encode_deep, is_deep, read_deep
from pipeline.data.formats.picture import MAX_PIXELS, Picture, check_finite, check_size, in_eight, joined
from pipeline.data.formats.said import kept_chunks, kept_segments, with_chunks
from pipeline.errors import PipelineError

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # from where on Pillow warns; it refuses twice this
# What it warns of, such as a date that it cannot parse, does not concern the pixels.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_LOSSLESS: dict[str, dict[str, Any]] = {
    # As close to the pixels as the format allows: compression artefacts would be blamed on the model.
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},  # also the colours that are transparent
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}
_WRITTEN = {  # by Pillow, of what it has read besides the pixels; the rest of PNG and JPEG is kept byte for byte
    "JPEG": ("dpi",),
    "WEBP": ("icc_profile", "exif", "xmp"),
    "AVIF": ("icc_profile", "exif", "xmp"),
    "BMP": ("dpi",),
    "GIF": ("comment",),
    "JPEG2000": ("comment",),
}
_NAMES = {
    "icc_profile": "ICC profile",
    "exif": "EXIF data",
    "xmp": "XMP data",
    "dpi": "resolution",
    "comment": "comment",
}
_GRAY_STEPS = {"L;2": 85, "L;4": 17}  # between two levels of a PNG file with 2 or 4 bits, when Pillow has read it


def read_by_pillow(file: BinaryIO, form: str, max_pixels: int) -> Picture:
    """An image file, or an animation, whose frames all have one size.

    Args:
        file: its content.
        form: the name that Pillow has for its format.
        max_pixels: at most, of all frames together.

    Raises:
        PipelineError: its pixels are of a kind that is not supported, or too many.
    """
    if max_pixels > MAX_PIXELS:
        Image.MAX_IMAGE_PIXELS = max((max_pixels + 1) // 2, Image.MAX_IMAGE_PIXELS or 0)
    with Image.open(file, formats=(form,)) as image:
        # A JPEG file with more images in it, which some cameras write, holds previews or other views.
        count = 1 if form == "JPEG" else getattr(image, "n_frames", 1)
        check_size(count * image.width * image.height, max_pixels)
        if is_deep(image):
            if count > 1:
                raise PipelineError("it is an animation with 16 bits per colour; save its frames as files of their own")
            pixels, alpha = read_deep(file)
            image.load()
            orientation = _orientation(image)
            chunks, left_out = kept_chunks(file)
            return Picture(pixels, alpha, form, partial(encode_deep, alpha, chunks), orientation, left_out=left_out)
        _check_depth(image)
        few = in_eight(_gray_bits(image))
        has_palette = (image.mode in ("P", "PA") or form == "GIF") and "icc_profile" not in image.info
        frames, durations = [], []
        for number in range(count):
            image.seek(number)
            frames.append(_planes(image))
            durations.append(image.info.get("duration", 0))  # WebP and AVIF say it of a frame that is loaded
        orientation, cmyk = _orientation(image), image.mode == "CMYK"
        chunks, options, left_out = _said(file, image)
        if count > 1:
            options |= {"duration": durations}
        if count > 1 and "loop" in image.info:  # without it, a GIF file plays once
            options |= {"loop": image.info["loop"]}
        if count > 1 and image.info.get("default_image"):  # shown by what cannot play animations, and no part of it
            options |= {"default_image": True, "duration": durations[1:]}
    pixels, alpha = _alike(frames, has_palette)
    check_finite(pixels)
    if form == "BMP" and alpha is not None and alpha.min() == alpha.max():
        alpha = None  # many programs leave it at 0, and mean nothing by it
    encode = partial(_encode, form, alpha, cmyk, options, chunks)
    return Picture(pixels, alpha, form, encode, orientation, cmyk, few + left_out)


def _gray_bits(image: ImageFile.ImageFile) -> int:
    """Of a pixel in an image that is not loaded, if it is gray and they are fewer than 8; else 8."""
    if image.mode == "1":
        return 1
    return {"L;2": 2, "L;4": 4}.get(str(image.tile[0].args) if image.tile else "", 8)


def _said(file: BinaryIO, image: ImageFile.ImageFile) -> tuple[bytes, dict[str, Any], tuple[str, ...]]:
    """What an image that is loaded says besides the pixels: chunks of PNG, options for Pillow, what is left out."""
    form = "JPEG" if image.format == "MPO" else str(image.format)
    if form == "PNG":
        chunks, left_out = kept_chunks(file)
        return chunks, {}, left_out
    options = {key: image.info[key] for key in _WRITTEN.get(form, ()) if image.info.get(key)}
    if form == "JPEG":
        options["extra"], left_out = kept_segments(image)
        return b"", options, left_out
    left_out = tuple(name for key, name in _NAMES.items() if image.info.get(key) and key not in options)
    if _has_hidden_profile(file, form):
        left_out += (_NAMES["icc_profile"],)
    return b"", options, left_out


def _has_hidden_profile(file: BinaryIO, form: str) -> bool:
    """Whether there is an ICC profile that Pillow does not see."""
    file.seek(0)
    head = file.read(4096)
    return {"BMP": head[70:74] in (b"DEBM", b"KNIL"), "JPEG2000": b"colr\x02" in head}.get(form, False)


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(0x0112, 1))


def pillow_array(image: Image.Image) -> np.ndarray:
    """The pixels of an open image [H, W] or [H, W, C]: uint8, uint16 or float32; palettes and bits are resolved.

    Raises:
        PipelineError: they are of another kind.
    """
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode == "YCbCr":
        image = image.convert("RGB")
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I" and image.format == "PPM":
        return np.asarray(image).astype(np.uint16)  # scaled to 65,535 by Pillow
    if image.mode == "F":
        return np.asarray(image, np.float32)
    raise PipelineError(f"it has pixels of the kind {image.mode}; allowed are 8 or 16 bits, gray or colour")


def _check_depth(image: ImageFile.ImageFile) -> None:
    """Refuse what Pillow would cut to 8 bits without a word."""
    arguments = image.tile[0].args if image.tile else None
    deep = image.format == "PPM" and image.mode == "RGB" and isinstance(arguments, tuple) and arguments[1] > 255
    if image.format == "JPEG2000" and image.mode != "I;16":
        assert image.fp is not None
        image.fp.seek(0)
        _, start, sizes = image.fp.read(4096).partition(b"\xff\x4f\xff\x51")  # its markers SOC and SIZ
        deep = bool(start) and any(bits & 0x7F > 7 for bits in sizes[38:39])  # one less than the bits per value
    if image.format == "AVIF":
        assert image.fp is not None
        image.fp.seek(0)
        coding = image.fp.read(4096).partition(b"av1C")[2][:3]  # the box on how the pixels are coded
        deep = len(coding) == 3 and bool(coding[2] & 0x40)
    if deep:
        raise PipelineError(
            f"it has more than 8 bits per colour, which can be read from PNG and TIFF files, not from {image.format}"
        )


def _planes(image: ImageFile.ImageFile) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels of a frame [C, H, W], and its alpha [H, W] if it has one."""
    mode, key, tiles = image.mode, image.info.get("transparency"), image.tile
    array = pillow_array(image)
    array = array[..., np.newaxis] if array.ndim == 2 else array
    has_alpha = array.shape[2] in (2, 4) and mode != "CMYK"
    colours, alpha = (array[..., :-1], array[..., -1]) if has_alpha else (array, None)
    if mode in ("1", "L", "RGB", "I;16") and key is not None and not isinstance(key, bytes):
        # One colour stands for transparent. What the model makes of other pixels may well have that colour.
        step = 255 if mode == "1" else _GRAY_STEPS.get(str(tiles[0].args) if tiles else "", 1)
        alpha = ~(colours == np.multiply(key, step)).all(axis=-1) * colours.dtype.type(np.iinfo(colours.dtype).max)
    return colours.transpose(2, 0, 1), alpha


def _alike(
    frames: list[tuple[np.ndarray, np.ndarray | None]], has_palette: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """The frames as one array [N, C, H, W], with alpha [N, H, W] if any has it."""
    if len({colours.shape[0] for colours, _ in frames}) > 1:  # Pillow decides it for each frame by itself
        frames = [(np.broadcast_to(colours, (3, *colours.shape[1:])), alpha) for colours, alpha in frames]
    pixels = np.ascontiguousarray(np.stack([colours for colours, _ in frames]))
    if has_palette and (pixels == pixels[:, :1]).all():
        pixels = pixels[:, :1]  # of grays
    if all(alpha is None for _, alpha in frames):
        return pixels, None
    full = np.full_like(pixels[0, 0], np.iinfo(pixels.dtype).max)
    return pixels, np.stack([full if alpha is None else alpha for _, alpha in frames])


def _encode(
    form: str, alpha: np.ndarray | None, cmyk: bool, options: Mapping[str, Any], chunks: bytes, pixels: np.ndarray
) -> bytes:
    if form == "BMP" and alpha is not None:
        raise PipelineError("its transparency would be lost; convert it to PNG first")  # Pillow writes what it ignores
    if alpha is not None and pixels.dtype == np.uint16:
        return encode_deep(alpha, chunks, pixels)
    images = []
    for planes in joined(pixels, alpha):
        array = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
        images.append(Image.fromarray(array, mode="CMYK") if cmyk else Image.fromarray(array))
    content = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(content, form, **_LOSSLESS.get(form, {}), **options, **more)
    return with_chunks(content.getvalue(), chunks)
