import pickle
import shutil
import traceback
from pathlib import Path

import h5py
import numpy as np
import pytest
import relatent
import torch
from helpers import flip
from relatent.engine.errors import DatasetError
from relatent.engine.losses.metrics import psnr
from relatent.exporters.hdf5.reading import read_records
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder


def make(root, vae, **options):
    from helpers import picture
    from PIL import Image

    (root / "in").mkdir()
    for seed in range(5):
        Image.fromarray(picture(seed=seed)).save(root / "in" / f"{seed}.png")
    config = relatent.OptimizationConfig(iterations=3)
    run = relatent.optimize_directory(
        root / "in", root / "out", vae, config=config, formats=["hdf5", "pt"], size=32, **options
    )
    return run["outputs"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, small_vae):
    return make(tmp_path_factory.mktemp("read"), small_vae)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory, small_vae):
    return make(tmp_path_factory.mktemp("mirrored"), small_vae, flip=True)


@pytest.mark.parametrize("name", ["hdf5", "pt"])
def test_samples_and_metadata(outputs, name):
    dataset = relatent.load_optimized_dataset(outputs[name])
    assert len(dataset) == 5
    sample = dataset[1]
    assert set(sample) == {"image_name", "initial_latents", "optimized_latents", "metrics", "original_image"}
    assert sample["image_name"] == "1"
    assert sample["optimized_latents"].shape == (4, 4, 4)
    assert sample["optimized_latents"].dtype == torch.float32
    assert sample["original_image"].shape == (3, 32, 32)
    assert -1.0 <= sample["original_image"].min() < sample["original_image"].max() <= 1.0
    assert all(isinstance(value, float) for value in sample["metrics"].values())
    assert dataset[-1]["image_name"] == "4"
    with pytest.raises(IndexError):
        dataset[5]
    metadata = dataset.get_metadata()
    assert metadata["total_samples"] == 5
    assert metadata["latents_scaled"] is False
    assert metadata["vae"]["latent_channels"] == 4


def test_both_formats_hold_the_same(outputs):
    first, second = (relatent.load_optimized_dataset(outputs[name]) for name in ("hdf5", "pt"))
    for a, b in zip(first, second, strict=True):
        assert a["image_name"] == b["image_name"]
        assert torch.equal(a["optimized_latents"], b["optimized_latents"])
        assert torch.equal(a["original_image"], b["original_image"])
        assert a["metrics"] == pytest.approx(b["metrics"])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["hdf5", "pt"])
def test_dataloader(outputs, name, workers):
    dataset = relatent.load_optimized_dataset(outputs[name])
    dataset[0]  # a file opened here must not travel to the workers
    options = {"multiprocessing_context": "spawn"} if workers else {}
    loader = dataset.create_dataloader(batch_size=2, shuffle=True, num_workers=workers, **options)
    names, count = set(), 0
    for batch in loader:
        names |= set(batch["image_name"])
        count += len(batch["image_name"])
        assert batch["optimized_latents"].shape[1:] == (4, 4, 4)
        assert batch["metrics"]["final_psnr"].shape == batch["optimized_latents"].shape[:1]
    assert names == {"0", "1", "2", "3", "4"}
    assert count == 5


@pytest.mark.parametrize("name", ["hdf5", "pt"])
def test_flipped_latents_are_in_samples_and_batches(mirrored, small_vae, name):
    dataset = relatent.load_optimized_dataset(mirrored[name])
    for sample in dataset:
        assert set(sample) == {
            "image_name", "initial_latents", "optimized_latents", "metrics", "original_image", "initial_latents_flipped",
            "optimized_latents_flipped", "metrics_flipped",
        }  # fmt: skip
        for suffix, target in (("", sample["original_image"]), ("_flipped", sample["original_image"].flip(-1))):
            for stage in ("initial", "optimized"):
                decoded = small_vae.decode(sample[f"{stage}_latents{suffix}"].unsqueeze(0))
                recorded = sample[f"metrics{suffix}"][f"{stage.replace('optimized', 'final')}_psnr"]
                assert psnr(decoded, target.unsqueeze(0)).item() == pytest.approx(recorded, abs=1e-3)
    for batch in dataset.create_dataloader(batch_size=2):
        assert batch["optimized_latents_flipped"].shape == batch["optimized_latents"].shape
        assert batch["metrics_flipped"]["final_psnr"].shape == batch["metrics"]["final_psnr"].shape


