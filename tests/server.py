"""A real `mlflow server`, which can be stopped and started, and a proxy before it that is slow or breaks off."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from once import tables


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """`mlflow server` in a folder of its own, with its artifacts behind it."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._own = f"sqlite:///{folder / 'server.db'}"
        self._store = store or self._own
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._store == self._own and not (self.folder / "server.db").exists():
            (self.folder / "server.db").write_bytes(tables())
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
                    *("--backend-store-uri", self._store, "--artifacts-destination", str(self.folder / "artifacts")),
                    *("--workers", "1", "--allowed-hosts", f"127.0.0.1:{self.port}"),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                },
            )
        deadline = time.monotonic() + 1800  # hung
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def stop(self) -> None:
        """At once, in the middle of whatever it does."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Proxy:
    """Forwards to a server, late, or not before `open` is set; some uploads it breaks off half-way, or refuses.

    These are the first `times` whose path matches `break_off`, and all that match `refuse`.
    """

    def __init__(
        self, server: Server, delay: float = 0.0, break_off: str = "", times: int = 0, refuse: str = "$."
    ) -> None:
        self.broken_off = 0
        self.answered = 0
        self.open = threading.Event()
        self.open.set()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                time.sleep(delay)
                proxy.open.wait()
                length = int(self.headers.get("Content-Length") or 0)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(length)
                if self.command == "PUT" and re.search(refuse, self.path):
                    self.send_error(413)
                    return
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                skip = ("host", "transfer-encoding", "content-length", "connection")
                headers = {key: value for key, value in self.headers.items() if key.lower() not in skip}
                if self.command == "PUT" and proxy.broken_off < times and re.search(break_off, self.path):
                    proxy.broken_off += 1
                    connection.request(self.command, self.path, body[: len(body) // 2], headers)
                    connection.getresponse().read()
                    self.close_connection = True
                    self.connection.close()
                    return
                try:
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                except OSError:
                    self.send_error(502)
                    return
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in ("transfer-encoding", "content-length", "connection"):
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                proxy.answered += 1

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
