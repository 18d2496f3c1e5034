"""Generation: the folder it writes is one that the validators read."""

import json

import numpy as np
import pytest
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.systems.spectrogram.data.spectrogram_folder import read_index
from relatent.systems.spectrogram.validation.pictures import read_generated
from relatent.systems.spectrogram.vq.generate import VQGenerationSettings, generate_vq


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_folder(vq_dir, tmp_path):
    shown = []
    result = generate_vq(vq_dir, tmp_path, 2, device="cpu", batch_size=3, on_step=lambda *done: shown.append(done))
    assert shown == [(3, 4), (4, 4)]
    assert (result["samples"], result["new"], result["simulated"]) == (4, 4, True)
    assert [(one.user, one.path.name) for one in read_generated(tmp_path)] == [
        (user, f"sample_{index:04d}.png") for user in range(2) for index in range(2)
    ]
    index = read_index(tmp_path)
    assert index["simulated"] is index["generated"] is True
    assert index["generation"] == json.loads((tmp_path / "generation.json").read_text())
    assert pixels(tmp_path / "ID_2/sample_0001.png").shape == (32, 32, 3)


def test_it_goes_on_and_samples_stay_the_same(vq_dir, tmp_path):
    generate_vq(vq_dir, tmp_path / "all", 3, device="cpu")
    generate_vq(vq_dir, tmp_path / "parts", 1, [2], device="cpu")
    before = (tmp_path / "parts/ID_2/sample_0000.png").stat().st_mtime_ns
    assert generate_vq(vq_dir, tmp_path / "parts", 3, device="cpu", batch_size=1)["new"] == 5
    assert (tmp_path / "parts/ID_2/sample_0000.png").stat().st_mtime_ns == before
    names = sorted(path.relative_to(tmp_path / "all") for path in (tmp_path / "all").glob("ID_*/*.png"))
    assert len(names) == 6
    for name in names:
        difference = pixels(tmp_path / "all" / name).astype(int) - pixels(tmp_path / "parts" / name)
        assert np.abs(difference).max() <= 1


def test_what_does_not_exist_is_refused(vq_dir, tmp_path):
    with pytest.raises(UsageError, match="numbers from 1 to 2"):
        generate_vq(vq_dir, tmp_path, 1, [3])
    with pytest.raises(UsageError, match="batch_size"):
        generate_vq(vq_dir, tmp_path, 1, batch_size=0)
    generate_vq(vq_dir, tmp_path, 1, [1], device="cpu")
    with pytest.raises(UsageError, match="another temperature"):
        generate_vq(vq_dir, tmp_path, 1, settings=VQGenerationSettings(temperature=0.5))
