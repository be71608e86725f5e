"""The demo page of a hand-off folder, served as static files with the right MIME types.

Only the files of a hand-off that `verify` accepts are served, and only to who asks for them by a name of this server: a
web page elsewhere can have its own name mean this machine, but not make the browser say another name.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from pipeline.errors import ArgumentError, ParityError, PipelineError
from pipeline.files import inside
from pipeline.handoff.onnxruntime_web import add_onnxruntime_web
from pipeline.serving.address import cannot_serve, is_name_of, print_address
from pipeline.signals import Stopped
from pipeline.text import say
from pipeline.verification.folder import verify

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

    def __init__(self, *arguments: Any, host: str, **options: Any) -> None:
        self._host = host  # that the server listens on
        super().__init__(*arguments, **options)

    def send_head(self) -> BytesIO | BinaryIO | None:
        """As the base does it, for files of the folder only: no lists of folders, nothing behind a link."""
        if not is_name_of(self.headers.get("Host", ""), self._host):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This server has another name")
            return None
        try:
            path = inside(Path(self.directory), unquote(urlsplit(self.path).path).removeprefix("/"))
        except PipelineError:
            path = None
        if path is None or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND, "Not a file of this hand-off")
            return None
        return super().send_head()

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
        ParityError: it is not as it was handed off.
        PipelineError: onnxruntime-web cannot be fetched, or the address is not free.
    """
    if not (folder / _DEMO_PAGE).is_file():
        raise ArgumentError(f"{folder} is not a hand-off folder: it has no {_DEMO_PAGE}")
    add_onnxruntime_web(folder)
    if faults := [gate for gate in verify(folder, []) if not gate.passed]:
        raise ParityError(
            f"{folder} is not as it was handed off, and is not served: {faults[0].gate} ({faults[0].where}): "
            f"{faults[0].value}; allowed: {faults[0].limit}"
        )
    serve_files(folder, host, port)


def serve_files(folder: Path, host: str, port: int) -> None:
    """`serve` a folder as it is, with all that the page needs."""
    try:
        server = ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder), host=host))
    except (OSError, ValueError) as error:
        raise cannot_serve(host, port, error) from error
    with server:
        print_address("demo", host, server.server_address[1], _DEMO_PAGE, f"read all files in {folder}")
        try:
            server.serve_forever()
        except Stopped:
            say("demo: stopped")
