"""Stage 4, export: write the best epoch of a run as ONNX, prove it, pack the hand-off folder, log and register it."""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline import verification
from pipeline.config import Config
from pipeline.data.prepared import PreparedData
from pipeline.denoising.familiarity import Limits
from pipeline.errors import ParityError, PipelineError, QualityError
from pipeline.files import new_folder, read_json, sha256_bytes, sha256_file
from pipeline.handoff import mlflow_loader
from pipeline.handoff.card import TEMPLATES
from pipeline.handoff.description import Description
from pipeline.handoff.folder import FILES, Examples, make_examples, pack
from pipeline.handoff.parity import LOGGED, MAX_ABS, Report, real_probes
from pipeline.handoff.proof import Proof, check_packed, prove
from pipeline.handoff.report import CAPTIONS, run_report
from pipeline.handoff.variants import VariantFile
from pipeline.models import added_modules, count_parameters, other_modules
from pipeline.models.facts import halo
from pipeline.noise import added_modules as added_noises
from pipeline.reports import rendering
from pipeline.scoring.quality import Quality, Wanted
from pipeline.stages.inputs import load_checkpoint, load_training_data, read_evaluation
from pipeline.text import say
from pipeline.tracking import endings, names, queries, registry, scores
from pipeline.tracking.fingerprint import Fingerprint, digest, fingerprint
from pipeline.tracking.run import OpenRun
from pipeline.training.checkpoint import Checkpoint
from pipeline.verification.folder import MANIFEST, MODEL, SUMS, verify
from pipeline.verification.forms import FORMS

# What it takes to load the logged model in MLflow, and to serve it.
_SERVING = ("mlflow-skinny", "pandas", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class _Inputs:
    """What the hand-off is made from."""

    config: Config
    run_id: str
    commit: str | None  # git commit of the source that trained the model
    data: PreparedData
    checkpoint: Checkpoint
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]  # {label of the noise: {denoiser: {metric: mean}}}
    logged: Mapping[str, float]  # of them, what the model has with the training noise


def export(
    config: Config,
    run: OpenRun,
    folder: Path,
    variants: Sequence[str] = (),
    register: str = "",
    wanted: Wanted = Wanted(),  # noqa: B008 frozen
    force: bool = False,
) -> Path:
    """Write the hand-off of `run` to `folder`, completely or not at all, log it to `run`, and return `folder`.

    A hand-off that is there already, complete, and made from the same inputs by the same source, is reused.

    Args:
        config: of the run.
        run: the evaluated run; the hand-off is logged to it.
        folder: of the hand-off; one that is there is replaced.
        variants: other forms of the file to hand off as well, keys of `pipeline.handoff.variants.VARIANTS`.
        register: name of the registered model that it becomes a version of; "" for none.
        wanted: what the model must be; a hand-off that is in `folder` already stays if this one is not.
        force: export again even if no input changed.

    Raises:
        QualityError: the model is not as good as wanted. Nothing is written or registered.
        ParityError: a file did not pass a gate. The report is logged to the run; nothing is written or registered.
        PipelineError: the run was not evaluated, its data are not prepared, `folder` holds something else, or the
            registry did not take the model.
    """
    if folder.exists() and not (folder / SUMS).is_file():
        raise PipelineError(f"{folder} exists and is not a hand-off folder; choose another --name or --artifacts-dir")
    inputs = _read(config, run)
    check_variants(variants, inputs.data)
    _check_quality(inputs, wanted)
    parts = _fingerprint(inputs, variants)
    model_id, former = run.tag(names.MODEL_ID), run_of(folder)
    is_done = not force and run.is_done("export", parts)
    if is_done and _is_whole(folder, digest(parts)) and (model_id or not register):
        say(f"export: reusing {folder}, verified")
    elif is_done and _take_logged(run, folder, digest(parts)):
        model_id = run.model_id()
        say(f"export: {folder}: what run {run.id} has logged, verified")
    else:
        model = inputs.checkpoint.load_model(torch.device("cpu"))
        description = _describe(inputs, model, digest(parts), folder.name)
        with new_folder(folder) as new:
            proof = prove(new, model, description, inputs.data, inputs.logged, variants)
            if proof.report.failures:
                raise _rejected(run, proof.report)
            examples = make_examples(model, inputs.data.test, config.training_noise)
            pack(new, description, proof, examples)
            _check_packed(new, proof)
            model_id = _log(run, new, description, proof, examples, parts)
        _print(folder, proof, config.training_noise.label)
    _say_replaced(folder, former, run.id)
    if register:
        _register(inputs, model_id, register, sha256_file(folder / MODEL), run.facts()["parameters"])
    endings.take_back(run)
    if (text := _with_hand_off(run, folder.name)) != run.tag(names.NOTE):
        run.describe(text)
    return folder


