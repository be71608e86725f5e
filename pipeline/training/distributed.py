"""Several processes that train one model, started by torchrun: each computes its share of every batch.

Together they do what one process would: all draw the same batches with the same noise, and each takes its share;
gradients (by torch's DistributedDataParallel), losses and, on GPUs, the statistics of BatchNorm (by torch's
SyncBatchNorm) are those of the whole batch. Only process 0 has the run, the command line and the disk; the others
receive from it what to train.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline import launcher
from pipeline.errors import PipelineError
from pipeline.models import batch_norms

_TIMEOUT = timedelta(hours=1)  # for what one process does while the others wait, such as preparing data
_SIGNALS = signal.SIGINT, signal.SIGTERM
_GRACE = 20.0  # seconds that process 0 has to save the state of the training after a signal


class Team:
    """The processes that train together, and this one's place among them. Of one process, every method does nothing."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self.has_started = False  # process 0 has sent the others what to train

    def share(self, images: int) -> slice:
        """This process's share of a batch of `images`. Empty for some, if there are fewer images than processes."""
        return slice(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of `value` over all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def wrap(self, model: nn.Module, compiled: bool) -> nn.Module:
        """The network to train: it has the weights of `model`, and averages gradients over all processes.

        Changes the BatchNorm layers of `model`, not their names.
        """
        if self.count > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # in place
        network: nn.Module = torch.compile(model) if compiled else model  # type: ignore[assignment]
        return DistributedDataParallel(network, forward_sync_buffers=False) if self.count > 1 else network

    def send(self, message: dict[str, Any]) -> None:
        """Send the other processes numbers, texts and tensors; {} tells them to end."""
        if self.count == 1:
            return
        content = io.BytesIO()
        torch.save(message, content)
        data = torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8).to(_device())
        distributed.broadcast(torch.tensor(len(data), device=data.device), 0)
        distributed.broadcast(data, 0)
        self.has_started = True

    def receive(self) -> dict[str, Any]:
        """The message that process 0 sends."""
        size = torch.tensor(0, device=_device())
        distributed.broadcast(size, 0)
        data = torch.empty(int(size), dtype=torch.uint8, device=size.device)
        distributed.broadcast(data, 0)
        return torch.load(io.BytesIO(data.cpu().numpy().tobytes()), map_location="cpu", weights_only=True)


ALONE = Team(0, 1)


class LostError(PipelineError):
    """Another of the processes that train together has ended."""


def check_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Check that several processes can train `model` on `device`.

    Raises:
        PipelineError: the model has BatchNorm, and the device is not a GPU: torch's SyncBatchNorm needs one.
    """
    if batch_norms(model) and device.type != "cuda":
        raise PipelineError(
            "several processes can train this model on GPUs only, because it has BatchNorm; on CPUs, start one process "
            "or choose a model without BatchNorm, such as --model resunet"
        )


@contextmanager
def join(device: torch.device) -> Iterator[Team]:
    """The processes of this training. If process 0 leaves without having sent anything, it tells the others to end.

    Raises:
        LostError: another process has ended.
    """
    if launcher.count() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    team = Team(launcher.rank(), launcher.count())
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
        yield team
        if team.rank == 0 and not team.has_started:
            team.send({})
    except RuntimeError as error:  # what torch raises when a connection is lost
        if not _is_lost_connection(error):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun is about to send it to the processes that are left
        raise LostError(f"another of the {team.count} processes of this training has ended") from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def end_at_signals() -> None:
    """End at once at a signal, also while waiting for process 0: Python's own handlers would wait with it."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def leave_signals_to_process_0() -> None:
    """Continue after a signal until process 0 has saved the state and left, but not for longer than `_GRACE`."""

    def end_later(number: int, _: object) -> None:
        timer = threading.Timer(_GRACE, os._exit, [128 + number])
        timer.daemon = True
        timer.start()

    for number in _SIGNALS:
        signal.signal(number, end_later)


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or "gloo" in str(error) or "Connection" in str(error)
