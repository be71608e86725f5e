"""The address that a server listens on: what to print about it, and the error if it cannot be used."""

from __future__ import annotations

from ipaddress import ip_address
from socket import getfqdn, gethostname
from urllib.parse import urlsplit

from pipeline.errors import PipelineError
from pipeline.text import say

LOCAL = "127.0.0.1"
_LOOPBACK = {LOCAL, "::1", "localhost"}
_EVERYWHERE = {"0.0.0.0", "::", ""}


def cannot_serve(host: str, port: int, error: Exception) -> PipelineError:
    """The error to raise when listening failed with `error`."""
    reason = getattr(error, "strerror", None) or error  # the ValueError for an invalid host name has no strerror
    return PipelineError(f"cannot serve on {host}, port {port}: {reason}; choose another --host or --port")


def is_name_of(given: str, host: str) -> bool:
    """Whether a request is meant for a server.

    Args:
        given: the Host header of the request.
        host: the address that the server listens on. If that is all of the machine's, any address will do, and the
            machine's own names.
    """
    try:
        name = urlsplit(f"//{given}").hostname or ""
    except ValueError:
        return False
    if host in _EVERYWHERE:
        return _is_address(name) or name in {"localhost", *(own.lower() for own in (gethostname(), getfqdn()))}
    return name == host.lower() or (host in _LOOPBACK and name in _LOOPBACK)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


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