def is_done(config: Config, run: OpenRun, folder: Path, variants: Sequence[str]) -> bool:
    """Whether `export` would reuse what is in `folder`; says what has changed if not."""
    parts = _fingerprint(_read(config, run), variants)
    return run.is_done("export", parts) and _is_whole(folder, digest(parts))


def run_of(folder: Path) -> str:
    """The ID of the run whose hand-off is in `folder`; "" if there is none."""
    try:
        return str(read_json(folder / MANIFEST).get("mlflow_run_id", ""))
    except PipelineError:
        return ""


def _say_replaced(folder: Path, former: str, run_id: str) -> None:
    """Say whose hand-off was in the place of that of the run `run_id`, if it was another run's."""
    if former not in ("", run_id):
        say(f"export: {folder}: replaces that of run {former}")


def check_variants(variants: Sequence[str], data: PreparedData) -> None:
    """Raise `PipelineError` for a form of the file that these data cannot have."""
    for name in variants:
        dtype = np.dtype(FORMS[name].dtype)
        if dtype != np.float32 and dtype != data.dtype:
            raise PipelineError(f"--variant {name}: it takes {dtype} pixels, and the data have {data.dtype} ones")


def _check_quality(inputs: _Inputs, wanted: Wanted) -> None:
    refusal = _quality(inputs).refusal(wanted)
    if refusal:
        hint = "" if wanted.allow_worse or refusal.startswith("--") else "; --allow-worse writes one all the same"
        raise QualityError(f"run {inputs.run_id}: {refusal}. No hand-off was written{hint}")


def _quality(inputs: _Inputs) -> Quality:
    return Quality.of(inputs.scores[inputs.config.training_noise.label])


def _read(config: Config, run: OpenRun) -> _Inputs:
    data, checkpoint, label = load_training_data(config, run), load_checkpoint(run), config.training_noise.label
    metrics = scores.read(run.metrics(), label)["denoised"]
    logged = {metric: metrics[metric] for metric in LOGGED if metric in metrics}
    if not logged:
        raise PipelineError(f"run {run.id} was not evaluated; run: python -m pipeline evaluate --run-id {run.id}")
    with run.artifact(names.EVALUATION) as path:
        results = dict(sorted(read_evaluation(path, run.id, label)["results"].items()))
    return _Inputs(config, run.id, run.tag(names.GIT_COMMIT), data, checkpoint, results, logged)


def _fingerprint(inputs: _Inputs, variants: Sequence[str]) -> Fingerprint:
    folders = (FILES, TEMPLATES, rendering.TEMPLATES)
    return fingerprint(
        "pipeline.stages.export",
        packages=("jinja2", "numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch"),
        ignore=other_modules(inputs.config.model),
        added=[*added_modules(inputs.config.model), *added_noises(inputs.config.noise)],
        files=[path for folder in folders for path in folder.rglob("*") if path.is_file()],
        run=inputs.run_id,
        config=sha256_bytes(inputs.config.to_json().encode()),
        data=inputs.data.digest,
        weights=inputs.checkpoint.digest,
        scores=sha256_bytes(json.dumps([inputs.scores, inputs.logged]).encode()),
        variants=",".join(variants) or "none",
    )


def _is_whole(folder: Path, fingerprint_digest: str) -> bool:
    """Whether `folder` holds a hand-off with this fingerprint, and nothing in it has changed since."""
    try:
        made_from = read_json(folder / MANIFEST).get("fingerprint")
    except PipelineError:
        return False
    return made_from == fingerprint_digest and all(gate.passed for gate in verify(folder, []))


