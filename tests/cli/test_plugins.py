"""What installed packages and the user's own classes add: used like the pipeline's own parts, and refused if broken."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from calls import run_all
from conftest import PROJECT, Cli, Result
from plugin import NETWORKS, install, register

from pipeline.tracking import names

RUN = ("run", "--dataset", "squares", "--noise", "stripes:strength=0.3", "--model", "tiny:width=3", "--epochs", "2")
NAMED = (*RUN, "--batch-size", "8", "--allow-worse", "--name", "tiny")


def path_with(*folders: Path) -> str:
    return os.pathsep.join(map(str, (PROJECT, *folders)))


def test_a_package_adds_to_every_table_and_its_source_counts(tmp_path: Path, cli: Cli) -> None:
    site = install(tmp_path / "site")
    path = path_with(site)
    done, again, verified = run_all(tmp_path, [NAMED, NAMED, ["verify", "artifacts/tiny"]], PYTHONPATH=path)
    for result in (done, again, verified):
        assert (result.code, result.err) == (0, ""), result
    assert "export: artifacts/tiny: " in done.out
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.data.params["model"] == "tiny:width=3"
    report = json.loads(Path(client.download_artifacts(run.info.run_id, names.EVALUATION, str(tmp_path))).read_text())
    assert run.data.metrics["test/mae"] > 0
    (label,) = (label for label in report["results"] if label.startswith("stripes"))
    # Every second row is off by a normal number times 0.3.
    assert report["results"][label]["noisy"]["mae"] == pytest.approx(0.3 * math.sqrt(2 / math.pi) / 2, rel=0.05)
    for stage in ("prepare: squares", "train", "evaluate", "export"):
        assert f"{stage}: reusing" in again.out
    parts = site / "tiny_parts" / "__init__.py"
    parts.write_text(parts.read_text().replace("self.strength.low", "self.strength.low * 1.0"))
    changed = cli(*NAMED, PYTHONPATH=path)
    assert changed.code == 0, changed
    assert "prepare: squares: preparing again, changed: tiny_parts/__init__.py" in changed.out
    assert re.search(r"train: not reusing run \w+, changed: tiny_parts/__init__.py", changed.out)


def test_a_class_in_a_file_is_trained_and_what_it_imports_counts(tmp_path: Path, cli: Cli) -> None:
    install(tmp_path / "site")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "layers.py").write_text("SIDE = 3\n")
    (mine / "my_models.py").write_text("from layers import SIDE\n" + NETWORKS.replace("3, padding", "SIDE, padding"))
    train = ["train", "--dataset", "squares", "--epochs", "1", "--batch-size", "8"]
    named = [*train, "--model", "my_models:Tiny:width=2"]
    path = path_with(tmp_path / "site", mine)
    prepare = ["prepare", "--dataset", "squares"]
    prepared, first, again = run_all(tmp_path, [prepare, named, named], PYTHONPATH=path)
    assert (prepared.code, first.code, again.code) == (0, 0, 0), (prepared, first, again)
    assert "train: reusing" in again.out
    run_id = first.out.rsplit("train: run ", 1)[1].strip()
    (mine / "layers.py").write_text("SIDE = 1 + 2\n")
    (refused,) = run_all(tmp_path, [["evaluate", "--run-id", run_id]], PYTHONPATH=path)
    assert (refused.code, "--code my_models:Tiny" in refused.err) == (2, True), refused
    calls = [
        ["evaluate", "--run-id", run_id, "--code", "my_models:Tiny"],
        named,
        [*train, "--model", "my_models:Nothing"],
        [*train, "--model", "nothing:Tiny"],
        [*train, "--model", "my_models:SIDE"],
        [*train, "--model", "my_models:Tiny:depth=2"],
        ["evaluate", "--code", "my_models"],
    ]
    allowed, changed, *wrong = run_all(tmp_path, calls, PYTHONPATH=path)
    assert re.search(r"train: not reusing run \w+, changed: layers.py", changed.out)
    assert allowed.code == 0, allowed
    messages = ("has no attribute 'Nothing'", "No module named 'nothing'", "is not a class", "'depth' is not known")
    for result, message in zip(wrong, (*messages, "'my_models' is not of the form package.module:Class"), strict=True):
        assert (result.code, message in result.err) == (2, True), result
        assert len(result.err.splitlines()) == 1


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A path with a package that is broken in many ways beside one that is not."""
    site = install(tmp_path / "site")
    (site / "fails.py").write_text("raise ValueError('no\\nluck')")
    (site / "ends.py").write_text("import sys; sys.exit('bye')")
    (site / "odd.py").write_text(
        "import torch\n\n\nclass Odd(torch.nn.Module):\n    def __init__(self, channels, depth): ...\n\n\n"
        "class Crops(torch.nn.Module):\n    def __init__(self, channels):\n        super().__init__()\n"
        "        self.layer = torch.nn.Conv2d(channels, channels, 3)\n\n"
        "    def forward(self, images):\n        return self.layer(images)\n\n\n"
        "class Gray(torch.nn.Module):\n    def __init__(self, channels):\n        raise KeyError(channels)\n"
    )
    models = (
        "fails = fails:Net\nends = ends:Net\nunet = tiny_parts.networks:Tiny\nodd = odd:Odd\n"
        "crops = odd:Crops\ngray = odd:Gray\ntext = odd:__name__\nBad_Name = tiny_parts.networks:Tiny"
    )
    register(site, "broken-parts", {"models": models, "noises": "plain = builtins:int\nother = tiny_parts:Stripes"})
    register(site, "more-parts", {"models": "tiny = odd:Odd"})
    return path_with(site)


