"""The demo page of a hand-off folder, served as static files with the right MIME types."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.errors import ArgumentError
from pipeline.handoff.onnxruntime_web import add_onnxruntime_web
from pipeline.serving.address import cannot_serve, print_address
from pipeline.signals import Stopped
from pipeline.text import say

_DEMO_PAGE = "demo/index.html"


class _Handler(SimpleHTTPRequestHandler):
    # Listed here because the machine's own table may differ, and browsers reject a module served as "text/plain".
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".json": "application/json",
        ".onnx": "application/octet-stream",
        ".pb": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # the folder may be exported again
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve(folder: Path, host: str, port: int) -> None:
    """Serve the hand-off `folder` until Ctrl-C.

    Args:
        folder: of the hand-off; onnxruntime-web is added beside the demo page if it is missing.
        host: the address to listen on; anyone who can reach it can read all files in `folder`.
        port: the port to listen on; 0 for any free one.

    Raises:
        ArgumentError: the folder has no demo page.
        PipelineError: onnxruntime-web cannot be fetched, or the address is not free.
    """
    if not (folder / _DEMO_PAGE).is_file():
        raise ArgumentError(f"{folder} is not a hand-off folder: it has no {_DEMO_PAGE}")
    add_onnxruntime_web(folder)
    try:
        server = ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder)))
    except (OSError, ValueError) as error:
        raise cannot_serve(host, port, error) from error
    with server:
        print_address("demo", host, server.server_address[1], _DEMO_PAGE, f"read all files in {folder}")
        try:
            server.serve_forever()
        except Stopped:
            say("demo: stopped")
