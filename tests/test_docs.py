"""The documentation is true: links lead somewhere, commands parse, and the tower is the one in the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml
from conftest import PROJECT

from pipeline.cli.commands import cli

PAGES = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=PROJECT, capture_output=True, text=True, check=True
).stdout.splitlines()
ARCHITECTURE = PROJECT / "docs" / "architecture.md"
PACKAGE = PROJECT / "pipeline"
ENTRY_POINTS = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
EXAMPLES = {  # what the pages write where a reader puts something of their own, and what stands for it here
    "RUN_ID": "0" * 32,
    "NAME": "denoiser",
    "path/to/images": "artifacts",
    **dict.fromkeys(("CLEAN_FOLDER", "NOISY_FOLDER", "OTHER_FOLDER", "FOLDER"), "artifacts"),
    "my.yaml": "best",
    "config.json": "best",
}
OF_OTHER_TOOLS = {  # options that the pages name and that are not those of the command line
    *(
        "--allowed-hosts",
        "--app-name",
        "--best",
        "--env-manager",
        "--figure",
        "--input",
        "--kills",
        "--only",
        "--rounds",
        "--seconds",
        "--short",
        "--upgrade",
    ),
}


def _text(page: str | Path) -> str:
    return (PROJECT / page).read_text(encoding="utf-8")


def _prose(page: str | Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", _text(page), flags=re.DOTALL | re.MULTILINE)


def _commands(page: str) -> Iterator[str]:
    """Every line of a shell block of a page, and every piece of inline code."""
    for block in re.findall(r"^```sh\n(.*?)^```", _text(page), re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`]+)`", _prose(page))


def _calls(marker: str) -> list[tuple[str, str]]:
    """Page and arguments of every command that has `marker` in it."""
    return [
        (page, part.split(marker, 1)[1].strip())
        for page in PAGES
        for line in _commands(page)
        for part in re.split(r"&&|\|\s", line)
        if marker in part
    ]


def test_the_page_names_the_commands_that_are_entry_points() -> None:
    (names,) = re.findall(r"entry points of `mlflow run` too, [^:]*: (.*?)\.", _text("docs/command-line.md"), re.DOTALL)
    assert {*re.findall(r"`(\w+)`", names), "main"} == {*ENTRY_POINTS}


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/architecture.md"} <= set(PAGES)
    assert len(_calls("-m pipeline")) > 20


@pytest.mark.parametrize(("page", "arguments"), _calls("-m pipeline "))
def test_commands_in_the_pages_parse(page: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    name, *words = [EXAMPLES.get(word, word) for word in shlex.split(arguments)]
    if name == "COMMAND":  # any
        return
    assert name in cli.commands, page
    root = click.Context(cli, token_normalize_func=_hyphens)
    try:
        cli.commands[name].make_context(name, [*words], parent=root).close()
    except click.exceptions.Exit:  # --help
        assert words == ["--help"]


def _hyphens(text: str) -> str:
    return text.replace("_", "-")


@pytest.mark.parametrize(("page", "arguments"), _calls("mlflow run . "))
def test_mlflow_run_in_the_pages_names_what_there_is(page: str, arguments: str) -> None:
    words = shlex.split(arguments)
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    assert entry in ENTRY_POINTS, page
    command = cli.commands[ENTRY_POINTS[entry]["command"].split()[3]]
    given = {word.partition("=")[0] for before, word in pairwise(words) if before == "-P"}
    assert given <= {parameter.name for parameter in command.params}, page


def test_options_in_the_pages_exist() -> None:
    known = {option for command in cli.commands.values() for param in command.params for option in param.opts}
    named = {
        (page, option)
        for page in PAGES
        for code in re.findall(r"`(--[a-z][^`]*)`", _prose(page))
        for option in re.findall(r"(?:^|\s)(--[a-z][\w-]*)", code)
    }
    assert named
    assert {(page, option) for page, option in named if option not in known | OF_OTHER_TOOLS | {"--help"}} == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (PROJECT / page).parent / path if path else PROJECT / page
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file), target


def _anchors(file: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _text(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_picture_is_shown_and_described() -> None:
    shown = dict(re.findall(r"!\[([^\]]*)\]\((?:docs/)?([^)]+)\)", "".join(map(_prose, PAGES))))
    pictures = {path.name for path in (PROJECT / "docs").iterdir() if path.suffix in (".png", ".jpg")}
    assert set(shown.values()) >= pictures
    assert all(len(description) > 20 for description in shown)


def test_architecture_names_every_wing_and_only_what_exists() -> None:
    text = _prose(ARCHITECTURE)
    wings = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("[a-z]*.py")}
    assert wings | modules <= set(re.findall(r"`([^`]+)`", text))
    named = set(re.findall(r"`([\w./]+(?:\.\w+|/))`", text))
    missing = {name for name in named if not (PACKAGE / name).exists() and not (PROJECT / name).exists()}
    assert missing == set()


def test_named_tables_and_constants_exist() -> None:
    symbols = {symbol for page in PAGES for symbol in re.findall(r"`(\w+)` in\s`([\w/]+\.py)`", _prose(page))}
    assert {module for _, module in symbols} >= {"noise/kinds.py", "pipeline/noise/kinds.py"}
    for name, module in symbols:
        file = PACKAGE / module if (PACKAGE / module).exists() else PROJECT / module
        assert re.search(rf"^(def {name}\(|class {name}\b|{name}\b.* = )", file.read_text(), re.MULTILINE), (
            f"{module} has no {name}"
        )


def test_architecture_draws_the_layers_of_the_contract() -> None:
    contracts = tomllib.loads(_text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    tower = re.search(r"<!-- tower -->\n```text\n(.*?)```", _text(ARCHITECTURE), re.DOTALL)
    assert tower
    drawn = [re.match(r"[\w |]+?(?=  |$)", line) for line in tower[1].splitlines()]
    assert [line and line[0].strip() for line in drawn] == layers
