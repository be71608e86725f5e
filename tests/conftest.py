"""What the tests share: the real command line, real digits, and one small run that many tests look at."""

from __future__ import annotations

import compileall
import getpass
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import once  # noqa: F401  # for the stores that tests make themselves
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from PIL import Image
from server import free_port
from warm import SLOW, forkserver, run_forked

from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.denoising.familiarity import ADVICE
from pipeline.files import sha256_file
from pipeline.tracking import names

HANG = 1800  # seconds after which a process counts as hung: limits are not there to time work
PROJECT = Path(__file__).parent.parent
# The losses of a training by the default options.
TRAIN_LOSS, VALIDATION_LOSS, BEST_LOSS = (
    names.loss_metric(of, {}) for of in (names.TRAIN, names.VALIDATION, names.BEST)
)

# Several tests run at once, one thread each: more threads than cores make torch ten times slower, not faster.
os.environ["OMP_NUM_THREADS"] = "1"

# Where PYTHONDONTWRITEBYTECODE is set, every process would compile all modules again.
compileall.compile_dir(PROJECT / "pipeline", quiet=2)

# Whoever was started in the background of a script ignores Ctrl-C (under `nohup` SIGHUP, too), and so would every
# process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A test must not write to the store of whoever runs it, nor to the run of an `mlflow run` around it.
for variable in [name for name in os.environ if name.startswith("MLFLOW_")]:
    del os.environ[variable]


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def environment(**variables: str) -> dict[str, str]:
    """In which `python -m pipeline` is this one."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), **variables}


def run_cli(*arguments: object, cwd: Path, **variables: str) -> Result:
    """Run `python -m pipeline` in a process of its own."""
    return run_module("pipeline", arguments, cwd, environment(**variables))


forkserver.set_forkserver_preload([*SLOW, "ahead"])


def start(function: Callable[..., object], *arguments: object) -> ForkServerProcess:
    """A process that is forked from one with the slow imports, and what `ahead` makes, behind it."""
    process = forkserver.Process(target=function, args=arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # that one does not find `ahead` elsewhere
        process.start()
    return process


def run_module(module: str, arguments: Iterable[object], cwd: Path, environment: dict[str, str]) -> Result:
    """Run `python -m module` in a process of its own, which need not import torch and MLflow: that takes seconds."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        process = start(run_forked, module, words, cwd, environment, folder)
        process.join(HANG)
        if process.is_alive():
            process.kill()
            raise TimeoutError(words)
        out, err = ((Path(folder) / name).read_bytes().decode() for name in ("out", "err"))
    assert process.exitcode is not None
    return Result(process.exitcode, out, err)


def without(modules: tuple[str, ...], *arguments: object) -> Result:
    """`python -m pipeline` where the modules cannot be imported."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in modules)
    code = f"import sys; {blocked}from pipeline.cli.commands import main; main({[str(word) for word in arguments]!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`python -m pipeline` in an empty folder."""

    def run(*arguments: object, cwd: Path = tmp_path, **variables: str) -> Result:
        return run_cli(*arguments, cwd=cwd, **variables)

    return run


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """The 10,000 real test digits, uint8 [N, 28, 28]."""
    return BundledMNIST().images()[1][:, 0].copy()


def without_advice(err: str) -> str:
    """What a command said, less the warnings of pictures that a model for digits does not know."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.endswith(f"{ADVICE}\n"))


def write_digits(folder: Path, digits: np.ndarray) -> Path:
    """A folder with each digit as a PNG file."""
    folder.mkdir(parents=True)
    for index, digit in enumerate(digits):
        Image.fromarray(digit).save(folder / f"{index:04}.png")
    return folder


def write_sums(folder: Path) -> None:
    """Make SHA256SUMS what it would be, had the hand-off been written as it is now."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names.remove("SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))


def _states(folder: Path) -> set[Path]:
    """The states of trainings in `folder`, which come and go."""
    try:
        return set((folder / "data" / "runs").glob("*/states/*.pt"))
    except FileNotFoundError:
        return set()


