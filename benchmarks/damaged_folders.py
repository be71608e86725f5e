"""Faults to plant in a hand-off folder: in packing it, and by whoever changes it and seals it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from benchmarks.planted import FAULTS
from pipeline.config import Config
from pipeline.data.images import Part
from pipeline.data.prepared import PreparedData
from pipeline.data.sources.bundled_mnist import BundledMNIST
from pipeline.denoising.familiarity import Limits
from pipeline.files import sha256_file
from pipeline.handoff.description import Description
from pipeline.handoff.folder import Examples, make_examples, pack
from pipeline.handoff.proof import Proof, prove
from pipeline.models import build_model, count_parameters
from pipeline.models.facts import halo
from pipeline.noise import make_noise
from pipeline.scoring.metrics import psnr
from pipeline.scoring.score import clipped, identity, model_denoiser, score
from pipeline.training.checkpoint import Checkpoint
from pipeline.verification.folder import MANIFEST, MODEL, SUMS

NOISE = make_noise("gaussian", "0.01")
STEPS = 150


@dataclass(frozen=True)
class Right:
    """A correct hand-off of a model that was trained a little, and what it was made from."""

    folder: Path
    model: torch.nn.Module
    data: PreparedData
    description: Description
    proof: Proof
    examples: Examples
    psnr: float

    @classmethod
    def make(cls, folder: Path) -> Right:
        torch.manual_seed(0)
        digits = BundledMNIST().images()[1]
        data = PreparedData(Part(digits[:3000]), Part(digits[3000:3100]), Part(digits[-30:]), {"digest": "d" * 64})
        model = _train(build_model("autoencoder"), data.train)
        denoisers = {"noisy": identity, "clipped": clipped, "denoised": model_denoiser(model, torch.device("cpu"))}
        means = score(data.test, NOISE, denoisers, {"psnr": psnr})
        scores = {name: {"psnr": float(of["psnr"].mean()), "ssim": 0.9} for name, of in means.items()}
        description = Description(
            name="planted",
            config=Config(model="autoencoder", variance="0.01"),
            run_id="0" * 32,
            fingerprint="f" * 64,
            checkpoint=Checkpoint("autoencoder", "", 1, 1, 0.0, model.state_dict()),
            parameters=count_parameters(model),
            dataset={"digest": "d" * 64, "licence": "CC BY-SA 3.0", "origin": "digits of MNIST"},
            test_images=len(data.test),
            halo=halo(model, 1),
            accepted=(-2.0, 3.0),
            scores={NOISE.label: scores},
            familiar=Limits(0.05, 0.31),
            commit=None,
        )
        folder.mkdir()
        proof = prove(folder, model, description, data, scores["denoised"], [])
        assert not proof.report.failures, proof.report.failures
        examples = make_examples(model, data.test, NOISE)
        pack(folder, description, proof, examples)
        return cls(folder, model, data, description, proof, examples, scores["denoised"]["psnr"])


def _train(model: torch.nn.Module, part: Part) -> torch.nn.Module:
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.003)
    clean = part.levels.to_tensor(torch.from_numpy(np.stack([*part.images])))
    for _ in range(STEPS):
        batch = clean[torch.randint(len(clean), (64,))]
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(batch + 0.1 * torch.randn_like(batch)), batch).backward()
        optimizer.step()
    return model.eval()


# Faults in packing: each is done to a folder that was just packed, as a mistake in the code might.

Damage = Callable[[Path, Right], None]


def seal(folder: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Change the manifest, and make all checksums what they would be."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for entry in manifest["models"]:
        entry["sha256"] = sha256_file(folder / entry["file"])
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names.remove(SUMS)
    (folder / SUMS).write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))


def write_golden(folder: Path, name: str, values: np.ndarray) -> None:
    (folder / name).write_bytes(numpy_helper.from_array(np.ascontiguousarray(values)).SerializeToString())


def _entry(**facts: object) -> Damage:
    """Something else in the manifest, about the model."""
    return lambda folder, right: seal(folder, lambda manifest: manifest["models"][0].update(facts))


def _fact(**facts: object) -> Damage:
    return lambda folder, right: seal(folder, lambda manifest: manifest.update(facts))


def _training_mode(folder: Path, right: Right) -> None:
    with torch.no_grad():
        output = right.model.train()(torch.from_numpy(right.examples.golden_input))
    right.model.eval()
    write_golden(folder, "test_data_set_0/output_0.pb", output.numpy())
    seal(folder)


def _golden_swapped(folder: Path, right: Right) -> None:
    one, other = (folder / f"test_data_set_{number}" / "output_0.pb" for number in (0, 1))
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)
    seal(folder)


def _golden_exchanged(folder: Path, right: Right) -> None:
    write_golden(folder, "test_data_set_0/input_0.pb", right.examples.golden_output)
    write_golden(folder, "test_data_set_0/output_0.pb", right.examples.golden_input)
    seal(folder)


def plant(name: str) -> Damage:
    def damage(folder: Path, right: Right) -> None:
        proto = onnx.load(folder / MODEL)
        FAULTS[name](proto)
        onnx.save(proto, folder / MODEL)
        seal(folder)

    return damage


def _lost(name: str) -> Damage:
    def damage(folder: Path, right: Right) -> None:
        (folder / name).unlink()
        seal(folder)

    return damage


def _text(name: str, was: str, becomes: str, sealed: bool = True) -> Damage:
    def damage(folder: Path, right: Right) -> None:
        text = (folder / name).read_text()
        assert was in text
        (folder / name).write_text(text.replace(was, becomes))
        if sealed:
            seal(folder)

    return damage


def _card_of_another(folder: Path, right: Right) -> None:
    other = replace(right.description, accepted=(-4.0, 5.0))
    scratch = folder / "scratch"
    scratch.mkdir()
    shutil.copy(folder / MODEL, scratch)
    pack(scratch, other, right.proof, right.examples)
    (scratch / "MODEL_CARD.md").replace(folder / "MODEL_CARD.md")
    shutil.rmtree(scratch)
    seal(folder)


def _line_lost(folder: Path, right: Right) -> None:
    lines = (folder / SUMS).read_text().splitlines(keepends=True)
    (folder / SUMS).write_text("".join(lines[1:]))


PACKING: dict[str, Damage] = {
    "golden outputs of two sizes swapped": _golden_swapped,
    "golden input and output exchanged": _golden_exchanged,
    "golden output made in training mode": _training_mode,
    "model rewritten after the gate, one bit": plant("one weight off in its last bit"),
    "model rewritten after the gate, one weight": plant("one weight off by 0.1 %"),
    "card edited after the checksums": _text("MODEL_CARD.md", "digits", "letters", sealed=False),
    "card of another model": _card_of_another,
    "verify.py lost": _lost("verify.py"),
    "a module of the checks lost": _lost("verification/graph.py"),
    "the licence lost": _lost("LICENSE"),
    "the report lost": _lost("parity_report.json"),
    "a line of the checksums lost": _line_lost,
    "a golden file lost": _lost("test_data_set_2/input_0.pb"),
    "another halo in the manifest": _fact(halo=8),
    "digest of other weights in the manifest": _fact(model={"weights_sha256": "0" * 64}),
    "a broken verify.py": _text("verify.py", "import sys", "import sis"),
}


# Folders that someone changed and sealed again.


def _outside(folder: Path, right: Right) -> None:
    shutil.copytree(folder / "test_data_set_0", folder.parent / "outside", dirs_exist_ok=True)
    _entry(test_data="../outside")(folder, right)


def _nowhere(folder: Path, right: Right) -> None:
    plant("output too bright by 2e-5")(folder, right)
    _entry(runtimes=[])(folder, right)


def _empty(folder: Path, right: Right) -> None:
    for name in ("input", "output"):
        write_golden(folder, f"test_data_set_0/{name}_0.pb", right.examples.golden_input[:0])
    seal(folder)


def _not_a_number(folder: Path, right: Right) -> None:
    write_golden(folder, "test_data_set_0/output_0.pb", np.full_like(right.examples.golden_output, np.nan))
    seal(folder)


def _external(folder: Path, right: Right) -> None:
    path = folder / "test_data_set_0" / "input_0.pb"
    tensor = TensorProto.FromString(path.read_bytes())
    (folder / "values").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(folder / "values"))
    path.write_bytes(tensor.SerializeToString())
    seal(folder)


def _external_weights(folder: Path, right: Right) -> None:
    onnx.save(onnx.load(folder / MODEL), folder / MODEL, save_as_external_data=True, location="weights")
    seal(folder)


def _linked(folder: Path, right: Right) -> None:
    shutil.copy(folder / MODEL, folder.parent / "elsewhere.onnx")
    (folder / MODEL).unlink()
    (folder / MODEL).symlink_to(folder.parent / "elsewhere.onnx")
    seal(folder)


def _no_halo(folder: Path, right: Right) -> None:
    """In the file, the manifest and the card."""
    plant("no halo")(folder, right)
    _text("MODEL_CARD.md", f"with {right.description.halo} more", "with 0 more")(folder, right)
    _fact(halo=0)(folder, right)


def _besides(name: str) -> Damage:
    def damage(folder: Path, right: Right) -> None:
        (folder / name).write_bytes(b"")

    return damage


def _manifest(text: str) -> Damage:
    def damage(folder: Path, right: Right) -> None:
        (folder / MANIFEST).write_text(text)
        sums = (folder / SUMS).read_text().splitlines()
        new = f"{sha256_file(folder / MANIFEST)}  {MANIFEST}"
        (folder / SUMS).write_text("".join(f"{new if MANIFEST in line else line}\n" for line in sums))

    return damage


SEALED: dict[str, Damage] = {
    "a tolerance of 1e9": _entry(tolerance={"max_abs": 1e9}),
    "a tolerance without end": _entry(tolerance={"max_abs": float("inf")}),
    "a PSNR of -100 dB": _entry(tolerance={"psnr": -100}),
    "a weaker form": _entry(variant="fp16", tolerance={"psnr": 50}),
    "runs nowhere, and another model": _nowhere,
    "golden data outside": _outside,
    "no golden image": _empty,
    "golden images of one size": _entry(more_test_data=[]),
    "golden output not a number": _not_a_number,
    "golden data in another file": _external,
    "no halo, everywhere": _no_halo,
    "an accepted range without end": _fact(accepted_range=[-float("inf"), float("inf")]),
    "three channels in the manifest": _fact(channels=3),
    "another opset in the manifest": _entry(opset=17),
    "another range in the card": _text("MODEL_CARD.md", "-2 or above 3", "-20 or above 30"),
    "another model": plant("all weights one step away"),
    "a model that is right up to height 128": plant("wrong above height 128"),
    "a model that is right up to batch 600": plant("wrong above batch 600"),
    "weights in another file": _external_weights,
    "a link": _linked,
    "a file besides": _besides("samples/other.png"),
    "a name with a line in it": _besides("a\nverify: passed"),
    "a manifest that is a list": _manifest("[]"),
    "a manifest nested deeply": _manifest("[" * 100_000),
    "a shape of one number": _entry(input={"shape": [1]}),
}
