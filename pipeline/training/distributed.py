"""Several processes that train one model, started by torchrun: each computes its share of every batch.

They do what one process would: all draw the same batches with the same noise, and each takes its part of them;
gradients (by torch's DistributedDataParallel), losses and the statistics of BatchNorm are those of the whole batch.
Process 0 alone has the run, the command line and the disk; the others get from it what to train.
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

_PATIENCE = timedelta(hours=1)  # with what the others do alone, as preparing data
_SIGNALS = signal.SIGINT, signal.SIGTERM
_GRACE = 20.0  # seconds that process 0 has to keep the state of the training after a signal


class Team:
    """The processes that train together, and this one's place among them; alone, all of it does nothing."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        self.has_begun = False  # to train

    def share(self, images: int) -> slice:
        """Which images of a batch of so many are this process's. Of fewer images than processes, some have none."""
        return slice(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of the values of all processes; `value` is changed."""
        if self.count > 1:
            distributed.all_reduce(value)
        return value

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with gradients that are the mean over the processes. Changes its BatchNorm layers."""
        if self.count == 1:
            return network
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = _BatchNormOfAll  # the same parameters, under the same names
        return DistributedDataParallel(network, forward_sync_buffers=False)

    def give(self, message: dict[str, Any]) -> None:
        """Send the other processes numbers, texts and tensors; {} sends them home."""
        if self.count == 1:
            return
        content = io.BytesIO()
        torch.save(message, content)
        data = torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8).to(_device())
        distributed.broadcast(torch.tensor(len(data), device=data.device), 0)
        distributed.broadcast(data, 0)
        self.has_begun = True

    def take(self) -> dict[str, Any]:
        """What process 0 gives."""
        size = torch.tensor(0, device=_device())
        distributed.broadcast(size, 0)
        data = torch.empty(int(size), dtype=torch.uint8, device=size.device)
        distributed.broadcast(data, 0)
        return torch.load(io.BytesIO(data.cpu().numpy().tobytes()), map_location="cpu", weights_only=True)


ALONE = Team(0, 1)


class LostError(PipelineError):
    """Another of the processes that train together is gone."""


@contextmanager
def join(device: torch.device) -> Iterator[Team]:
    """The processes of this training. Where process 0 ends without having given the others anything, they go home.

    Raises:
        LostError: another process is gone.
    """
    if launcher.count() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    members = Team(launcher.rank(), launcher.count())
    try:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        yield members
        if members.rank == 0 and not members.has_begun:
            members.give({})
    except RuntimeError as error:  # what torch raises when a connection is lost
        if not _is_lost_connection(error):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun is about to send it, to who is left
        raise LostError(f"another of the {members.count} processes of this training is gone") from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def end_at_signals() -> None:
    """At once, also while waiting for process 0, which Python's own handlers would wait for, too."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def leave_signals_to_process_0() -> None:
    """Go on after a signal, until process 0 has kept the state and is gone; but not for ever."""

    def later(number: int, _: object) -> None:
        timer = threading.Timer(_GRACE, os._exit, [128 + number])
        timer.daemon = True
        timer.start()

    for number in _SIGNALS:
        signal.signal(number, later)


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _is_lost_connection(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or "gloo" in str(error) or "Connection" in str(error)


class _BatchNormOfAll(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes; torch's own SyncBatchNorm is for GPUs only."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(images)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        normed, mean, variance, pixels = _Normalise.apply(images.float(), self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (pixels / (pixels - 1)), self.momentum)
        return normed.to(images.dtype)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, x [N, C, H, W], with mean and variance over N, H, W.

    Sums over N, H and W go over all processes: one exchange each way. The gradient is that of Ioffe and Szegedy 2015.
    """

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> Any:
        pixels = images.new_tensor([images.numel() / len(weight)])
        sums = torch.cat([images.sum(_PIXELS), (images * images).sum(_PIXELS), pixels]).double()
        distributed.all_reduce(sums)
        pixels = sums[-1]
        mean, square = (sums[:-1] / pixels).chunk(2)
        variance = square - mean * mean
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(images, weight, mean, scale, pixels)
        ctx.mark_non_differentiable(mean, variance, pixels)
        factor = weight * scale
        return _linear(factor, images, bias - factor * mean), mean.float(), variance.float(), pixels

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> Any:
        images, weight, mean, scale, pixels = ctx.saved_tensors
        of_bias = gradient.sum(_PIXELS).double()
        of_weight = scale * ((gradient * images).sum(_PIXELS) - mean * of_bias)
        sums = torch.cat([of_bias, of_weight])
        distributed.all_reduce(sums)
        mean_of_bias, mean_of_weight = (sums / pixels).chunk(2)
        # weight * scale * (gradient - mean_of_bias - normed * mean_of_weight), where normed is linear in the images
        factor = weight * scale
        slope = -factor * scale * mean_of_weight
        of_images = _linear(factor, gradient, -factor * mean_of_bias - slope * mean)
        of_images.addcmul_(images, _spread(slope))
        return of_images, of_weight.float(), of_bias.float(), None


_PIXELS = (0, 2, 3)


def _spread(values: torch.Tensor) -> torch.Tensor:
    return values.float()[None, :, None, None]


def _linear(factor: torch.Tensor, images: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """factor * images + offset, with a factor and an offset for each channel."""
    return torch.addcmul(_spread(offset), images, _spread(factor))
