"""Records name files in their own folder; what others have written into them is not sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import inside
from pipeline.tracking.event_log import Event
from pipeline.tracking.spool import RefusedError
from pipeline.tracking.to_mlflow import send


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file, a link to one outside, and a link in a folder."""
    folder = tmp_path / "run"
    (folder / "files" / "000001").mkdir(parents=True)
    (folder / "file").write_text("own")
    (tmp_path / "outside").write_text("secret")
    (folder / "link").symlink_to("../outside")
    (folder / "files" / "000001" / "link").symlink_to(tmp_path / "outside")
    return folder


def test_a_path_inside_is_one_without_links_on_the_way(folder: Path) -> None:
    assert inside(folder, "file") == folder / "file"
    assert inside(folder, "files/./new") == folder / "files" / "new"
    linked = folder.parent / "linked"
    linked.symlink_to(folder)
    assert inside(linked, "file") == linked / "file"  # where the folder is, is its owner's business
    for name in ("", ".", "/etc/hostname", "../outside", "files/../../outside", "link", "files/000001/link/x", "a\0b"):
        with pytest.raises(PipelineError):
            inside(folder, name)


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside", "link", "files/000001"])
def test_what_a_record_names_outside_is_not_sent(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.tracking.to_mlflow.connect", lambda: pytest.fail("it was sent"))
    model = {"metadata": {"sha256": ""}, "loader": "x.py", "extra_files": []}
    records: list[Event] = [{"kind": "artifact", "file": name, "path": ""}]
    if name != "files/000001":
        records.append({"kind": "model", "folder": name, **model})
    for record in records:
        with pytest.raises(RefusedError, match="a record is damaged: "):
            send("0" * 32, folder, [record])
