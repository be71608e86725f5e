"""The address that a server listens on: what to print about it, and the error if it cannot be used."""

from __future__ import annotations

from pipeline.errors import PipelineError
from pipeline.text import say

LOCAL = "127.0.0.1"


def cannot_serve(host: str, port: int, error: Exception) -> PipelineError:
    """The error to raise when listening failed with `error`."""
    reason = getattr(error, "strerror", None) or error  # the ValueError for an invalid host name has no strerror
    return PipelineError(f"cannot serve on {host}, port {port}: {reason}; choose another --host or --port")


def print_address(command: str, host: str, port: int, path: str, risk: str) -> None:
    """Print the URL to open, after a warning if the server is not limited to this machine.

    Args:
        command: the name of the command.
        host: the address that it listens on.
        port: the port that it listens on.
        path: of the page, without a leading slash.
        risk: what others could do: completes "anyone who can reach this machine there can ...".
    """
    if host != LOCAL:
        say(f"{command}: listening on {host}: anyone who can reach this machine there can {risk}")
    shown = LOCAL if host == "0.0.0.0" else host
    say(f"{command}: http://{shown}:{port}/{path} (press Ctrl-C to stop)")
