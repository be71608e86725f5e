"""Which pixel values are white and black in a picture, and whether its pixels can be meant so."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.config import check_levels
from pipeline.data.images import Levels
from pipeline.data.levels import share_outside, white_of_bits
from pipeline.errors import PipelineError

_NAMED = 2  # other pictures that a warning names; it counts the rest
_USED = 8  # less than this part of the range of a type is hardly meant to be all of it


@dataclass(frozen=True)
class ChosenLevels:
    """The levels of pictures: what the caller says, else what the model was trained on, else the range of the type."""

    white: float | None = None  # what the caller says ...
    black: float | None = None
    trained: Levels | None = None  # ... and what the model says of pixels
    trained_type: str = ""  # of this type

    def __post_init__(self) -> None:
        if self.white is not None and self.black is not None:
            check_levels(self.white, self.black)

    def of(self, dtype: np.dtype) -> Levels:
        """Those of pictures of a type."""
        levels = self.trained if self.trained and dtype == self.trained_type else Levels.of_type(dtype)
        return Levels(
            levels.white if self.white is None else self.white, levels.black if self.black is None else self.black
        )

    def is_known(self, dtype: np.dtype) -> bool:
        """Whether they are more than the range of the type."""
        return self.white is not None or (self.trained is not None and dtype == self.trained_type)

    def check(self, pixels: np.ndarray, accepted: tuple[float, float]) -> None:
        """Make sure that pixels can be those of a noisy image.

        Args:
            pixels: uint8, uint16 or float32 [N, C, H, W].
            accepted: no noisy image has values outside of this range, on the scale where black is 0 and white is 1.

        Raises:
            PipelineError: they cannot. The message does not name the picture.
        """
        levels = self.of(pixels.dtype)
        if levels.white <= levels.black:
            raise PipelineError(
                f"its white, {levels.white:,g}, is not above its black, {levels.black:,g}; pass --white N"
            )
        darkest, brightest = float(pixels.min()), float(pixels.max())
        if pixels.dtype.kind == "u":
            if brightest > levels.white:
                source = "" if self.white is not None else " in the images that the model was trained on"
                raise PipelineError(
                    f"its brightest pixel is {brightest:,g}, but white is {levels.white:,g}{source}; "
                    "pass the value of white: --white N"
                )
            return
        low, high = levels.from_floats(np.array(accepted), np.float32)
        if not (darkest >= low and brightest <= high):
            raise PipelineError(
                f"its values range from {darkest:g} to {brightest:g}, but a noisy image with white {levels.white:g} "
                f"stays within {low:g} to {high:g}; pass the value of white: --white N"
            )
        share = share_outside([*pixels], levels)
        if share:
            raise PipelineError(
                f"{share:.0%} of its values lie further outside of {levels.black:g} to {levels.white:g} than its noise "
                f"explains (they range from {darkest:g} to {brightest:g}); pass the values of white and black: "
                "--white N --black N"
            )


@dataclass
class Dim:
    """Pictures that use little of the range of their type: perhaps their white is not its end."""

    _found: dict[tuple[np.dtype, str], list[tuple[str, float]]] = field(default_factory=dict)

    def look_at(self, name: str, pixels: np.ndarray) -> None:
        """Take a picture into account. One that is black all over says nothing of its white."""
        brightest, white = float(pixels.max()), Levels.of_type(pixels.dtype).white
        if 0 < brightest < white / _USED:
            if pixels.dtype == np.uint16:
                bits = white_of_bits(brightest)
                advice = f"if white is {bits:,}, pass --white {bits}"
            else:
                advice = f"if white is less than {white:g}, pass its value: --white N"
            self._found.setdefault((pixels.dtype, advice), []).append((name, brightest))

    @property
    def warnings(self) -> list[str]:
        """One line for each thing to do."""
        return [self._line(dtype, advice, found) for (dtype, advice), found in self._found.items()]

    def _line(self, dtype: np.dtype, advice: str, found: list[tuple[str, float]]) -> str:
        (name, brightest), *others = found
        text = f"warning: {name}: its brightest pixel is {brightest:,g} of {Levels.of_type(dtype).white:,g}"
        if others:
            more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
            text += f" (dim, too: {', '.join(other for other, _ in others[:_NAMED])}{more})"
        return f"{text}; {advice}"
