"""The failures that a user can cause or mend; each is told in one line."""


class PipelineError(Exception):
    """A stage cannot go on. The message says what, where and what to do."""


class ParityError(PipelineError):
    """The exported file failed a gate, so no hand-off was written."""
