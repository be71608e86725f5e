"""What every command that serves something to browsers says of where it listens."""

from __future__ import annotations

import click

from pipeline.errors import PipelineError

LOCAL = "127.0.0.1"


def cannot_serve(host: str, port: int, error: Exception) -> PipelineError:
    """The error to raise after `error`, with which listening failed."""
    reason = getattr(error, "strerror", None) or error  # a ValueError, of a name that is none, has no strerror
    return PipelineError(f"cannot serve on {host}, port {port}: {reason}; choose another --host or --port")


def tell_address(command: str, host: str, port: int, path: str, risk: str) -> None:
    """Say where to open the page at `path`, and, if other machines are let in, what whoever comes can do: `risk`."""
    if host != LOCAL:
        click.echo(f"{command}: listens on {host}: whoever can reach this machine there can {risk}")
    shown = LOCAL if host == "0.0.0.0" else host
    click.echo(f"{command}: http://{shown}:{port}/{path} (Ctrl-C stops it)")