def test_what_is_broken_says_which_package_it_is(tmp_path: Path, broken: str) -> None:
    expected = {
        "fails": "the model 'fails' of the package broken-parts (fails:Net) cannot be imported: ValueError: no luck",
        "ends": "the model 'ends' of the package broken-parts (ends:Net) cannot be imported: SystemExit: bye",
        "unet": "the package broken-parts adds the model 'unet', and the pipeline has one of that name",
        "odd": "the constructor of Odd needs depth; give it a default",
        "text": "a str is neither a class nor",
        "crops": "--model: odd:Crops makes [1, 1, 17, 22] of an image of shape [1, 1, 19, 24]; it must keep the shape",
        "gray": "--model: odd:Gray cannot be made with channels=1: KeyError: 1",
        "Bad_Name": "whose name is not made of small letters, digits and '-'",
        "tiny": "the package more-parts and the package tiny-parts add the model 'tiny'; rename or uninstall",
    }
    tried = ("crops", "gray")  # where the fault is found in a training
    train = ["train", "--dataset", "squares", "--epochs", "1"]
    calls = [
        ["prepare", "--dataset", "squares"],
        *([*train, "--model", name] for name in expected),
        [*train, "--noise", "plain"],
        [*train, "--noise", "other"],
        ["models"],
        ["noises"],
        ["doctor"],
    ]
    prepared, *results, plain, other, models, noises, doctor = run_all(tmp_path, calls, PYTHONPATH=broken)
    assert prepared.code == 0, prepared
    for (name, message), result in zip(expected.items(), results, strict=True):
        _check_refused(result, message, 1 if name in tried else 2)
        assert result.err.count("broken-parts") <= 1  # said once
    _check_refused(plain, "it is not a dataclass derived from pipeline.noise.Noise", 2)
    _check_refused(other, "its class attribute name is 'stripes'; it must be 'other'", 2)
    assert (models.code, noises.code) == (0, 0), (models, noises)
    assert "resunet" in models.out
    assert expected["fails"] in models.out
    assert "stripes:strength=0.1" in noises.out
    assert doctor.code == 1
    for name, message in expected.items():
        assert (message in doctor.out) != (name in tried)


def _check_refused(result: Result, message: str, code: int) -> None:
    assert message in result.err, result
    assert (result.code, len(result.err.splitlines())) == (code, 1), result


def test_lists_show_them_without_torch(tmp_path: Path) -> None:
    site = install(tmp_path / "site")
    (site / "tiny_parts" / "networks.py").write_text("raise ValueError")
    blocked = "import sys; sys.modules['torch'] = sys.modules['mlflow'] = None; "
    said = {}
    for words in (["train", "--help"], ["noises"]):
        code = f"{blocked}from pipeline.cli.commands import main; main({words!r})"
        environment = {**os.environ, "PYTHONPATH": path_with(site)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        said[words[0]] = " ".join(done.stdout.split())
    for name in ("tiny", "stripes", "squares"):
        assert f"Added by installed packages: {name}." in said["train"]
    assert "stripes:strength=0.1 Every second row is brighter" in said["noises"]


def test_a_config_file_does_not_name_code(tmp_path: Path) -> None:
    (tmp_path / "canary.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    (tmp_path / "config.json").write_text(json.dumps({"model": "canary:Net"}))
    path = path_with(tmp_path)
    (done,) = run_all(tmp_path, [["train", "--config", "config.json"]], PYTHONPATH=path)
    _check_refused(done, "'canary:Net' is code, and is not imported because a config or a file says so", 2)
    assert not (tmp_path / "imported").exists()
    (done,) = run_all(tmp_path, [["train", "--config", "config.json", "--model", "canary:Net"]], PYTHONPATH=path)
    _check_refused(done, "module 'canary' has no attribute 'Net'", 2)
    assert (tmp_path / "imported").exists()
