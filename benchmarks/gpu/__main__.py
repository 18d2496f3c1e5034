"""Everything that needs a GPU to be measured, by one command; see docs/gpu.md.

python -m benchmarks.gpu --out DIR [--budget 500]     in a clone, nothing installed but torch, numpy, Pillow, pytest
python -m relatent.benchmarks.gpu --out DIR           where relatent is installed
"""

import os
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run the command. In a clone the repository's root is made the package `relatent`, for child processes too."""
    if __package__ == "benchmarks.gpu":
        folder = tempfile.TemporaryDirectory()
        Path(folder.name, "relatent").symlink_to(Path(__file__).resolve().parents[2], target_is_directory=True)
        sys.path.insert(0, folder.name)
        os.environ["PYTHONPATH"] = os.pathsep.join([folder.name, *filter(None, [os.environ.get("PYTHONPATH")])])
    from relatent.benchmarks.gpu.command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