def test_files_that_are_no_dataset(tmp_path, outputs):
    cases = {
        "missing.h5": None,
        "text.h5": b"no hdf5",
        "text.pt": b"no zip",
        "empty.pt": b"",
        "name.csv": b"",
    }
    for name, content in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=name):
            relatent.load_optimized_dataset(tmp_path / name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(DatasetError, match="no dataset of schema"):
        relatent.load_optimized_dataset(tmp_path / "other.h5")
    torch.save({"x": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(DatasetError, match="no dataset of schema"):
        relatent.load_optimized_dataset(tmp_path / "other.pt")
    for name in ("hdf5", "pt"):
        path = tmp_path / f"cut{outputs[name][-3:]}"
        content = Path(outputs[name]).read_bytes()
        path.write_bytes(content[: len(content) // 3])
        with pytest.raises(DatasetError, match="cut"):
            relatent.load_optimized_dataset(path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_no_pickle_is_executed(tmp_path, save):
    trace = tmp_path / "executed"
    save({"metadata": Hostile(str(trace))}, tmp_path / "hostile.pt")
    with pytest.raises(
        DatasetError, match=r"damaged or no dataset .*; export it again, or `relatent verify OUT --repair`$"
    ) as caught:
        relatent.load_optimized_dataset(tmp_path / "hostile.pt")
    assert "weights_only=False" not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_a_flipped_bit_of_a_pt_file_is_found(tmp_path, outputs):
    content = bytearray(Path(outputs["pt"]).read_bytes())
    latents = torch.load(outputs["pt"], weights_only=True)["optimized_latents"].numpy().tobytes()
    content[content.index(latents[:64]) + 3] ^= 16
    (tmp_path / "flipped.pt").write_bytes(content)
    with pytest.raises(DatasetError, match=r"is damaged at .*data.*verify OUT --repair"):
        relatent.load_optimized_dataset(tmp_path / "flipped.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pt_file_without_checksums_is_no_damaged_one(tmp_path, outputs, zipped):
    content = torch.load(outputs["pt"], weights_only=True)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, tmp_path / "without.pt", _use_new_zipfile_serialization=zipped)
    finally:
        torch.serialization.set_crc32_options(True)
    dataset = relatent.load_optimized_dataset(tmp_path / "without.pt")
    assert torch.equal(dataset[4]["optimized_latents"], content["optimized_latents"][4])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda content: content.pop("optimized_latents"), "as optimized_latents, found nothing"),
        (lambda content: content.update(optimized_latents="x"), "as optimized_latents, found a str"),
        (lambda content: content.update(optimized_latents=torch.zeros(3, 4, 4, 4)), "found 3 samples"),
        (lambda content: content.update(original_images=torch.zeros(1, 32, 32, 3)), "as original_images, found 1"),
        (lambda content: content.update(image_name="x"), "image_name, found a str"),
        (lambda content: content.pop("metrics"), "metrics, found nothing"),
        (lambda content: content["metrics"].update(final_psnr=torch.zeros(2)), "metrics/final_psnr, found 2"),
        (lambda content: content.update(metadata=[1]), "no dataset of schema"),
        (lambda content: content.update(image_name=[1] * 5), "image_name, found other things"),
        (
            lambda content: content.update(initial_latents=torch.zeros(5)),
            r"initial_latents, found one of shape \(\) and",
        ),
        (
            lambda content: content.update(initial_latents=torch.zeros(5, 4, 4, 4).int()),
            "a floating type as initial_latents",
        ),
        (lambda content: content.update(original_images=torch.zeros(5, 8, 8, 3)), "of uint8 as original_images"),
    ],
)
def test_columns_of_a_pt_file_that_do_not_belong_together(tmp_path, outputs, change, word):
    content = torch.load(outputs["pt"], weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.pt")
    with pytest.raises(DatasetError, match=word):
        relatent.load_optimized_dataset(tmp_path / "changed.pt")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda file: file.__delitem__("image_name"), "image_name"),
        (lambda file: file.attrs.__delitem__("vae"), "vae"),
        (lambda file: file.attrs.modify("config", "{"), "damaged or no dataset .*attribute config is no JSON"),
        (lambda file: file.attrs.modify("vae", "[]"), "attribute vae is no JSON object, but a list"),
        (lambda file: file.__delitem__("initial_latents"), "expected 5 rows as initial_latents, found nothing"),
        (lambda file: file.__delitem__("metrics"), "expected a group of metrics as metrics, found none"),
        (lambda file: file["stop_reason"].resize(3, axis=0), r"5 rows as stop_reason, found shape \(3,\)"),
        (
            lambda file: file["metrics/final_psnr"].resize(3, axis=0),
            r"5 rows as metrics/final_psnr, found shape \(3,\)",
        ),
    ],
)
def test_an_hdf5_file_that_lacks_something(tmp_path, outputs, change, word):
    path = Path(shutil.copytree(Path(outputs["hdf5"]).parent, tmp_path / "out")) / "dataset.h5"
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=word) as caught:
        relatent.load_optimized_dataset(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [lambda file: file.__delitem__("initial_latents"), lambda file: file["initial_latents"].resize(1, axis=0)]
)
def test_a_shard_that_lacks_something_is_an_error_of_the_sample(tmp_path, outputs, change):
    out = Path(shutil.copytree(Path(outputs["hdf5"]).parent, tmp_path / "out"))
    shard = next(out.glob("shards/*.h5"))
    with h5py.File(shard, "r+") as file:
        change(file)
    dataset = relatent.load_optimized_dataset(out / "dataset.h5")
    with pytest.raises(DatasetError, match=r"dataset\.h5: sample [01] .* is damaged"):
        list(dataset)


def test_records_of_a_file_that_lacks_a_column(tmp_path, outputs):
    for name in ("image_name", "losses"):
        path = shutil.copy(next(Path(outputs["hdf5"]).parent.glob("shards/*.h5")), tmp_path / f"{name}.h5")
        with h5py.File(path, "r+") as file:
            del file[name]
        with pytest.raises(DatasetError, match=f"{name}.h5 is damaged: .*{name}"):
            list(read_records(path))


@pytest.mark.parametrize("virtual", [True, False])
def test_a_flipped_bit_is_found_when_the_sample_is_read(tmp_path, outputs, virtual):
    out = tmp_path / "out"
    shutil.copytree(Path(outputs["hdf5"]).parent, out)
    file = next(out.glob("shards/*.h5"))
    if not virtual:
        file = export_run(RunFolder.open(out), "hdf5", single_file=True)
    flip(file, "optimized_latents", 2)
    dataset = relatent.load_optimized_dataset(out / "dataset.h5")
    dataset[1]
    with pytest.raises(DatasetError, match="sample 2"):
        dataset[2]


def test_shards_open_as_datasets(outputs):
    folder = RunFolder.open(Path(outputs["hdf5"]).parent)
    shard = next(folder.out.glob("shards/*.h5"))
    assert len(relatent.load_optimized_dataset(shard)) == 5
