"""Make the README's picture: original, encoder's reconstruction, optimised reconstruction, and the errors of both.

python examples/make_picture.py docs/images/comparison.png
"""

import sys
import tempfile
from pathlib import Path

import relatent
import skimage.data
from relatent.exporters.summaries.figures import overview
from relatent.factory.state.run_folder import RunFolder

PHOTOGRAPHS = ("chelsea.png", "coffee.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(skimage.data.__file__).parent
        listed = Path(folder) / "photographs.txt"
        listed.write_text("".join(f"{here / name}\n" for name in PHOTOGRAPHS), encoding="utf-8")
        relatent.optimize_directory(listed, Path(folder) / "out", "tiny")
        records = [record for batch in RunFolder.open(Path(folder) / "out").records() for record in batch]
        overview(records).save(sys.argv[1], optimize=True)


if __name__ == "__main__":
    main()
