"""Runs whose pictures have several sizes: the plan, the files, the readers."""

import json

import numpy as np
import pytest
import torch
from helpers import picture
from PIL import Image
from relatent import OptimizationConfig, load_optimized_dataset, optimize_directory, resume_directory, verify_run
from relatent.engine.errors import UsageError
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.exporters.hdf5.reading import read_records
from relatent.factory.export import export_run
from relatent.factory.report import write_report
from relatent.factory.state.run_folder import RunFolder
from streaming_library import streaming_reader

CONFIG = OptimizationConfig(iterations=3)
SIZES = {"a": (48, 32), "b": (32, 48), "c": (48, 32), "d": (32, 32), "e": (37, 48), "f": (32, 48)}  # width, height
NATIVE = {"a": (48, 32), "b": (32, 48), "c": (48, 32), "d": (32, 32), "e": (40, 48), "f": (32, 48)}
ORDER = ["a", "c", "b", "f", "d", "e"]  # those of one size together


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes") / "in"
    folder.mkdir()
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        Image.fromarray(picture(height, width, seed)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def out(pictures, small_vae):
    out = pictures.parent / "out"
    formats = ["hdf5", "pt", "hf", "webdataset", "mds", "safetensors", "kohya", "png"]
    found = optimize_directory(pictures, out, small_vae, config=CONFIG, native=True, flip=True, formats=formats)
    assert found["counts"] == {"total": 6, "done": 6, "failed": 0}
    assert found["settings"] | {"size": None, "native": True, "buckets": None} == found["settings"]
    return out


def cells(size):
    return size[1] // 8, size[0] // 8


def test_a_shard_holds_one_size(out):
    folder = RunFolder.open(out)
    assert [[row.source.name for row in folder.plan.rows(n)] for n in range(len(folder.plan))] == [
        ["a", "c"], ["b", "f"], ["d"], ["e"],
    ]  # fmt: skip
    assert [folder.plan.size(n) for n in range(len(folder.plan))] == [(48, 32), (32, 48), (32, 32), (40, 48)]
    assert [row.source.size for row in folder.plan.all_rows()] == [NATIVE[name] for name in ORDER]


@pytest.mark.parametrize("single", [False, True])
def test_the_dataset_has_a_group_per_size_and_a_table_of_all(out, small_vae, tmp_path, single):
    if single:
        place = export_run(RunFolder.open(out), "hdf5", tmp_path / "single.h5", single_file=True)
    else:
        place = out / "dataset.h5"
    dataset = load_optimized_dataset(place)
    assert [dataset[i]["image_name"] for i in range(6)] == ORDER
    records = [record for batch in read_records(place) for record in batch]
    for index, record in enumerate(records):
        size = NATIVE[record.name]
        sample = dataset[index]
        assert record.optimized_latents.shape == (4, *cells(size))
        assert dataset.sizes()[index] == (size[0] // 8, size[1] // 8)
        assert np.array_equal(sample["optimized_latents"], record.optimized_latents)
        assert np.array_equal(sample["optimized_latents_flipped"], record.views["flipped"].optimized_latents)
        assert sample["original_image"].shape == (3, size[1], size[0])
        assert sample["metrics"]["final_psnr"] == pytest.approx(record.metrics["final_psnr"])
        decoded = small_vae.decode(sample["optimized_latents"].unsqueeze(0))
        assert psnr(decoded, sample["original_image"].unsqueeze(0)).item() == pytest.approx(
            record.metrics["final_psnr"], abs=0.05
        )


@pytest.mark.parametrize(("file", "workers"), [("dataset.h5", 0), ("dataset.h5", 2), ("dataset.pt", 0)])
def test_batches_hold_samples_of_one_size(out, file, workers):
    loader = load_optimized_dataset(out / file).create_dataloader(2, shuffle=False, num_workers=workers)
    batches = [(batch["image_name"], tuple(batch["optimized_latents"].shape[2:])) for batch in loader]
    assert batches == [(["a", "c"], (4, 6)), (["b", "f"], (6, 4)), (["d"], (4, 4)), (["e"], (6, 5))]


def test_formats_keep_each_samples_shape(out):
    from safetensors import safe_open

    names, shapes = [], []
    for shard in sorted((out / "safetensors").glob("*.safetensors")):
        with safe_open(shard, "np") as file:
            latents = file.get_tensor("latents")
            samples = json.loads(file.metadata()["samples"])
            names += [sample["name"] for sample in samples]
            shapes += [latents.shape[2:]] * len(samples)
            assert len(latents) == len(samples)
    assert dict(zip(names, shapes, strict=True)) == {name: cells(size) for name, size in NATIVE.items()}

    cached = {path.name[0]: path.name for path in (out / "kohya").glob("*.npz")}
    assert {name: text.split("_")[1] for name, text in cached.items()} == {
        name: f"{width:04d}x{height:04d}" for name, (width, height) in SIZES.items()
    }
    for name, text in cached.items():
        with np.load(out / "kohya" / text) as arrays:
            key = next(key for key in arrays if key.startswith("latents") and "flipped" not in key)
            assert arrays[key].shape == (4, *cells(NATIVE[name]))


def test_the_hub_reads_each_size_as_a_configuration(out, tmp_path):
    datasets = pytest.importorskip("datasets")
    for name, expected in (("48x32", {"a", "c"}), ("32x48", {"b", "f"}), ("40x48", {"e"})):
        found = datasets.load_dataset(str(out / "hf"), name, cache_dir=str(tmp_path))["train"]
        width, height = map(int, name.split("x"))
        assert set(found["image_name"]) == expected
        assert np.shape(found[0]["optimized_latents"]) == (4, height // 8, width // 8)


def test_mds_reads_every_size_from_one_column(out):
    dataset = streaming_reader("LocalDataset")(local=str(out / "mds"))
    found = {}
    for number in range(len(dataset)):
        sample = dataset[number]
        latents = np.frombuffer(sample["latents"], np.float16).reshape(sample["latents_shape"])
        found[sample["name"]] = (sample["width"], sample["height"])
        assert latents.shape[1:] == cells(found[sample["name"]])
    assert found == NATIVE


def test_the_run_is_sound_and_has_a_report(out, small_vae):
    found = verify_run(out, autoencoder=small_vae)
    assert found["damage"] == []
    assert found["sample"]["decoded"] == 6
    assert write_report(out).stat().st_size > 1000


def test_the_latents_are_those_of_a_run_of_one_size(pictures, out, small_vae, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        (tmp_path / "in" / f"{name}.png").write_bytes((pictures / f"{name}.png").read_bytes())
    optimize_directory(tmp_path / "in", tmp_path / "out", small_vae, config=CONFIG, size=(48, 32), flip=True)
    alone, among = load_optimized_dataset(tmp_path / "out" / "dataset.h5"), load_optimized_dataset(out / "dataset.h5")
    for index in range(2):
        assert torch.equal(alone[index]["optimized_latents"], among[index]["optimized_latents"])
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["size"] == [48, 32]
    assert "buckets" not in settings


def test_an_interrupted_run_goes_on(pictures, vae_folder, out, tmp_path, monkeypatch):
    from relatent.factory.executors.worker import ShardWorker

    original = ShardWorker._batcher_for

    def stop_at_the_third(worker, number):
        if number == 2:
            raise KeyboardInterrupt
        return original(worker, number)

    monkeypatch.setattr(ShardWorker, "_batcher_for", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        optimize_directory(pictures, tmp_path / "out", vae_folder, config=CONFIG, native=True, device="cpu")
    monkeypatch.undo()
    assert RunFolder.open(tmp_path / "out").unfinished() == [2, 3]
    found = resume_directory(tmp_path / "out")
    assert found["counts"]["done"] == 6
    whole, resumed = load_optimized_dataset(out / "dataset.h5"), load_optimized_dataset(tmp_path / "out" / "dataset.h5")
    for index in range(6):
        assert torch.equal(whole[index]["optimized_latents"], resumed[index]["optimized_latents"])


def test_a_trainers_buckets(small_vae, tmp_path):
    (tmp_path / "in").mkdir()
    for seed, size in enumerate([(96, 96), (160, 64), (64, 160)]):
        Image.fromarray(picture(size[1], size[0], seed)).save(tmp_path / "in" / f"{seed}.png")
    rule = "sd-scripts:64,step=8,min=32,max=128"
    optimize_directory(tmp_path / "in", tmp_path / "out", small_vae, config=CONFIG, buckets=rule)
    records = {record.name: record for batch in read_records(tmp_path / "out" / "dataset.h5") for record in batch}
    assert records["0"].optimized_latents.shape == (4, 8, 8)
    wide, tall = records["1"].optimized_latents.shape, records["2"].optimized_latents.shape
    assert wide == (4, *tall[:0:-1])
    assert wide[2] > wide[1]
    target = from_uint8(torch.from_numpy(records["1"].images["original"])).permute(2, 0, 1).unsqueeze(0)
    decoded = small_vae.decode(torch.from_numpy(records["1"].optimized_latents).unsqueeze(0))
    assert psnr(decoded, target).item() == pytest.approx(records["1"].metrics["final_psnr"], abs=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(native=True, size=32), "give one of them"),
        (dict(native=True, buckets="sd-scripts"), "exclude each other"),
        (dict(size=(48, 20)), "size 20 does not fit"),
        (dict(native=True, formats=["fast-dit"]), "squares of one size"),
        (dict(size=(48, 32), formats=["repa"]), "squares of one size"),
        (dict(max_pixels=4096), "max_pixels limits"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(pictures, small_vae, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        optimize_directory(pictures, tmp_path / "out", small_vae, config=CONFIG, **options)
    assert not (tmp_path / "out" / "run.json").exists()


def test_another_rule_is_another_run(pictures, out, small_vae):
    with pytest.raises(UsageError, match="holds another run: size was None, now 32"):
        optimize_directory(pictures, out, small_vae, config=CONFIG, size=32, flip=True)


def trainers_bucket(width, height, area=512 * 512, step=64, least=256, most=1024):
    """The bucket of a picture, from sd-scripts' documentation: sides are multiples of 64 from 256 to 1024, of at most
    512² pixels; of those, the one whose aspect ratio is nearest to the picture's."""
    buckets = {(int(area**0.5) // step * step,) * 2}
    for side in range(least, most + 1, step):
        other = min(most, area // side // step * step)
        if other >= least:
            buckets |= {(side, other), (other, side)}
    return min(sorted(buckets), key=lambda size: abs(size[0] / size[1] - width / height))


def test_a_folder_of_twelve_aspect_ratios_becomes_the_trainers_cache(small_vae, tmp_path):
    ratios = [(1, 1), (4, 3), (3, 2), (16, 9), (2, 1), (5, 4), (3, 4), (2, 3), (9, 16), (1, 2), (4, 5), (21, 9)]
    (tmp_path / "in").mkdir()
    sizes = {}
    for number in range(60):
        wide, tall = ratios[number % 12]
        height = round((300 + 7 * number) * (tall / wide) ** 0.5)
        sizes[f"{number:02d}"] = (round(height * wide / tall), height)
        Image.fromarray(picture(height, sizes[f"{number:02d}"][0], number)).save(tmp_path / "in" / f"{number:02d}.png")
    config = OptimizationConfig(iterations=1, precondition=False, warm_start=0)
    options = dict(config=config, buckets="sd-scripts:512", formats=["kohya"], keep_images=False)
    found = optimize_directory(tmp_path / "in", tmp_path / "out", small_vae, **options)
    assert found["counts"] == {"total": 60, "done": 60, "failed": 0}
    files = list((tmp_path / "out" / "kohya").glob("*.npz"))
    assert len(files) == 60
    for file in files:
        width, height = sizes[file.name[:2]]
        expected = trainers_bucket(width, height)
        with np.load(file) as arrays:
            key = next(key for key in arrays if key.startswith("latents"))
            assert arrays[key].shape == (4, expected[1] // 8, expected[0] // 8)
            assert tuple(arrays["original_size"]) == (width, height)
    assert len({trainers_bucket(*size) for size in sizes.values()}) > 5


def latents_by_name(folder, name):
    """Unscaled latents, name -> (C, h, w), of a format's folder, as its consumer reads them."""
    if name == "safetensors":
        from safetensors import safe_open

        found = {}
        for shard in folder.glob("*.safetensors"):
            with safe_open(shard, "np") as file:
                names = [sample["name"] for sample in json.loads(file.metadata()["samples"])]
                found |= dict(zip(names, file.get_tensor("latents"), strict=True))
        return found
    if name == "webdataset":
        wds = pytest.importorskip("webdataset")
        samples = wds.WebDataset([str(path) for path in folder.glob("*.tar")], shardshuffle=False).decode()
        return {sample["json"]["name"]: sample["latents.npy"] for sample in samples}
    if name == "mds":
        dataset = streaming_reader("LocalDataset")(local=str(folder))
        return {
            sample["name"]: np.frombuffer(sample["latents"], np.float16).reshape(sample["latents_shape"])
            / sample["scaling_factor"]
            for sample in map(dataset.__getitem__, range(len(dataset)))
        }
    return {
        record.name: record.optimized_latents
        for file in folder.glob("data/*/*.h5")
        for batch in read_records(file)
        for record in batch
    }


@pytest.mark.parametrize("name", ["hf", "webdataset", "mds", "safetensors"])
def test_every_format_decodes_to_the_recorded_quality(out, small_vae, name):
    found = latents_by_name(out / name, name)
    records = {record.name: record for batch in RunFolder.open(out).records() for record in batch}
    assert set(found) == set(records) == set(SIZES)
    for key, latents in found.items():
        target = from_uint8(torch.from_numpy(records[key].images["original"])).permute(2, 0, 1).unsqueeze(0)
        decoded = small_vae.decode(torch.from_numpy(latents.astype(np.float32)).unsqueeze(0))
        assert psnr(decoded, target).item() == pytest.approx(records[key].metrics["final_psnr"], abs=0.05)