def _take_logged(run: OpenRun, folder: Path, fingerprint_digest: str) -> bool:
    """Put the hand-off that the run has in place, as it was not yet when a process was killed; False if it is another.

    Made again, it would be logged twice.
    """
    try:
        if run.model_id() is None:
            return False
        with run.artifact(names.HANDOFF) as logged:
            is_same = _is_whole(logged, fingerprint_digest) and read_json(logged / MANIFEST).get("name") == folder.name
            if is_same:
                with new_folder(folder) as new:
                    shutil.copytree(logged, new, dirs_exist_ok=True)
            return is_same
    except PipelineError:  # it is lost
        return False


def _describe(inputs: _Inputs, model: nn.Module, fingerprint_digest: str, name: str) -> Description:
    noise = inputs.config.training_noise
    noisy = real_probes(inputs.data.test, noise)
    return Description(
        name=name,
        config=inputs.config,
        run_id=inputs.run_id,
        fingerprint=fingerprint_digest,
        checkpoint=inputs.checkpoint,
        parameters=count_parameters(model),
        dataset=inputs.data.manifest,
        test_images=len(inputs.data.test),
        halo=halo(model, inputs.data.channels),
        familiar=None if noise.has_grain else Limits.of(noisy, lambda images: _denoised(model, images)),
        levels=inputs.data.levels,
        pixel_type=str(inputs.data.dtype),
        # A little more than the range of real noisy images. Of 8-bit pixels, only almost black images are inside.
        accepted=(math.floor(noisy.min()) - 1.0, math.ceil(noisy.max()) + 1.0),
        scores=inputs.scores,
        commit=inputs.commit,
    )


@torch.no_grad()
def _denoised(model: nn.Module, images: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(images)).clamp(0, 1).numpy()


def _rejected(run: OpenRun, report: Report) -> ParityError:
    """Log the report of a model that did not pass its gates; the error to raise."""
    with run.together():
        run.log_tags({names.PARITY: "failed"})
        run.log_dict(report.to_dict(), names.PARITY_JSON)
        run.log_text(report.to_markdown(), names.PARITY_MARKDOWN)
    first = report.failures[0]
    cause = f"File and model first differ at {report.first_difference}. " if report.first_difference else ""
    return ParityError(
        f"parity: {len(report.failures)} of {len(report.gates)} gates failed, the first: {first.gate} "
        f"({first.where}): {first.value}, allowed: {first.limit}. {cause}No hand-off was written; all gates are in the "
        f"artifact {names.PARITY_MARKDOWN} of run {run.id}"
    )


def _check_packed(folder: Path, proof: Proof) -> None:
    failures = [gate for gate in check_packed(folder, proof) if not gate.passed]
    if failures:
        first = failures[0]
        raise ParityError(
            f"the packed hand-off would not pass its receiver's check: {first.gate} ({first.where}): {first.value}, "
            f"allowed: {first.limit}. No hand-off was written"
        )


def _log(
    run: OpenRun, folder: Path, description: Description, proof: Proof, examples: Examples, parts: Fingerprint
) -> str | None:
    """Log the packed folder, the file as a model, and the report; the id of the model, if the store has it."""
    step, onnx_digest = description.checkpoint.images, sha256_file(folder / MODEL)
    report = run_report(description, proof.report, _figures(run), _baselines(run), _place(description, proof, examples))
    with run.together():
        run.log_onnx(  # which the store must keep byte for byte
            folder / MODEL,
            examples.golden_input[:1],
            loader=Path(mlflow_loader.__file__),
            package=Path(verification.__file__).parent,
            step=step,
            requirements=[f"{name}=={version(name)}" for name in _SERVING],
            metadata={"sha256": onnx_digest, "weights_sha256": description.checkpoint.digest},
            tags=_model_tags(description, onnx_digest),
            extra_files=[folder / "MODEL_CARD.md", folder / MANIFEST],
        )
        run.log_folder(folder, names.HANDOFF)
        run.log_text(report, names.REPORT)
        run.log_metrics({names.MAX_ABS_DIFFERENCE: proof.report.max_abs, names.MILLISECONDS: proof.milliseconds})
        run.log_tags({names.PARITY: "passed", names.ONNX_SHA256: onnx_digest, names.PYTHON: platform.python_version()})
        run.log_model_results(description.config.dataset_name)
        run.log_fingerprint("export", parts)
    return run.model_id()


def _serving(run_id: str) -> str:
    """The command that serves the model of a run."""
    return f"mlflow models serve -m runs:/{run_id}/{names.DENOISER} --env-manager local --port 5001"


