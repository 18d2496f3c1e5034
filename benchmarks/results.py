"""Storage of results: one JSON file per benchmark and machine, and the tables of the pages generated from them."""

import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..engine.errors import RelatentError
from ..engine.runtime.allocator import keep_freed_memory
from ..engine.runtime.atomic import write_json
from ..engine.runtime.device import describe_device

FOLDER = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def write_result(name: str, device: torch.device, command: str, content: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Add commit, versions and hardware to `content`, write it as JSON, and return the path."""
    origin = stamp(name, device, command)
    plain = re.sub(r"\(\w+\)", "", origin["hardware"]["name"].lower())  # without (R) and (TM)
    machine = "-".join(re.findall(r"[a-z0-9]+", plain))
    path = folder / f"{name}-{machine}-{device.type}.json"
    write_json(path, origin | content)
    return path


def stamp(name: str, device: torch.device, command: str) -> dict[str, Any]:
    """Return what a results file says of its origin: command, date, commit, versions and hardware."""
    return {
        "benchmark": name,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": COMMIT,
        "versions": {package: version(package) for package in ("torch", "numpy")},
        "hardware": describe_device(device),
    }


def run_main(main: Callable[[], int | None]) -> None:
    """Run a benchmark's `main`, with freed memory kept as the command line does, and exit with its status; where an option or
    a file does not fit, with one line and 2."""
    keep_freed_memory()
    try:
        status = main()
    except (RelatentError, OSError) as error:
        print(error, file=sys.stderr)
        status = 2
    sys.exit(status)


def command_line(module: str, arguments: Sequence[str] | None = None) -> str:
    """Return the command that ran `relatent.benchmarks.<module>`, without this machine's folders.

    arguments: the options that were given; None for those of sys.argv.
    """
    given = sys.argv[1:] if arguments is None else arguments
    words = (Path(word).name if "/" in word else word for word in given)
    return " ".join([f"python -m relatent.benchmarks.{module}", *words])


def replace_table(marker: str, table: str, readme: Path = README) -> None:
    """Replace the text between `<!-- marker -->` and `<!-- /marker -->` in a page by `table`."""
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(f"<!-- {marker} -->\n", 1)
    _, tail = rest.split(f"<!-- /{marker} -->", 1)
    readme.write_text(f"{head}<!-- {marker} -->\n{table}\n<!-- /{marker} -->{tail}", encoding="utf-8")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, least and most of a figure over seeds."""
    return {"mean": statistics.fmean(values), "least": min(values), "most": max(values)}


def spread_text(found: Mapping[str, float], form: str) -> str:
    """What `spread` returned, as `0.219 (0.175 to 0.250)`. form: of each number."""
    return f"{found['mean']:{form}} ({found['least']:{form}} to {found['most']:{form}})"


def _commit() -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True)
    except OSError:  # git is not installed.
        return "unknown"
    return done.stdout.strip() or "unknown"


# The commit of the code that is measured, read at import in case another one is checked out before the end.
COMMIT = _commit()
