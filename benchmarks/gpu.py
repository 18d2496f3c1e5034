"""The suite from a clone in which nothing is installed: python -m benchmarks.gpu --out DIR. See suite.py.

The repository's root is the package `relatent`; this gives it that name without installing it, and is `relatent bench` but for where the
results go.
"""

import importlib.util
import sys
from pathlib import Path


def main() -> int:
    """Import the package from this file's own clone and run its suite."""
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "relatent", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"{root} is not a clone of relatent")
    package = importlib.util.module_from_spec(spec)
    sys.modules["relatent"] = package
    spec.loader.exec_module(package)
    results = str(root / "benchmarks" / "results")  # a later --out wins
    return int(importlib.import_module("relatent.cli").main(["bench", "--out", results, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
