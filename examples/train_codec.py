"""Train the codec's bundled models: one network for the highest rate, from which those of the others go on.

    python examples/train_codec.py WORK                 # hours on two cores; started again it goes on where it was
    python examples/train_codec.py WORK --bundle        # then put the models into the package

Data: what the bundled `tiny` autoencoder was trained on, see `train_tiny_vae.py`: photographs in scikit-image's wheel (CC0 or
public domain) and procedural pictures, here `PICTURES` crops of them written as PNG under WORK. The test after each epoch is on
crops of the same sources from another seed. The training itself is `relatent codec train`'s.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from train_tiny_vae import Crops

PICTURES, SIDE, TEST_PICTURES, TEST_SIDE = 2000, 320, 12, 448
HIGHEST = 0.0067
OTHERS = (0.0018, 0.0035)
EPOCHS, OTHER_EPOCHS = 94, 30
COMMON = [
    "--batch-size",
    "8",
    "--patch-size",
    "128",
    "--lr-schedule",
    "cosine",
    "--precision",
    "bf16",
    "--log-every",
    "20",
    "--save-every",
    "1000",
]


def write_pictures(folder: Path, count: int, side: int, seed: int) -> None:
    """Write crops of photographs and procedural pictures, scaled, turned and tinted at random."""
    if folder.exists():
        return
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    crops = Crops(seed)
    for index in range(count):
        pixels = (crops.one(side) + 1.0) * 127.5
        Image.fromarray(np.round(pixels).astype(np.uint8).transpose(1, 2, 0)).save(partial / f"{index:04}.png")
    partial.rename(folder)


def command(work: Path, lmbda: float, epochs: int, rate: float, start: Path | None = None) -> list[str]:
    """The training of one rate. start: the checkpoint whose weights it begins with."""
    folders = ["--train_dataset", work / "train", "--test_dataset", work / "test", "--save_path", work / "runs"]
    values = ["--lambda", lmbda, "--epochs", epochs, "--learning-rate", rate]
    values += [] if start is None else ["--checkpoint", start]
    return [sys.executable, "-m", "relatent", "codec", "train", *map(str, [*folders, *values]), *COMMON]


def run_folder(work: Path, lmbda: float) -> Path:
    return work / "runs" / f"small_lmbda{lmbda}"


def bundle(work: Path) -> None:
    """Put the models into the package, weights in 16 bits, with a record of how they were trained."""
    import torch
    from relatent.systems.codec.bitstream.model_folder import load_model, save_model
    from relatent.systems.codec.bundled import FOLDER
    from relatent.systems.codec.training.run_log import read_log

    record: dict = {"script": "examples/train_codec.py", "pictures": PICTURES, "side": SIDE, "models": {}}
    record |= {"torch": torch.__version__, "machine": f"{platform.machine()}, {os.cpu_count()} cores", "seed": 0}
    for quality, lmbda in enumerate(sorted((HIGHEST, *OTHERS)), 1):
        folder = run_folder(work, lmbda)
        codec = load_model(folder / "model")
        half = save_model(codec.model, FOLDER / str(quality), lmbda, half=True)
        tested = [line for line in read_log(folder / "log.jsonl") if "test/loss" in line][-1]
        record["models"][quality] = {"lambda": lmbda, "sha256": half.sha256.hex(), **tested}
    (FOLDER / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--bundle", action="store_true", help="put finished models into the package")
    options = parser.parse_args()
    if options.bundle:
        bundle(options.work)
        return
    write_pictures(options.work / "train", PICTURES, SIDE, seed=0)
    write_pictures(options.work / "test", TEST_PICTURES, TEST_SIDE, seed=1)
    subprocess.run(command(options.work, HIGHEST, EPOCHS, 1e-3), check=True)
    start = run_folder(options.work, HIGHEST) / "checkpoint.pth"
    others = [subprocess.Popen(command(options.work, lmbda, OTHER_EPOCHS, 5e-4, start)) for lmbda in OTHERS]
    if any(process.wait() for process in others):
        sys.exit("a training failed; its messages are above")


if __name__ == "__main__":
    main()
