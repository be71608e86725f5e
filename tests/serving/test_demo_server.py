"""The server behind `demo` gives out the files of a hand-off and nothing else, and only under its own name."""

from __future__ import annotations

import http.client
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PROJECT

from pipeline.errors import ParityError
from pipeline.serving import demo
from pipeline.serving.address import is_name_of

HANDOFF = PROJECT / "artifacts" / "mnist-blind"


@contextmanager
def serving(folder: Path) -> Iterator[http.client.HTTPConnection]:
    handler = partial(demo._Handler, directory=str(folder), host="127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
        server.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[http.client.HTTPConnection]:
    folder = tmp_path_factory.mktemp("demo") / "handoff"
    (folder / "demo").mkdir(parents=True)
    (folder / "demo" / "index.html").write_text("page")
    (folder / "space é.txt").write_text("named")
    (folder.parent / "secret").write_text("secret")
    (folder / "pw").symlink_to("/etc/passwd")
    (folder / "out").symlink_to(folder.parent)
    with serving(folder) as connection:
        yield connection


def ask(server: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes]:
    server.request("GET", path, headers=headers)
    with server.getresponse() as answer:
        content = answer.read()
    server.close()
    return answer.status, content


@pytest.mark.parametrize("path", ["/demo/index.html", "/demo//index.html?x=/../y#z", "/demo/./index.html"])
def test_its_files_are_served(server: http.client.HTTPConnection, path: str) -> None:
    assert ask(server, path) == (200, b"page")
    assert ask(server, "/space%20%C3%A9.txt") == (200, b"named")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/demo", "/demo/", "/none", "//etc/passwd", "/../secret", "/demo/../../secret", "/%2e%2e/secret"),
        *("/pw", "/out/secret", "/demo/../pw", "/demo/index.html%00", "/" + "x" * 5000, "/demo/index.html/"),
    ],
)
def test_no_lists_no_links_and_nothing_outside(server: http.client.HTTPConnection, path: str) -> None:
    status, content = ask(server, path)
    assert status == 404
    assert b"secret" not in content
    assert b"root:" not in content


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *(("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:80", 200)),
        *(("evil.example", 421), ("127.0.0.1.evil.example", 421), ("192.0.2.7:8000", 421), ("", 421), ("[::1", 421)),
    ],
)
def test_it_answers_to_its_own_names_only(server: http.client.HTTPConnection, name: str, status: int) -> None:
    assert ask(server, "/demo/index.html", Host=name)[0] == status


def test_on_all_addresses_any_address_is_its_name() -> None:
    assert is_name_of("192.0.2.7:8000", "0.0.0.0")
    assert is_name_of("localhost:8000", "0.0.0.0")
    assert not is_name_of("evil.example", "0.0.0.0")
    assert is_name_of("Box.lan:80", "box.lan")
    assert not is_name_of("localhost", "box.lan")


def test_what_verify_refuses_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "add_onnxruntime_web", lambda folder: None)  # fetched from npm
    served: list[Path] = []
    monkeypatch.setattr(demo, "serve_files", lambda folder, host, port: served.append(folder))
    folder = Path(shutil.copytree(HANDOFF, tmp_path / "handoff"))
    demo.serve(folder, "127.0.0.1", 0)
    assert served == [folder]
    (folder / "pw").symlink_to("/etc/passwd")
    with pytest.raises(ParityError, match=r"is not as it was handed off, and is not served: links .*pw"):
        demo.serve(folder, "127.0.0.1", 0)
    (folder / "pw").unlink()
    with (folder / "demo" / "index.html").open("a") as page:
        page.write("<script>")
    with pytest.raises(ParityError, match=r"files that do not match their checksums .*demo/index.html"):
        demo.serve(folder, "127.0.0.1", 0)
    assert served == [folder]
