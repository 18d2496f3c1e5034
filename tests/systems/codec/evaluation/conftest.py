"""The published curves, where they are."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[5] / "shared"


@pytest.fixture(scope="session")
def references() -> Path:
    folder = SHARED / "data" / "codec" / "reference_rd"
    if not folder.is_dir():
        pytest.skip("../shared/data/codec/reference_rd is not here: the published curves are not part of the project")
    return folder
