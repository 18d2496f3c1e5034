"""Real volumes, where they are, and writers of small scans."""

from pathlib import Path

import pytest

VOLUMES = Path(__file__).resolve().parents[5] / "shared" / "data" / "volumes"


@pytest.fixture(scope="session")
def real_volumes() -> Path:
    if not VOLUMES.is_dir():
        pytest.skip("../shared/data/volumes is not here: the scans are not part of the project")
    return VOLUMES
