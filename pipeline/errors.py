"""The failures that a user can cause or fix; each is reported in one line."""


class PipelineError(Exception):
    """A stage cannot continue. The message says what is wrong, where, and what to do."""


class ParityError(PipelineError):
    """A file failed a gate, so no hand-off was written."""


class QualityError(PipelineError):
    """A model is no better than doing nothing, or not as good as was asked for, so no hand-off was written."""
