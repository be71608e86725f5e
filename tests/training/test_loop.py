"""The trainer: the same seed gives the same weights, the best epoch is kept, and a resumed training is the same one."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from pipeline.data.batches import RandomCrops, WholeImages, validation_batch
from pipeline.data.images import Part
from pipeline.errors import PipelineError
from pipeline.models import Recipe, build_model
from pipeline.noise import make_noise
from pipeline.scoring.metrics import METRICS
from pipeline.scoring.score import clipped, model_denoiser, score
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Best, Epoch, Observer, Point, Position, Trainer, Validation

NOISE = make_noise("gaussian", "0.01")


@pytest.fixture
def images(digits: np.ndarray) -> Part:
    return Part(digits[:300, np.newaxis])


def trainer(images: Part, model: str = "autoencoder", seed: int = 0, **options: Any) -> Trainer:
    """A trainer on 200 digits, or on crops of them; the other options are those of the trainer or of its recipe."""
    torch.manual_seed(seed)
    options = {"batch_size": 16, "loss": "mse", "precision": "float32", "lr": 0.02, **options}
    own: dict[str, Any] = {key: options.pop(key) for key in ("target", "compiled") if key in options}
    epochs, crop = options.pop("epochs", 2), options.pop("crop", 0)
    batches = RandomCrops(images[:200], crop) if crop else WholeImages(images[:200])
    validation = validation_batch(images[200:], 0, 100, torch.device("cpu"))
    return Trainer(build_model(model), batches, validation, NOISE, Recipe(**options), epochs, seed=seed, **own)


class Recorder(Observer):
    """Keeps everything, with the state after every step."""

    def __init__(self) -> None:
        self.positions: list[Position] = []
        self.points: list[Point] = []
        self.epochs: list[Epoch] = []
        self.states: list[dict[str, Any]] = []

    def progress(self, position: Position) -> None:
        self.positions.append(position)

    def point(self, point: Point) -> None:
        self.points.append(point)

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def wants_state(self) -> bool:
        return True

    def state(self, state: dict[str, Any]) -> None:
        self.states.append(copy.deepcopy(state))


def checkpoint(best: Best) -> Checkpoint:
    return Checkpoint("autoencoder", "", 1, best.epoch, best.validation_loss, best.state_dict)


def test_the_same_seed_gives_the_same_weights(images: Part) -> None:
    first, second, other = (checkpoint(trainer(images, seed=seed).run().best).digest for seed in (0, 0, 1))
    assert first == second
    assert first != other


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss(
    images: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    penalties = iter([1, 0, 2, 3])
    validate = Trainer.validate

    def penalized(trainer: Trainer) -> Validation:
        found = validate(trainer)
        return replace(found, loss=found.loss + next(penalties))

    monkeypatch.setattr(Trainer, "validate", penalized)
    seen = Recorder()
    trained = trainer(images, epochs=4).run(seen)
    assert trained.best.epoch == 2
    assert trained.best.validation_loss == min(epoch.validation_loss for epoch in trained.epochs)
    assert [epoch.is_best for epoch in trained.epochs] == [True, True, False, False]

    # The weights are those at the end of that epoch, and have its loss.
    (then,) = (state["model"] for state in seen.states if (state["epoch"], state["seen"]) == (3, 0))
    assert all(torch.equal(value, then[name]) for name, value in trained.best.state_dict.items())
    model = checkpoint(trained.best).load_model(torch.device("cpu"))
    scores = score(images[200:], NOISE, {"model": model_denoiser(model, torch.device("cpu"))}, METRICS)
    # Other noise, the same images.
    assert scores["model"]["mse"].mean() == pytest.approx(trained.best.validation_loss, rel=0.05)


def test_a_long_training_validates_about_fifty_times(images: Part) -> None:
    seen = Recorder()
    trained = trainer(images[:240], epochs=120, batch_size=200).run(seen)
    assert [epoch.epoch for epoch in trained.epochs] == [*range(2, 121, 2)]
    assert [point.images for point in trained.points] == [epoch.images for epoch in trained.epochs]
    assert trained.epochs[-1].images == 120 * 200
    # A state after every validated epoch, and the one between where it is asked for.
    assert {state["epoch"] for state in seen.states if state["seen"] == 0} == {*range(3, 122, 2)}


def test_the_noisy_target_learns_to_copy_the_noise(images: Part) -> None:
    """The mistake of the course page: the loss against the noisy image never falls to that against a clean one."""
    clean, noisy = (trainer(images, epochs=6, target=target).run().best for target in ("clean", "noisy"))
    assert noisy.validation_loss > clean.validation_loss


def test_a_compiled_network_trains_the_same(images: Part) -> None:
    counters.clear()
    # Batches of one size: a smaller one at the end would be compiled anew, which takes half a minute.
    plain = trainer(images, epochs=1, batch_size=20).run()
    assert not counters["stats"]["unique_graphs"]
    compiled = trainer(images, epochs=1, batch_size=20, compiled=True).run()
    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert compiled.best.state_dict.keys() == plain.best.state_dict.keys()
    assert compiled.best.validation_loss == pytest.approx(plain.best.validation_loss, rel=0.05)


def test_the_average_of_the_weights_is_what_is_kept(images: Part) -> None:
    """Computed here from the weights after every step."""
    training = trainer(images, ema=0.9, epochs=1)
    steps: list[dict[str, torch.Tensor]] = []

    def remember() -> None:
        steps.append({name: tensor.detach().clone() for name, tensor in training.model.named_parameters()})

    class Weights(Observer):
        def wants_state(self) -> bool:  # after every step but the last
            remember()
            return False

    kept = training.run(Weights()).best.state_dict
    remember()
    average = steps[0]
    for step, weights in enumerate(steps[1:], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in average}
    for name, tensor in average.items():
        assert torch.allclose(kept[name], tensor, atol=1e-6), name
        assert not torch.equal(tensor, training.model.state_dict()[name])
    assert training.validate().loss == pytest.approx(training.run().best.validation_loss)


def test_an_average_that_remembers_more_than_the_training_is_of_trained_weights(images: Part) -> None:
    plain, averaged = (trainer(images, ema=ema, epochs=6).run().best.validation_loss for ema in (0, 0.9999))
    untrained = trainer(images).validate().loss
    assert averaged < (plain + untrained) / 2, (plain, averaged, untrained)


def test_a_diverging_training_says_where(images: Part) -> None:
    with pytest.raises(PipelineError, match=r"training diverged: the \w+ loss is (nan|inf) in epoch 1 after [\d,]+ im"):
        trainer(images, lr=1e30).run()


def test_an_observer_sees_what_the_result_holds(images: Part) -> None:
    seen = Recorder()
    trained = trainer(images, epochs=2).run(seen)
    assert (seen.points, seen.epochs) == (trained.points, trained.epochs)
    assert [epoch.images for epoch in seen.epochs] == [200, 400]
    # Five points per epoch of 13 steps of 16 images, the last one of 8.
    assert [point.images for point in seen.points] == [32, 80, 112, 160, 200, 232, 280, 312, 360, 400]
    assert {point.images for point in seen.points} <= {(at.epoch - 1) * 200 + at.images for at in seen.positions}
    assert len(seen.states) == 2 * 13
    assert [(state["epoch"], state["seen"]) for state in seen.states[11:14]] == [(1, 192), (2, 0), (2, 16)]
    # The mean of the points, weighted by their images, is that of the epoch.
    images_of = np.diff([0, *(point.images for point in seen.points[:5])])
    losses = [point.loss for point in seen.points[:5]]
    assert np.average(losses, weights=images_of) == pytest.approx(seen.epochs[0].train_loss)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("autoencoder", {"optimizer": "soap", "beta2": 0.9}),
        ("resunet:width=4", {"optimizer": "adam", "loss": "psnr", "target": "self"}),
        ("dncnn:depth=3,width=4", {"crop": 20, "ema": 0.9}),
    ],
)
def test_from_any_state_it_ends_with_the_same_weights(model: str, options: dict[str, Any], images: Part) -> None:
    seen = Recorder()
    whole = trainer(images, model, batch_size=80, **options).run(seen)
    assert len(seen.states) >= 6
    for state in seen.states:
        resumed = trainer(images, model, batch_size=80, **options)
        resumed.load_state_dict(state)
        trained = resumed.run()
        assert checkpoint(trained.best).digest == checkpoint(whole.best).digest
        assert trained.points == whole.points
        losses = [[(epoch.train_loss, epoch.validation_loss) for epoch in one.epochs] for one in (trained, whole)]
        assert losses[0] == losses[1]


def test_after_an_observer_stops_it_the_trainer_can_go_on(images: Part) -> None:
    class Stopper(Observer):
        def wants_state(self) -> bool:
            return True

        def state(self, state: dict[str, Any]) -> None:
            if (state["epoch"], state["seen"]) == (2, 64):
                raise KeyboardInterrupt

    stopped = trainer(images)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(Stopper())
    assert checkpoint(stopped.run().best).digest == checkpoint(trainer(images).run().best).digest


@pytest.mark.parametrize("target", ["clean", "noisy", "noisy2noisy", "self", "sure", "r2r"])
def test_the_validation_psnr_is_that_of_the_test_whatever_is_minimised(
    target: str, images: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the clipped output for images with the noise of the training, not with more, as the inputs of `r2r` have."""
    monkeypatch.setattr(Trainer, "result", property(lambda _: lambda noisy: noisy))
    found = trainer(images, target=target).validate().psnr
    wanted = score(images[200:], NOISE, {"clipped": clipped}, {"psnr": METRICS["psnr"]})["clipped"]["psnr"]
    assert found == pytest.approx(wanted.mean(), abs=0.2)  # the noise is another draw
