"""Small volumes with a bright cube as anomaly, and a mapper that needs no model."""

from pathlib import Path

import pytest
from cubes import LevelMapper, write_cubes
from relatent.systems.anomaly.data.volume import Volume


@pytest.fixture
def base() -> LevelMapper:
    return LevelMapper()


@pytest.fixture
def cubes(tmp_path: Path) -> list[Volume]:
    return write_cubes(tmp_path / "cubes", 6)
