"""The failures that a user can cause or fix; each is reported in one line."""

import re

from pipeline.text import shown

# What torch says, of the memory of the machine and that of a graphics card.
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory")


class PipelineError(Exception):
    """A stage cannot continue. The message says what is wrong, where, and what to do."""


class ArgumentError(PipelineError):
    """An option or an argument is wrong, or names what is not there. Nothing was done."""


class ParityError(PipelineError):
    """A file failed a gate, so no hand-off was written."""


class QualityError(PipelineError):
    """A model is no better than doing nothing, or not as good as was asked for, so no hand-off was written."""


def counted(count: int, noun: str) -> str:
    """A number of things, for a message: `1 image`, `2,000 images`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def one_line(error: BaseException) -> str:
    """What an error says, on one line that anybody may see; one that nobody foresaw with its type."""
    match error:
        case PipelineError():
            text = str(error)
        case OSError() if error.strerror:
            text = f"{error.filename or 'the system'}: {error.strerror}"
        case RuntimeError(args=["Could not determine home directory."]):  # of `Path.home`, which MLflow asks on import
            text = "this user has no home folder, which MLflow needs: set HOME to a folder that may be written to"
        case MemoryError() | RuntimeError() if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            said = str(error) or "Python got none"
            text = f"no memory left: {said}; a training needs less with a smaller --batch-size, --crop or --size"
        case _:
            text = f"{type(error).__name__}: {error}"
    return shown(" ".join(text.split()))
