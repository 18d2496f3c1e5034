"""Anomaly maps on procedural vertebrae, which are synthetic: the plain error, restoration with each prior, the detector.

    python -m relatent.benchmarks.anomaly.methods WORK [--seeds 1 2 3 4 5] [--side 32]

For each seed: a VQ-VAE is trained on 1000 normal volumes; priors are fitted to them; thresholds come from 40 volumes for validation; the
figures are of 60 held-out ones, half of them abnormal; the detector learns from 80 more with weak labels. All these have seeds of
their own. What is finished in WORK is not made again. Writes benchmarks/results/anomaly_methods-*.json and the table of docs/anomaly_evaluation.md.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...exporters.summaries.markdown import markdown_table
from ...systems.anomaly.data.folds import make_folds, write_folds
from ...systems.anomaly.data.procedural import write_procedural
from ...systems.anomaly.data.volume import Volume
from ...systems.anomaly.data.volume_folder import read_folder
from ...systems.anomaly.detector.mapper import DetectorMapper
from ...systems.anomaly.detector.settings import DetectorSettings
from ...systems.anomaly.detector.training import train_detector
from ...systems.anomaly.evaluation.run import evaluate_maps
from ...systems.anomaly.maps.error_mapper import ErrorMapper
from ...systems.anomaly.maps.mapper import Mapper
from ...systems.anomaly.maps.run import write_maps
from ...systems.anomaly.model.checkpoint import load_model
from ...systems.anomaly.restoration.mapper import RestorationMapper
from ...systems.anomaly.restoration.normality import Normality
from ...systems.anomaly.restoration.priors.registry import NONE, PRIORS
from ...systems.anomaly.restoration.settings import WEIGHTS, RestorationSettings
from ...systems.anomaly.training.run import read_config, train
from ..results import FOLDER, README, command_line, replace_table, run_main, spread, spread_text, write_result

PAGE = Path(__file__).parents[2] / "docs" / "anomaly_evaluation.md"
NORMAL, VALIDATION, HELD_OUT, WEAK = "normal", "validation", "held_out", "weak"
# name: how many volumes, what is added to the seed, which part is abnormal
SETS = {NORMAL: (1000, 1000, 0.0), VALIDATION: (40, 2000, 0.5), HELD_OUT: (60, 3000, 0.5), WEAK: (80, 4000, 0.5)}
FITTED = 400  # normal volumes that the priors are fitted to
EPOCHS = 15  # of the detectors
SMOOTH = 1.0  # voxels, of all maps alike, before the figures of voxels
SCORES = {"detector": "top_probability"}  # of volumes; others: peak_error
SHORT = ("baseline: |x − mean normal|", "plain error", "restoration, code-prior", "detector, boxes")
# small networks on a processor: fewer channels, a faster rate, no augmentation, since volumes can be made at will
TRAINING = (
    "dataset.augment=false", "dataset.num_workers=0", "training.epochs=30", "training.learning_rate=2e-3",
    "training.min_learning_rate=2e-5", "training.weight_decay=0", "training.early_stopping_patience=1000",
    "training.precision=bf16-mixed", "training.log_image_freq=10", "training.save_top_k=1", "model.use_ema=true",
    "model.dropout=0", "model.embedding_dim=64", "model.commitment_cost=0.01", "model.hidden_channels=[16,32,64]",
)  # fmt: skip


def make_volumes(folder: Path, name: str, seed: int, side: int) -> list[Volume]:
    """The volumes of one set, made where they are not there yet."""
    count, offset, abnormal = SETS[name]
    volumes, _ = read_folder(folder / name) if (folder / name).is_dir() else ([], [])
    if len(volumes) != count:
        write_procedural(folder / name, count, offset + seed, side, abnormal)
        volumes, _ = read_folder(folder / name)
    return volumes


def train_model(folder: Path, seed: int, side: int, overrides: Sequence[str]) -> Path:
    """The last checkpoint of a training on the normal volumes, patients of the first fold being left for its validation."""
    data, folds = folder / NORMAL, folder / NORMAL / "folds.json"
    if not folds.is_file():
        write_folds(folds, make_folds({volume.patient for volume in read_folder(data)[0]}, seed=seed))
    own = (
        f"seed={seed}", "fold_id=1", f"experiment={folder.name}", f"output_dir={folder.parent}",
        f"dataset.data_dir={data}", f"dataset.folds_file={folds}", f"dataset.volume_size={side}",
    )  # fmt: skip
    return Path(train(read_config([*own, *overrides]))["folder"]) / "checkpoints" / "last.ckpt"


def fit_priors(folder: Path, checkpoint: Path, normal: Sequence[Volume], side: int) -> Normality:
    """The priors fitted to normal volumes, kept in a file beside the maps."""
    path, model = folder / "normality.pt", load_model(checkpoint)
    if not path.is_file():
        chosen = normal[:: len(normal) // FITTED]
        torch.save(Normality.fit(model, (torch.from_numpy(one.read(side))[None] for one in chosen)).state(), path)
    return Normality.of_state(torch.load(path, weights_only=True), model)


def methods(folder: Path, checkpoint: Path, normality: Normality, side: int) -> Iterator[tuple[str, Mapper]]:
    """Every method by its name in the table."""
    plain = ErrorMapper(checkpoint, side)
    yield "plain error", plain
    for prior in (NONE, *PRIORS):
        settings = RestorationSettings(prior, batch_size=8)
        yield f"restoration, {prior}", RestorationMapper(checkpoint, settings, normality, side)
    for labels in ("boxes", "slices"):
        weak, _ = read_folder(folder / WEAK)
        detector = train_detector(
            plain, weak, folder / f"detector_{labels}", DetectorSettings(labels=labels, epochs=EPOCHS)
        )
        yield f"detector, {labels}", DetectorMapper(plain, detector)


def run_seed(folder: Path, seed: int, side: int) -> dict[str, Any]:
    """The figures of one seed by method, and what trivial maps reach on the same volumes."""
    sets = {name: make_volumes(folder, name, seed, side) for name in SETS}
    checkpoint = train_model(folder, seed, side, TRAINING)
    normality = fit_priors(folder, checkpoint, sets[NORMAL], side)
    found: dict[str, Any] = {}
    for name, mapper in methods(folder, checkpoint, normality, side):
        out = folder / "maps" / name.replace(", ", "_").replace(" ", "_")
        seconds = 0.0
        for part in (VALIDATION, HELD_OUT):
            record = write_maps(out / part, sets[part], mapper, synthetic=True)
            seconds = record["seconds"]["total"] / len(sets[part])
        result = evaluate_maps(out / HELD_OUT, out / VALIDATION, sigma=SMOOTH)
        score = result["scores"][SCORES.get(mapper.method, "peak_error")]
        found[name] = {**_voxel_figures(result["voxels"]), "volume_auroc": score["auroc"], "seconds": seconds}
        found[name] |= {key: score[key] for key in ("sensitivity", "specificity", "f1")}
        for baseline, voxels in result["voxel_baselines"].items():
            found.setdefault(f"baseline: {baseline}", _voxel_figures(voxels))
        print(f"seed {seed}: {name}: {found[name]}", flush=True)
    return found


def _voxel_figures(voxels: Mapping[str, float]) -> dict[str, float]:
    return {key: voxels[key] for key in ("auroc", "auprc", "dice") if key in voxels}


def summarise(seeds: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Mean, least and most of each figure over the seeds, and of its difference from the plain error of the same seed."""
    first = next(iter(seeds.values()))
    summary: dict[str, Any] = {}
    for method, figures in first.items():
        summary[method] = {}
        for key in figures:
            values = [found[method][key] for found in seeds.values()]
            differences = [found[method][key] - found["plain error"].get(key, 0.0) for found in seeds.values()]
            summary[method][key] = spread(values) | {"difference": spread(differences)}
    return summary