def _place(description: Description, proof: Proof, examples: Examples) -> dict[str, str]:
    """Where the file is, what it costs, and how it is served, for the report."""
    height, width = examples.golden_input.shape[-2:]
    return {
        "folder": f"{description.name}, and the artifact {names.HANDOFF} of the MLflow run",
        "time for an image": f"{proof.milliseconds:.3g} ms for {width}x{height} pixels, on one thread",
        "served by": _serving(description.run_id),
        "champion": "if MLflow's model registry says so: a version that was made from this run, with that alias",
    }


def _with_hand_off(run: OpenRun, folder: str) -> str:
    """The description of the run, with where the hand-off is, what it costs, and how to serve it."""
    parts = [part for part in (run.tag(names.NOTE) or "").split("\n\n") if not part.startswith(names.HANDED_OFF)]
    said = (
        f"{names.HANDED_OFF}`{folder}` (artifact `{names.HANDOFF}`; see `{names.REPORT}`), proved equal to the model, "
        f"{run.metrics()[names.MILLISECONDS]:.3g} ms for a test image. Serve it: `{_serving(run.id)}`"
    )
    return "\n\n".join([*parts, said])


def _model_tags(description: Description, onnx_digest: str) -> dict[str, str]:
    config = description.config
    return {
        names.MODEL: config.model_name,
        names.NOISE: config.training_noise.spec,
        names.DATASET: config.dataset_name,
        names.WEIGHTS: description.checkpoint.digest,
        names.ONNX_SHA256: onnx_digest,
        names.PARITY: "passed",
    }


def _figures(run: OpenRun) -> dict[str, bytes]:
    """The figures that the run has by name, as SVG files; as PNG files where an earlier version drew them."""
    figures: dict[str, bytes] = {}
    for name in CAPTIONS:
        for file in (names.drawing_file(name), names.figure_file(name)):
            with suppress(PipelineError), run.artifact(file) as path:
                figures[name] = path.read_bytes()
                break
    return figures


def _baselines(run: OpenRun) -> dict[str, dict[str, float]]:
    try:
        found = queries.baselines(run.tag(names.TEST_IMAGES_SHA256) or "", ["psnr"])
    except PipelineError:  # the store does not answer: the report does without
        return {}
    return {name: values["psnr"] for name, values in found.items()}


def _print(folder: Path, proof: Proof, label: str) -> None:
    say(
        f"export: {folder}: {len(proof.report.gates)} parity gates passed; largest difference from torch "
        f"{proof.report.max_abs:.2g} (allowed: {MAX_ABS:g}). {proof.report.quality}"
    )
    for variant in proof.variants:
        say(
            f"export: {folder / variant.path.name}: {_describe_variant(variant, label)}; {variant.speed:.2f} times as "
            f"many images/s as {MODEL}"
        )


def _describe_variant(variant: VariantFile, label: str) -> str:
    if label in variant.psnr:
        return f"PSNR {variant.psnr[label]:.2f} dB, {variant.loss[label]:.3f} dB lost"
    return f"PSNR against {MODEL} {variant.fidelity:.2f} dB"


def _register(inputs: _Inputs, model_id: str | None, name: str, onnx_digest: str, parameters: int) -> None:
    """Make the logged model a version of the registered model `name`."""
    if not model_id:
        raise registry.not_registered(name, inputs.run_id, "the tracking store has not taken all of the run")
    tags = registry.version_tags(
        inputs.scores,
        **{
            names.DATASET: inputs.config.dataset_name,
            names.DATASET_SHA256: inputs.data.digest,
            names.NOISE: inputs.config.training_noise.spec,
            names.MODEL: inputs.config.model_name,
            names.PARAMETERS: str(parameters),
            names.WEIGHTS: inputs.checkpoint.digest,
            names.ONNX_SHA256: onnx_digest,
            names.RUN: inputs.run_id,
            names.QUALITY: "better" if _quality(inputs).is_better else "worse",
        },
    )
    number, already = registry.version_of(model_id, name), " already"
    if number is None:
        number, already = registry.register(model_id, name, inputs.run_id, tags), ""
    say(f"export: {name} version {number}{already}; make it the champion with: python -m pipeline promote {name}")