def kill_while_training(folder: Path, *arguments: str, seconds: float, number: signal.Signals = signal.SIGKILL) -> int:
    """Start a training, kill it so many seconds after its first epoch began, and return its exit code."""
    before = _states(folder)
    with tempfile.TemporaryDirectory() as said:
        process = start(run_forked, "pipeline", list(arguments), folder, environment(), said)
        while process.is_alive() and _states(folder) <= before:
            time.sleep(0.02)
        time.sleep(seconds)
        assert process.pid
        os.kill(process.pid, number)
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def check_curve(client: MlflowClient, run_id: str, epochs: int) -> list[int]:
    """The learning curve is there in order, no point lost, none twice; returns after how many images each point is."""
    steps = {
        name: [entry.step for entry in client.get_metric_history(run_id, name)]
        for name in (TRAIN_LOSS, names.LEARNING_RATE, VALIDATION_LOSS, names.VALIDATION_PSNR, names.IMAGES_PER_SECOND)
    }
    ends, curve = steps[VALIDATION_LOSS], steps[TRAIN_LOSS]
    assert (
        ends
        == steps[names.VALIDATION_PSNR]
        == steps[names.IMAGES_PER_SECOND]
        == [number * ends[0] for number in range(1, epochs + 1)]
    )
    an_epoch = -(-10 // epochs)
    assert curve == steps[names.LEARNING_RATE] == sorted(set(curve))
    assert len(curve) == an_epoch * epochs
    assert curve[an_epoch - 1 :: an_epoch] == ends
    return curve


@dataclass(frozen=True)
class Trained:
    """A folder in which `run` was run on a few hundred digits."""

    cwd: Path
    run_id: str
    handoff: Path
    out: str

    @property
    def store(self) -> str:
        return f"sqlite:///{self.cwd / 'mlflow.db'}"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: np.ndarray, worker_id: str) -> Trained:
    """One real `run`: 3,000 digits as PNG files, six epochs, all variants, registered. Tests must leave it as it is."""
    # One for all processes that run tests: the first makes it, the others wait.
    base = tmp_path_factory.getbasetemp()
    cwd = (base if worker_id == "master" else base.parent) / "trained"
    with FileLock(f"{cwd}.lock"):
        if not (cwd / "out").exists():
            write_digits(cwd / "digits", digits[:3000])
            # An absolute path, which must not get into the hand-off.
            options = ["--dataset", cwd / "digits", "--epochs", 6, "--batch-size", 16, "--name", "small"]
            done = run_cli("run", *options, "--variant", "uint8,int8,fp16", "--register", "digits", cwd=cwd)
            assert (done.code, done.err) == (0, ""), done
            (cwd / "out").write_text(done.out)
    out = (cwd / "out").read_text()
    return Trained(cwd, out.rsplit("run: ", 1)[1].split(";")[0], cwd / "artifacts" / "small", out)


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the database `postgres` on a fresh PostgreSQL server."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("not run: PostgreSQL is not installed")
    pytest.importorskip("psycopg2", reason="not run: psycopg2 is not installed")
    folder, port = tmp_path_factory.mktemp("postgresql"), free_port()
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    prefix = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []
    if prefix:
        for path in (folder, *folder.parents):
            if path.owner() == "root" and path != Path("/") and str(path).startswith("/tmp/pytest"):
                path.chmod(0o755)
        shutil.chown(folder, user)

    def run(command: str, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        words = [*prefix, str(binaries[-1] / command), "-D", str(folder / "data"), *arguments]
        done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode in codes, done.stdout
        return done.stdout

    run("initdb", "-A", "trust", "-U", user)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg2://{user}@127.0.0.1:{port}/postgres"
    finally:
        said = run("pg_ctl", "-m", "immediate", "stop", codes=(0, 1))  # under load, 1 once: it may end meanwhile
        assert "no server running" in run("pg_ctl", "status", codes=(0, 3)), said


@contextmanager
def terminal(width: int) -> Iterator[None]:
    """Inside, stdout is a terminal."""
    master, slave = os.openpty()
    with os.fdopen(master, "rb"), os.fdopen(slave, "w") as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        patch.setenv("COLUMNS", str(width))
        yield


@pytest.fixture
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver_program):
        pytest.skip("not run: no chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    try:
        yield driver
    finally:
        driver.quit()


def wait_for(browser: Any, condition: str) -> None:
    """Until an expression in JavaScript is true in the page."""
    for _ in range(150):
        if browser.execute_script(f"return Boolean({condition})"):
            return
        time.sleep(0.2)
    raise AssertionError(f"{condition} did not come true: {browser.find_element('tag name', 'body').text}")
