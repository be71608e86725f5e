"""ui: the MLflow UI for the nearest store, in a real browser, open to this machine only."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import mlflow
import numpy as np
import pytest
from calls import run_all
from conftest import BEST_LOSS, Cli, Trained, environment, wait_for, write_digits
from server import free_port

from pipeline.tracking import names

VARIANCES = ("0.001", "0.01", "0.1")
# For the pictures in the README: a folder for them, and one with a store of three runs of MNIST.
PICTURES, RUNS = os.environ.get("UI_PICTURES"), os.environ.get("UI_RUNS")


@pytest.fixture
def folder(tmp_path: Path, digits: np.ndarray) -> Path:
    """A folder with a store of three runs."""
    if RUNS:
        return Path(RUNS)
    write_digits(tmp_path / "digits", digits[:120])
    run = ("run", "--dataset", "digits", "--epochs", "1", "--batch-size", "16", "--allow-worse", "--variance")
    done = run_all(tmp_path, [(*run, variance) for variance in VARIANCES])
    assert [one.code for one in done] == [0, 0, 0], done
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """The address that `ui` prints when it is started in a folder below the store."""
    below = folder / "artifacts"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "ui", "--port", str(free_port())],
        cwd=below,
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"ui: the store is sqlite:///{folder / 'mlflow.db'}\n"
        found = re.search(r"http://127.0.0.1:\d+/\S*", process.stdout.readline())
        assert found
        yield found[0]
        process.terminate()
        assert "ui: stopped" in process.stdout.read()
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()


def click(browser: Any, element: str) -> None:
    wait_for(browser, element)
    browser.execute_script(f"({element}).click()")


def picture(browser: Any, name: str) -> None:
    # MLflow's panel of an assistant, which needs a language model, takes a quarter of the window.
    browser.execute_script("[...document.querySelectorAll('[aria-label=Close]')].forEach((button) => button.click())")
    if PICTURES:
        wait_for(browser, "!document.body.innerText.includes('Ask a question')")
        browser.save_screenshot(f"{PICTURES}/{name}.png")


def scroll_to(browser: Any, text: str, start: str) -> None:
    """Turn the mouse wheel over the list with the text `start`: a long one holds only what is in sight."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    element = browser.find_element("xpath", f"//*[text()='{start}']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    time.sleep(1)
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", element)
    over = ScrollOrigin.from_viewport(800, int(top) + 5)  # the values: the names follow them
    for _ in range(60):
        if browser.find_elements("xpath", f"//*[text()='{text}']"):
            return
        ActionChains(browser).scroll_from_origin(over, 0, 45).perform()
        time.sleep(0.2)
    raise AssertionError(f"{text} is not there")


def wait_until_served(address: str) -> None:
    for _ in range(300):
        with suppress(OSError), urlopen(address):
            return
        time.sleep(0.2)
    raise AssertionError(f"no answer from {address}")


def test_runs_are_ticked_and_compared(address: str, browser: Any, folder: Path) -> None:
    browser.set_window_size(1400, 900)
    server = address.partition("#")[0]
    wait_until_served(server)
    browser.get(address)
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    client.set_terminated(client.create_run("0", run_name="compare-3-runs").info.run_id)
    runs = client.search_runs(["0"], f"tags.{names.NOISE} != ''")
    assert len(runs) == 3
    titles = [str(run.info.run_name) for run in runs]
    assert [re.sub(".*-var(.*)-seed0", r"\1", name) for name in titles] == [*reversed(VARIANCES)]

    # The table of the runs: no question what the experiment is for, and names that say what they are.
    text = "document.body.innerText"
    wait_for(browser, f"{titles!r}.every((name) => {text}.includes(name))")
    assert "viewStateShareKey" in address
    for column in ("test/psnr", "test/psnr_gain", names.MODEL):
        wait_for(
            browser, f"[...document.querySelectorAll('[role=columnheader]')].some((e) => e.innerText === '{column}')"
        )
    assert "compare-3-runs" not in browser.execute_script(f"return {text}")
    assert "Model training" in browser.execute_script(f"return {text}")
    assert not browser.execute_script(f"return {text}.includes('Observability')")  # for language models
    click(browser, "document.querySelector('[aria-label=\"Select all runs\"]')")
    compare = "[...document.querySelectorAll('button')].find((button) => button.innerText === 'Compare')"
    wait_for(browser, compare)
    picture(browser, "mlflow_runs")
    click(browser, compare)

    # Side by side.
    wait_for(browser, f"{text}.includes('Comparing 3 Runs')")
    time.sleep(1)  # the plot moves into its place
    picture(browser, "mlflow_compare")
    shown = browser.execute_script(f"return {text}")
    assert re.search(r"^variance\s+0\.1\s+0\.01\s+0\.001$", shown, re.MULTILINE), shown
    for name in (*titles, BEST_LOSS, names.MILLISECONDS, "batch_size"):
        assert name in shown
    scroll_to(browser, names.noise_metric("psnr", "0.1"), BEST_LOSS)

    # One of them.
    browser.get(f"{server}#/experiments/0/runs/{runs[0].info.run_id}?workflowType=machine_learning")
    dataset = f"{runs[0].data.tags['dataset']}-train"
    for said in ("parameters", "dB PSNR", dataset, "denoiser"):
        wait_for(browser, f"{text}.includes({said!r})")


def test_a_port_that_is_taken(trained: Trained, cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli("ui", "--port", port, MLFLOW_TRACKING_URI=trained.store)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert f"cannot serve on 127.0.0.1, port {port}: Address already in use" in done.err


def test_no_store_and_a_server(cli: Cli, tmp_path: Path) -> None:
    done = cli("ui")
    assert done.code == 1
    assert done.err.startswith(f"Error: no mlflow.db in {tmp_path} or any folder above it;")
    done = cli("ui", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.code, done.out) == (0, "ui: the store is a server, with its UI at http://127.0.0.1:9\n")