def table(summary: Mapping[str, Any], seeds: int) -> str:
    """Means over the seeds, with the least and the most."""
    keys = {"auroc": "voxel AUROC", "auprc": "voxel AUPRC", "dice": "Dice", "volume_auroc": "volume AUROC"}
    rows = []
    for method, found in summary.items():
        cells = [_cell(found.get(key)) for key in keys]
        gain = found.get("auprc", {}).get("difference")
        beside = "" if gain is None or method == "plain error" else spread_text(gain, "+.3f")
        seconds = f"{found['seconds']['mean']:.2f}" if "seconds" in found else ""
        rows.append([method, *cells, beside, seconds])
    heading = [f"synthetic vertebrae, {seeds} seeds", *keys.values(), "AUPRC beside plain, per seed", "s / volume"]
    return markdown_table(heading, rows)


def short_table(summary: Mapping[str, Any], seeds: int) -> str:
    """README's: one row for each kind of method."""
    return table({name: summary[name] for name in SHORT}, seeds)


def _cell(found: Mapping[str, float] | None) -> str:
    return "" if found is None else spread_text(found, ".3f")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N")
    parser.add_argument("--side", type=int, default=32, metavar="N", help="voxels (default: 32, of 3 mm)")
    parser.add_argument("--readme", type=Path, default=README, metavar="FILE", help="the page of the short table")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, metavar="DIR", help="for the JSON (default: benchmarks/results)"
    )
    options = parser.parse_args(arguments)
    seeds = {str(seed): run_seed(options.work / f"seed_{seed}", seed, options.side) for seed in options.seeds}
    summary = summarise(seeds)
    content = {"synthetic": True, "side": options.side, "sets": SETS, "smooth": SMOOTH, "training": TRAINING}
    content |= {"weights": WEIGHTS, "summary": summary, "seeds": seeds}
    replace_table("anomaly_methods", table(summary, len(seeds)), PAGE)
    replace_table("anomaly", short_table(summary, len(seeds)), options.readme)
    print(
        write_result(
            "anomaly_methods", torch.device("cpu"), command_line("anomaly.methods", arguments), content, options.out
        )
    )


if __name__ == "__main__":
    run_main(main)
