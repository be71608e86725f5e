"""Serve the page of a hand-off folder on this machine: static files, with the right MIME types."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click

from pipeline.errors import PipelineError
from pipeline.handoff.onnxruntime_web import add_onnxruntime_web
from pipeline.serving.address import cannot_serve, tell_address
from pipeline.signals import Stopped

_PAGE = "demo/index.html"


class _Handler(SimpleHTTPRequestHandler):
    # Spelled out, because the machine's own table may say otherwise: browsers refuse a module that is "text/plain".
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".json": "application/json",
        ".onnx": "application/octet-stream",
        ".pb": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # the folder may be exported anew
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve(folder: Path, host: str, port: int) -> None:
    """Serve the hand-off `folder` until Ctrl-C.

    Args:
        folder: with the page in it; onnxruntime-web is put beside the page if it is not there yet.
        host: the address to listen on; who can reach it can read all files in `folder`.
        port: 0 for any that is free.

    Raises:
        PipelineError: there is no page in the folder, onnxruntime-web cannot be had, or the address is not free.
    """
    if not (folder / _PAGE).is_file():
        raise PipelineError(f"{folder} is not a hand-off folder: it has no {_PAGE}")
    add_onnxruntime_web(folder)
    try:
        server = ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder)))
    except (OSError, ValueError) as error:
        raise cannot_serve(host, port, error) from error
    with server:
        tell_address("demo", host, server.server_address[1], _PAGE, f"read all files in {folder}")
        try:
            server.serve_forever()
        except Stopped:
            click.echo("demo: stopped")
