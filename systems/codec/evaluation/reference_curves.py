"""Published rate-distortion curves, read from a folder of the user's: CompressAI's JSON and the tables of other papers.

- `.json` with `name` and `results`, lists of `bpp` and `psnr-rgb`, as CompressAI keeps them; or with an object of `bpp` and
  `psnr` for each curve, by the curve's name.
- `.csv`: bits per pixel and PSNR in each line, no heading, the curve's name being the file's.
- `.tsv`: a heading with `lmbda`, `seq_name`, `psnr_db` and `rate_bpp`, a line for each picture and rate; a curve's points
  are the means over the pictures, as Cool-Chic's results are kept.
"""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ....engine.errors import UsageError
from .bd_rate import in_order

DATASET = "kodak"
OTHER_DATASETS = {"tecnick", "clic"}  # a file named after one of them has no curve of Kodak
Curves = dict[str, list[tuple[float, float]]]  # by name, each of points as `bd_rate` takes them, by rising PSNR


def load_references(folder: str | Path) -> Curves:
    """Return the curves of all files of the folder, but for those of other pictures than Kodak's.

    Raises UsageError for a folder without curves, and for a file that is not as above.
    """
    folder, curves = Path(folder), Curves()
    if not folder.is_dir():
        raise UsageError(f"references {folder}: no such folder; expected one with published curves in it")
    for path in sorted(folder.iterdir()):
        read = READERS.get(path.suffix.lower())
        if read is None or not path.is_file() or OTHER_DATASETS & set(re.split(r"[^a-z0-9]+", path.stem.lower())):
            continue
        try:
            curves |= {name: in_order(points) for name, points in read(path).items()}
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise UsageError(
                f"references {path}: cannot be read as a rate-distortion curve: {reason}; mend it or take it out"
            ) from error
    if not curves:
        raise UsageError(f"references {folder}: no curve in it; expected files ending in {' '.join(READERS)}")
    return curves


def _read_json(path: Path) -> Curves:
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("expected an object")
    if "results" in content:
        return {str(content["name"]): _pairs(content["results"]["bpp"], content["results"]["psnr-rgb"])}
    found = {name: value for name, value in content.items() if isinstance(value, dict)}
    return {name: _pairs(value["bpp"], value["psnr"]) for name, value in found.items()}


def _read_csv(path: Path) -> Curves:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    return {_name(path): [(float(rate), float(psnr)) for rate, psnr in rows]}


def _read_tsv(path: Path) -> Curves:
    rates: dict[str, list[tuple[float, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            rates.setdefault(row["lmbda"], []).append((float(row["rate_bpp"]), float(row["psnr_db"])))
    means = [[sum(column) / len(points) for column in zip(*points, strict=True)] for points in rates.values()]
    return {_name(path): [(bpp, psnr) for bpp, psnr in means]}


def _pairs(rates: list[float], psnrs: list[float]) -> list[tuple[float, float]]:
    return [(float(rate), float(psnr)) for rate, psnr in zip(rates, psnrs, strict=True)]


def _name(path: Path) -> str:
    return "-".join(part for part in path.stem.split("-") if part.lower() not in (DATASET, "psnr"))


READERS: dict[str, Callable[[Path], Curves]] = {".json": _read_json, ".csv": _read_csv, ".tsv": _read_tsv}
