"""The files that must say the same thing twice."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from conftest import PROJECT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pipeline.cli.commands import cli
from pipeline.cli.help import GroupedOption

ENTRY_POINTS: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
COMMANDS = {
    "main": "run",
    **{
        name: name
        for name in (
            *("prepare", "train", "evaluate", "export", "blind", "unet", "sweep", "search"),
            *("baselines", "promote", "verify"),
        )
    },
}


def test_mlproject_has_an_entry_point_for_every_command() -> None:
    assert set(ENTRY_POINTS) == set(COMMANDS)
    tools = {
        "models",
        "noises",
        "doctor",
        "denoise",
        "demo",
        "ui",
        "compare",
        "inspect",
        "push",
        "tidy",
    }  # they print, or work on what is not a run
    assert set(COMMANDS.values()) == set(cli.commands) - tools


@pytest.mark.parametrize("entry_point", COMMANDS)
def test_mlproject_lists_arguments_alone(entry_point: str) -> None:
    """MLflow would log a default as a parameter of the run, whatever a config file or `--sigma` make of it."""
    given = cli.commands[COMMANDS[entry_point]].params
    arguments = [str(parameter.name) for parameter in given if isinstance(parameter, click.Argument)]
    entry = ENTRY_POINTS[entry_point]
    assert entry.get("parameters", {}) == {name: {"type": "string"} for name in arguments}
    words = [f"{{{name}}}" for name in arguments]
    assert entry["command"].split() == ["python", "-m", "pipeline", COMMANDS[entry_point], *words]


@pytest.mark.parametrize("entry_point", COMMANDS)
def test_the_command_line_accepts_every_option_as_mlflow_run_passes_it(
    entry_point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = cli.commands[COMMANDS[entry_point]]
    options = {
        parameter.name: parameter.default_text
        for parameter in command.params
        if isinstance(parameter, GroupedOption) and not parameter.hidden and parameter.name != "sigma"
    }
    given = {"start": "0" * 32, "batch_size": "32"}
    values = {name: given.get(str(name), default) for name, default in options.items()}
    examples = {"name": "digits", "folder": "artifacts/mnist-blind"}
    arguments = [examples[name] for name in ENTRY_POINTS[entry_point].get("parameters", {})]
    monkeypatch.chdir(PROJECT)
    words = [word for name, value in values.items() for word in (f"--{name}", value)]
    with command.make_context(entry_point, [*arguments, *words], click.Context(cli, **cli.context_settings)) as context:
        for name, value in context.params.items():
            if values.get(name) and isinstance(value, str | int | float):
                assert str(value).lower() == values[name]


def _setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "setup.cfg")
    return parser


def test_conda_yaml_and_setup_cfg_agree() -> None:
    dependencies = yaml.safe_load((PROJECT / "conda.yaml").read_text())["dependencies"]
    python, pip, pip_list = dependencies
    assert pip == "pip"
    assert pip_list == {"pip": _setup_cfg()["options"]["install_requires"].strip().splitlines()}
    # The only spelling of a Python version that MLflow hands on to uv and virtualenv.
    assert re.fullmatch(r"python=3\.\d+", python)


# Not for everybody who installs the rest: free for non-commercial use only, and what others train denoisers with.
NOT_LOCKED = ("bm3d", "deepinv", "lightning")


def test_the_lock_file_has_every_requirement_at_an_allowed_version() -> None:
    """`CONTRIBUTING.md` has the command that makes it."""
    text = (PROJECT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))
    extras = _setup_cfg()["options.extras_require"]
    requirements = [
        Requirement(line)
        for text in (_setup_cfg()["options"]["install_requires"], *extras.values())
        for line in text.split("\n")
        if line
    ]
    for requirement in requirements:
        if requirement.name in NOT_LOCKED:
            continue
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"requirements.lock lacks {name}"
        assert requirement.specifier.contains(pinned[name]), f"requirements.lock has {name} {pinned[name]}"


def test_the_lock_file_has_hashes_and_no_place_to_install_from() -> None:
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    entries = [at for at, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    assert entries
    assert all(lines[at].endswith("\\") and "--hash=sha256:" in lines[at + 1] for at in entries)
    kinds = re.compile(r"#|[a-z0-9-]+==|    --hash=sha256:[0-9a-f]{64}( \\)?$|    #")
    assert [line for line in lines if not kinds.match(line)] == []
    assert "://" not in "".join(lines)


def test_ci_runs_on_every_python_that_is_allowed() -> None:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["checks"]
    assert job["steps"][-1]["run"] == "bash .ci/run"
    versions = job["strategy"]["matrix"]["python-version"]
    allowed = SpecifierSet(_setup_cfg()["options"]["python_requires"])
    assert versions == [text for text in (f"3.{minor}" for minor in range(30)) if text in allowed]
    assert f"Python {versions[0]} to {versions[-1]}" in (PROJECT / "README.md").read_text()


def _packages(requirements: str) -> set[str]:
    return {re.split(r"[<>=]", line)[0] for line in requirements.strip().splitlines()}


def test_every_import_is_a_dependency() -> None:
    required = _packages(_setup_cfg()["options"]["install_requires"])
    optional = _packages("\n".join(_setup_cfg()["options.extras_require"].values()))
    names = {
        "PIL": "pillow",
        "yaml": "pyyaml",
        "skimage": "scikit-image",
        "scipy": "scikit-image",  # which needs it
        "cv2": "opencv-python-headless",
        **dict.fromkeys(("pandas", "sqlalchemy"), "mlflow"),  # which needs them
    }
    imported = {
        names.get(name, name)
        for path in (PROJECT / "pipeline").rglob("*.py")
        for name in re.findall(r"^\s*(?:import|from) ([A-Za-z_]\w*)", path.read_text(), re.MULTILINE)
    }
    outside = imported - set(sys.stdlib_module_names) - {"pipeline", "__future__"}
    assert outside <= required | optional
    assert required - outside == {"onnxscript"}  # which torch.onnx.export imports


def test_only_their_own_modules_import_mlflow_and_onnx() -> None:
    def importing(package: str) -> set[str]:
        pattern = re.compile(rf"^\s*(?:import|from) {package}\b", re.MULTILINE)
        paths = (PROJECT / "pipeline").rglob("*.py")
        return {path.relative_to(PROJECT).as_posix() for path in paths if pattern.search(_runtime_text(path))}

    tracking = ("copying", "database", "registry", "removal", "store", "system_metrics", "to_mlflow")
    assert importing("mlflow") == {
        *(f"pipeline/tracking/{name}.py" for name in tracking),
        "pipeline/handoff/mlflow_loader.py",
    }
    drawing = ("figures", "comparison_figures", "svg")
    assert importing("matplotlib") == {f"pipeline/reports/{name}.py" for name in drawing}
    proof = ("pipeline/handoff/", "pipeline/verification/")
    assert {name for name in importing("onnxruntime") if not name.startswith(proof)} == {
        f"pipeline/denoising/{name}.py" for name in ("model", "trial")
    }
    assert {name for name in importing("onnx") if not name.startswith(proof)} == {"pipeline/tracking/to_mlflow.py"}


def _runtime_text(path: Path) -> str:
    """Without the imports that only type checkers see."""
    return re.sub(r"if TYPE_CHECKING:\n(?:    .*\n)+", "", path.read_text())
