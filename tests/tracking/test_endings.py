"""What a run that was stopped says of going on."""

from __future__ import annotations

import signal

import pytest

from pipeline.signals import Stopped
from pipeline.tracking import endings, names


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({names.SEED: "0"}, "; continue with: python -m pipeline train --resume 0a"),
        ({names.SEED: "0", names.HANDOFF_OPTIONS: "{}"}, "; continue with: python -m pipeline run --resume 0a"),
        ({names.TRIALS: "6"}, "; continue with: the same command and --resume 0a"),
        ({names.TEST_IMAGES: "100"}, ""),  # a classical denoiser; it has no --resume
    ],
)
def test_only_what_can_be_resumed_says_so(tags: dict[str, str], said: str) -> None:
    found = endings.reason_tags(Stopped(signal.SIGTERM), tags.get, "0a")
    assert found[names.NOTE] == f"Killed: by SIGTERM{said}"
    assert found[names.RESUMABLE] == ("true" if said else "false")
