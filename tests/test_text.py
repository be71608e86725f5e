"""What is printed: one line stays one line, no terminal obeys a name, and no password gets out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import PROJECT, Cli, write_digits
from server import Server, free_port

from pipeline.errors import one_line
from pipeline.reports.tables import markdown_table
from pipeline.text import printable, say, without_secrets


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain é 日本", "plain é 日本"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\r\u2028", r"two\nlines\r\u2028"),
        ("\u202eright to left", r"\u202eright to left"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_a_name_is_one_line_that_every_terminal_takes(
    text: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable(text) == wanted
    say(f"<{text}>", "")
    assert capsys.readouterr().out == f"<{wanted}>\n\n"


def test_a_cell_stays_in_its_column() -> None:
    assert markdown_table([["a", "b|c"], ["\n", "|"]]).splitlines() == [
        r"| a  | b\|c |",
        "|----|-----:|",
        r"| \n |   \| |",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("at http://admin:secret@127.0.0.1:5000/api: no", "at http://***@127.0.0.1:5000/api: no"),
        ("postgresql+psycopg2://me:p@ss:w@rd@db/x", "postgresql+psycopg2://***@db/x"),
        ("https://ghp_token@github.com/a/b", "https://***@github.com/a/b"),
        ("x://h/d?sslmode=on&password=secret&a=b", "x://h/d?sslmode=on&password=***&a=b"),
        ("GET /f?X-Amz-Signature=abc&a=b", "GET /f?X-Amz-Signature=***&a=b"),
        ("sqlite:////tmp/me@home/mlflow.db", "sqlite:////tmp/me@home/mlflow.db"),
        ("http://127.0.0.1:5000/?to=me@home", "http://127.0.0.1:5000/?to=me@home"),
        ("a token of s3cr3t-t0ken, and a p/ssw0rd@home", "a token of ***, and a ***"),
        ("a file, /run/secrets/mlflow", "a file, /run/secrets/mlflow"),
        ("short", "short"),
    ],
)
def test_passwords_stay_inside(text: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t-t0ken")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://me:p/ssw0rd@home@db/x")
    monkeypatch.setenv("MY_PASSWORD", "short")
    monkeypatch.setenv("MY_TOKEN_FILE", "/run/secrets/mlflow")
    assert without_secrets(text) == wanted
    assert one_line(ValueError(text)) == f"ValueError: {wanted}"


def test_no_other_way_out() -> None:
    """Whatever is printed goes through `say`, but for what stands alone in a hand-off."""
    sources = [path for path in (PROJECT / "pipeline").rglob("*.py") if path.name != "text.py"]
    found = [path for path in sources if re.search(r"click\.(echo|secho)\(|^\s*print\(", path.read_text(), re.M)]
    assert [path for path in found if not {"files", "verification"} & {*path.parts}] == []


@pytest.mark.parametrize("command", [("compare", "--debug"), ("doctor",), ("ui",)])
def test_an_address_is_shown_without_its_password(tmp_path: Path, cli: Cli, command: tuple[str, ...]) -> None:
    done = cli(*command, MLFLOW_TRACKING_URI=f"http://admin:s3cr3t-pass@127.0.0.1:{free_port()}")
    assert "s3cr3t" not in done.out + done.err
    assert "http://***@127.0.0.1:" in done.out + done.err


def test_no_file_and_no_record_holds_the_password(tmp_path: Path, cli: Cli, digits: object) -> None:
    write_digits(tmp_path / "digits", digits[:20])  # type: ignore[index]
    cli("prepare", "--dataset", "digits")
    with Server(tmp_path / "server") as server:
        address = server.uri.replace("://", "://admin:s3cr3t-pass@")
        words = ("--dataset", "digits", "--epochs", 1, "--recipe", "page")
        done = cli("train", *words, MLFLOW_TRACKING_URI=address)
        assert done.code == 0, done
        assert "s3cr3t" not in done.out + done.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if b"s3cr3t" in path.read_bytes()] == []
