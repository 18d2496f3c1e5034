"""Run the benchmark suite from a clone without installing it: python -m benchmarks.gpu --out DIR. See suite.py.

The repository's root is the package `relatent`; this module imports it under that name, then acts like `relatent
bench`, except that the results go to benchmarks/results by default.
"""

import importlib.util
import sys
from pathlib import Path


def main() -> int:
    """Import the package from the clone that holds this file and run its suite."""
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "relatent", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise SystemExit(f"{root} is not a clone of relatent")
    package = importlib.util.module_from_spec(spec)
    sys.modules["relatent"] = package
    spec.loader.exec_module(package)
    results = str(root / "benchmarks" / "results")  # An --out among the arguments overrides this default.
    return int(importlib.import_module("relatent.cli").main(["bench", "--out", results, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
