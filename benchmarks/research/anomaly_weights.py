"""The bundled models of anomaly maps, trained, rounded and written where the package has them.

    python -m relatent.benchmarks.research.anomaly_weights WORK vertebrae
    python -m relatent.benchmarks.research.anomaly_weights WORK adrenal --archive adrenalmnist3d_64.npz

vertebrae: 1000 procedural vertebrae of 64³, synthetic, all normal. adrenal: the normal volumes of AdrenalMNIST3D's train split; its
val split gives the thresholds. A model is stored in fp16, with the priors that were fitted to its training's latents, and
thresholds for its scores. What is finished in WORK is not made again.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import UsageError
from ...engine.runtime.atomic import atomic_path, file_sha256, write_json
from ...engine.version import VERSION
from ...systems.anomaly.bundled import ADRENAL, VERTEBRAE, WEIGHTS
from ...systems.anomaly.data.procedural import write_procedural
from ...systems.anomaly.data.volume import NORMAL, Volume
from ...systems.anomaly.data.volume_archive import read_archive
from ...systems.anomaly.data.volume_folder import read_folder
from ...systems.anomaly.evaluation.calibration import calibrate
from ...systems.anomaly.maps.error_mapper import ErrorMapper
from ...systems.anomaly.maps.reader import MapReader
from ...systems.anomaly.maps.run import write_maps
from ...systems.anomaly.model.checkpoint import read_checkpoint
from ...systems.anomaly.restoration.normality import Normality
from ...systems.anomaly.training.run import read_config, train
from ..anomaly.methods import TRAINING, train_model
from ..results import COMMIT, command_line, run_main

SIDE, SEED = 64, 42
CHANNELS = "model.hidden_channels=[8,16,32,64]"
EPOCHS = {VERTEBRAE: 26, ADRENAL: 16}
ABOUT = {
    VERTEBRAE: "synthetic: 1000 procedural vertebrae, no scan of a person",
    ADRENAL: "the normal volumes of AdrenalMNIST3D's train split at 64³ (MedMNIST, CC BY 4.0; Yang et al., Scientific Data 2023)",
}


def train_vertebrae(work: Path, overrides: Sequence[str]) -> tuple[Path, list[Volume], list[Volume]]:
    """The last checkpoint, the volumes of its training, and 60 others for thresholds, half of them abnormal."""
    folder = work / VERTEBRAE
    for name, count, seed, abnormal in (("normal", 1000, SEED, 0.0), ("validation", 60, SEED + 1, 0.5)):
        if not (folder / name / "volumes.json").is_file():
            write_procedural(folder / name, count, seed, SIDE, abnormal)
    checkpoint = train_model(folder, SEED, SIDE, overrides)
    return checkpoint, read_folder(folder / "normal")[0], read_folder(folder / "validation")[0]


def train_adrenal(
    work: Path, overrides: Sequence[str], archive: Path | None
) -> tuple[Path, list[Volume], list[Volume]]:
    """The last checkpoint, train's normal volumes, and val's."""
    if archive is None:
        raise UsageError("adrenal is trained on an archive: give --archive FILE.npz")
    own = [f"seed={SEED}", "fold_id=1", f"experiment={ADRENAL}", f"output_dir={work}", f"dataset.data_dir={archive}"]
    trained = train(read_config([*own, f"dataset.volume_size={SIDE}", *overrides]))
    normal = [volume for volume in read_archive(archive, "train") if volume.label == NORMAL]
    return Path(trained["folder"]) / "checkpoints" / "last.ckpt", normal, read_archive(archive, "val")


def round_to_half(values: Any) -> Any:
    """Floating-point tensors as fp16, in dicts too."""
    if isinstance(values, dict):
        return {name: round_to_half(value) for name, value in values.items()}
    return values.half() if isinstance(values, torch.Tensor) and values.is_floating_point() else values


def bundle(
    name: str, work: Path, checkpoint: Path, normal: list[Volume], validation: list[Volume], command: str
) -> dict[str, Any]:
    """Write the bundled file, and what it was made of beside it. Returns the latter."""
    trained = read_checkpoint(checkpoint)
    parameters = trained["hyper_parameters"] | {"dataset": {"volume_size": SIDE}}
    weights = {key: value for key, value in trained["state_dict"].items() if key.startswith("model.")}
    contents: dict[str, Any] = {"hyper_parameters": parameters, "state_dict": round_to_half(weights)}
    path = WEIGHTS / name / "model.ckpt"
    for step in ("priors", "thresholds", "done"):
        with atomic_path(path) as temporary:
            torch.save(contents, temporary)
        if step == "priors":
            model = ErrorMapper(path).model.to(memory_format=torch.contiguous_format)
            chosen = normal[:: max(1, len(normal) // 400)]
            fitted = Normality.fit(model, (torch.from_numpy(one.read(SIDE))[None] for one in chosen))
            contents["normality"] = round_to_half(fitted.state())
        elif step == "thresholds":
            out = work / name / f"maps_{file_sha256(path)[:8]}"
            write_maps(out, validation, ErrorMapper(path))
            with MapReader(out) as maps:
                found = calibrate(maps, "validation", with_voxels=False).scores
            contents["calibration"] = {score: threshold.value for score, threshold in found.items()}
    about = {
        "name": name,
        "data": ABOUT[name],
        "command": command,
        "commit": COMMIT,
        "relatent": VERSION,
        "configuration": parameters,
        "epochs": trained["epoch"] + 1,
        "steps": trained["global_step"],
        "thresholds": {score: asdict(threshold) for score, threshold in found.items()},
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
    }
    write_json(path.with_name("training.json"), about)
    return about


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and bundle one model, as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("name", choices=(VERTEBRAE, ADRENAL))
    parser.add_argument("--archive", type=Path, metavar="FILE.npz", help="AdrenalMNIST3D at 64³, for adrenal")
    options = parser.parse_args(arguments)
    overrides = [*TRAINING[:-1], CHANNELS, f"training.epochs={EPOCHS[options.name]}"]
    if options.name == VERTEBRAE:
        made = train_vertebrae(options.work, overrides)
    else:
        made = train_adrenal(options.work, overrides, options.archive)
    about = bundle(options.name, options.work, *made, command_line("research.anomaly_weights", arguments))
    print(f"{about['name']}: {about['bytes']} bytes, {about['steps']} steps, thresholds {about['thresholds']}")


if __name__ == "__main__":
    run_main(main)
