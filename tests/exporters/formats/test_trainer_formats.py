"""Formats of trainers and hubs, from one run with --flip: read back by the consumer's own reader where there is one, by its
documented layout otherwise, and decoded to the recorded quality."""

import base64
import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import relatent
import torch
from helpers import picture, small_kl
from PIL import Image
from relatent.engine.errors import UsageError
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.exporters.base.exporter import exporter_class, make_exporter
from relatent.factory.export import export_run
from relatent.factory.state.run_folder import RunFolder
from streaming_library import streaming_reader

TRAINERS = [
    "ai-toolkit", "comfyui", "fast-dit", "hf", "kohya", "lightningdit", "mar", "mds", "onetrainer", "repa", "safetensors",
    "simpletuner", "webdataset",
]  # fmt: skip
FP16 = {"mds"}
FLIPPED = {"hf", "kohya", "lightningdit", "mar", "mds", "safetensors", "webdataset"}  # that hold mirrored latents
SOURCES = (
    "train/dog/second.png",
    "train/cat/first.png",
    "val/cat/naïve 写真.png",
    "test/dog/img.v2.png",
    "test/dog/img.v3.png",
)
CLASSES = ["cat", "dog"]


@pytest.fixture(scope="module")
def vae():
    """With a shift, which formats must subtract or not."""
    return relatent.load_autoencoder(small_kl(shift_factor=0.75), device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory, vae):
    root = tmp_path_factory.mktemp("trainers")
    for seed, name in enumerate(SOURCES):
        (root / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed=seed)).save(root / "in" / name)
    config = relatent.OptimizationConfig(iterations=4)
    relatent.optimize_directory(
        root / "in", root / "out", vae, config=config, formats=TRAINERS, size=32, batch_size=2, flip=True
    )
    return RunFolder.open(root / "out")


@pytest.fixture(scope="module")
def records(run):
    return {record.name: record for batch in run.records() for record in batch}


def in_split(records, split):
    return [record for record in records.values() if record.split == split]


# Readers: the folder -> {name: (latents as stored, those of the mirrored picture or None)}


def read_webdataset(folder, records):
    wds = pytest.importorskip("webdataset")
    found = {}
    for split in ("train", "val", "test"):
        urls = [str(path) for path in sorted(folder.glob(f"{split}-*.tar"))]
        for sample in wds.WebDataset(urls, shardshuffle=False).decode("rgb8"):
            facts = sample["json"]
            record = records[facts["name"]]
            assert (facts["split"], facts["source_path"]) == (split, record.source_path)
            assert facts["metrics"] == pytest.approx(record.metrics)
            assert (facts["latents_scaled"], facts["scaling_factor"], facts["shift_factor"]) == (False, 0.3, 0.75)
            assert CLASSES[sample["cls"]] == Path(record.source_path).parent.name
            assert np.array_equal(sample["png"], record.images["original"])
            found[facts["name"]] = (sample["latents.npy"], sample["latents_flipped.npy"])
    return found


def read_mds(folder, records):
    reader = streaming_reader("LocalDataset")
    found = {}
    for split in ("train", "val", "test"):
        dataset = reader(local=str(folder), split=split)
        assert len(dataset) == len(in_split(records, split))
        for i in range(len(dataset)):
            sample = dataset[i]
            record = records[sample["name"]]
            assert (sample["split"], sample["source_path"]) == (split, record.source_path)
            assert (sample["caption"], CLASSES[sample["label"]]) == ("", Path(record.source_path).parent.name)
            sizes = [int(sample[key]) for key in ("width", "height", "original_width", "original_height")]
            assert sizes == [32, 32, 64, 48]
            assert sample["latents_shape"] == [4, 4, 4]
            assert sample["facts"]["metrics"] == pytest.approx(record.metrics)
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample["jpg"]))), record.images["original"])
            found[record.name] = tuple(
                np.frombuffer(sample[f"latents_32{suffix}"], np.float16).reshape(4, 4, 4).astype(np.float32)
                for suffix in ("", "_flipped")
            )
    return found


def read_safetensors(folder, records):
    from safetensors import safe_open

    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
            samples = json.loads(metadata["samples"])
            assert {"schema", "format", "vae", "samples"} < set(metadata)
            assert json.loads(metadata["latents_scaled"]) is False
            assert (json.loads(metadata["scaling_factor"]), json.loads(metadata["shift_factor"])) == (0.3, 0.75)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dictionary
        assert set(tensors) == {"latents", "latents_flipped", "labels"}
        assert tensors["labels"].dtype == np.int64
        for i, facts in enumerate(samples):
            record = records[facts["name"]]
            assert path.name.startswith(record.split)
            assert CLASSES[tensors["labels"][i]] == Path(record.source_path).parent.name
            assert facts["metrics"] == pytest.approx(record.metrics)
            found[record.name] = (tensors["latents"][i], tensors["latents_flipped"][i])
    return found


def read_lightningdit(folder, records):
    """As its dataset does: shards in the order of their names, statistics beside them."""
    from safetensors import safe_open

    found = {}
    for split in ("train", "val", "test"):
        expected = iter(in_split(records, split))
        everything = []
        paths = sorted((folder / split).glob("*.safetensors"))
        assert [path.name for path in paths] == [f"latents_rank00_shard{i:03d}.safetensors" for i in range(len(paths))]
        for path in paths:
            with safe_open(path, framework="pt") as file:
                count = file.get_slice("labels").get_shape()[0]
                for i in range(count):
                    record = next(expected)
                    assert CLASSES[file.get_slice("labels")[i : i + 1].item()] == Path(record.source_path).parent.name
                    latents, flipped = (file.get_slice(key)[i : i + 1] for key in ("latents", "latents_flip"))
                    everything.append(latents)
                    found[record.name] = (latents[0].numpy(), flipped[0].numpy())
        assert next(expected, None) is None
        stats = torch.load(folder / split / "latents_stats.pt", weights_only=True)
        latents = torch.cat(everything)
        for key in ("mean", "std"):
            expected_stats = getattr(latents, key)(dim=[0, 2, 3], keepdim=True)
            torch.testing.assert_close(stats[key], expected_stats, rtol=1e-5, atol=1e-6)
    return found


def read_hf(folder, records):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(folder.parent.parent / "cache"))
    assert set(loaded) == {"train", "val", "test"}
    found = {}
    for split, dataset in loaded.items():
        for row in dataset.with_format("numpy"):
            record = records[str(row["image_name"])]
            assert (row["split"], row["source_path"]) == (split, record.source_path)
            assert np.array_equal(row["images"]["original"], record.images["original"])
            assert np.array_equal(row["initial_latents"], record.initial_latents)
            assert row["metrics"]["final_psnr"] == pytest.approx(record.metrics["final_psnr"])
            found[record.name] = (row["optimized_latents"], row["optimized_latents_flipped"])
    return found


def read_kohya(folder, records):
    found = {}
    for record in records.values():
        path = folder / Path(record.source_path).with_suffix("")
        with np.load(f"{path}_0064x0048_sd.npz") as file:
            bare = {"latents", "original_size", "crop_ltrb", "latents_flipped"}
            assert set(file) == bare | {f"{key}_4x4" for key in bare}
            assert all(np.array_equal(file[key], file[f"{key}_4x4"]) for key in bare)
            assert file["original_size"].tolist() == [64, 48]
            assert file["crop_ltrb"].tolist() == [0, 4, 32, 28]  # 64 x 48 in the middle of 32 x 32
            found[record.name] = (file["latents"], file["latents_flipped"])
    return found


def read_ai_toolkit(folder, records):
    from safetensors.numpy import load_file

    found = {}
    for record in records.values():
        path = Path(record.source_path)
        space = f"relatent-{relatent_hash(folder)[:8]}"
        text = (  # what the trainer hashes of a 64 x 48 picture with square_crop at 32: scaled to 43 x 32, 5 cut away
            f'{{"crop_height": 32, "crop_width": 32, "crop_x": 5, "crop_y": 0, "filename": {json.dumps(path.name)}, '
            f'"latent_space_version": "{space}", "latent_version": 1, "scale_to_height": 32, "scale_to_width": 43}}'
        )
        name = base64.urlsafe_b64encode(hashlib.md5(text.encode()).digest()).decode().replace("=", "")
        tensors = load_file(folder / path.parent / "_latent_cache" / f"{path.stem}_{name}.safetensors")
        assert set(tensors) == {"latent"}
        found[record.name] = (tensors["latent"], None)
    return found


def read_simpletuner(folder, records):
    found = {}
    for record in records.values():
        path = Path(record.source_path)
        name = hashlib.sha256(path.stem.encode()).hexdigest()
        latents = torch.load(folder / path.parent / f"{name}.pt", weights_only=True)
        assert (latents.shape, latents.dtype) == ((4, 4, 4), torch.float32)
        found[record.name] = (latents.numpy(), None)
    return found


def read_onetrainer(folder, records):
    """As its cache does: the paths of a folder sorted, one numbered file each."""
    found = {}
    for split in ("train", "val", "test"):
        root = folder / split / "variation-0"
        expected = sorted(in_split(records, split), key=lambda record: record.source_path)
        aggregate = torch.load(root / "aggregate.pt", weights_only=True)
        assert aggregate == [{"crop_resolution": (32, 32), "image_path": record.source_path} for record in expected]
        assert len(list(root.iterdir())) == len(expected) + 1
        for i, record in enumerate(expected):
            item = torch.load(root / f"{i}.pt", weights_only=True)
            assert set(item) == {"latent_image", "original_resolution", "crop_offset"}
            assert (item["original_resolution"], item["crop_offset"]) == ((48, 64), (0, 5))  # 64 x 48 scaled to 43 x 32
            assert (item["latent_image"].shape, item["latent_image"].dtype) == ((4, 4, 4), torch.float32)
            found[record.name] = (item["latent_image"].numpy(), None)
    return found


def read_comfyui(folder, records):
    from safetensors.numpy import load_file

    found = {}
    for record in records.values():
        tensors = load_file(folder / f"{record.name}.latent")
        assert set(tensors) == {"latent_tensor", "latent_format_version_0"}
        assert tensors["latent_format_version_0"].shape == (0,)
        assert tensors["latent_tensor"].shape == (1, 4, 4, 4)
        found[record.name] = (tensors["latent_tensor"][0], None)
    return found


def relatent_hash(folder):
    return json.loads((folder / "relatent.json").read_text())["vae"]["weights_sha256"]


def read_repa(folder, records):
    """As its dataset does: both lists of files sorted, labels by the features' names."""
    found = {}
    for split in ("train", "val", "test"):
        root = folder / split
        labels = dict(json.loads((root / "vae-sd" / "dataset.json").read_text())["labels"])
        images = sorted(path for path in (root / "images").rglob("*") if path.is_file())
        features = sorted((root / "vae-sd").rglob("*.npy"))
        expected = in_split(records, split)
        assert len(images) == len(features) == len(labels) == len(expected)
        for i, record in enumerate(expected):
            name = features[i].relative_to(root / "vae-sd").as_posix()
            assert name == f"00000/img-mean-std-{i:08d}.npy"
            assert CLASSES[labels[name]] == Path(record.source_path).parent.name
            assert np.array_equal(np.asarray(Image.open(images[i])), record.images["original"])
            moments = np.load(features[i])
            assert (moments.shape, moments.dtype) == ((8, 4, 4), np.float32)
            assert not moments[4:].any()
            found[record.name] = (moments[:4], None)
    return found


def read_mar(folder, records):
    from torchvision.datasets import DatasetFolder

    found = {}
    for split in ("train", "val", "test"):
        dataset = DatasetFolder(str(folder / split), loader=np.load, extensions=(".npz",))
        expected = {record.name: record for record in in_split(records, split)}
        assert len(dataset) == len(expected)
        for i, (path, label) in enumerate(dataset.samples):
            record = expected[Path(path).stem]
            assert dataset.classes[label] == Path(record.source_path).parent.name
            file, _ = dataset[i]
            assert set(file) == {"moments", "moments_flip"}
            for key in file:
                assert (file[key].shape, file[key].dtype) == ((8, 4, 4), np.float32)
                assert (file[key][4:] == -30).all()
            found[record.name] = (file["moments"][:4], file["moments_flip"][:4])
    return found


def read_fast_dit(folder, records):
    """As its dataset does: both folders' files sorted."""
    found = {}
    for split in ("train", "val", "test"):
        features, labels = (folder / split / f"imagenet256_{kind}" for kind in ("features", "labels"))
        names = sorted(path.name for path in features.iterdir())
        assert names == sorted(path.name for path in labels.iterdir()) == [f"{i}.npy" for i in range(len(names))]
        for name, record in zip(names, in_split(records, split), strict=True):
            latents, label = np.load(features / name), np.load(labels / name)
            assert (latents.shape, latents.dtype) == ((1, 4, 4, 4), np.float32)
            assert (label.shape, label.dtype) == ((1,), np.int64)
            assert CLASSES[label[0]] == Path(record.source_path).parent.name
            found[record.name] = (latents[0], None)
    return found


READERS = {name: globals()[f"read_{name.replace('-', '_')}"] for name in TRAINERS}


def unscaled(latents, provenance):
    """What the decoder takes, by what the export states."""
    if not provenance["latents_scaled"]:
        return latents
    shift = provenance["shift_factor"] if provenance["shift_subtracted"] else 0.0
    return latents / provenance["scaling_factor"] + shift


def quality(vae, latents, target):
    target = from_uint8(torch.from_numpy(target.copy())).permute(2, 0, 1).unsqueeze(0)
    return psnr(vae.decode(torch.from_numpy(np.array(latents)).unsqueeze(0)), target).item()


def check(name, folder, records, vae):
    found = READERS[name](folder, records)
    assert set(found) == set(records)
    provenance = json.loads((folder / "relatent.json").read_text())
    for record in records.values():
        original = record.images["original"]
        sides = [(found[record.name][0], record, original)]
        if name in FLIPPED:
            sides.append((found[record.name][1], record.views["flipped"], original[:, ::-1]))
        for stored, outcome, target in sides:
            assert stored.dtype == np.float32
            latents = unscaled(stored, provenance).astype(np.float32)
            if name in FP16:
                np.testing.assert_allclose(latents, outcome.optimized_latents, rtol=2e-3, atol=2e-3)
            elif provenance["latents_scaled"]:
                np.testing.assert_allclose(latents, outcome.optimized_latents, rtol=1e-5, atol=1e-5)
            else:
                assert np.array_equal(latents, outcome.optimized_latents)
            margin = 0.1 if name in FP16 else 0.05
            assert quality(vae, latents, target) == pytest.approx(outcome.metrics["final_psnr"], abs=margin)


@pytest.mark.parametrize("name", TRAINERS)
def test_what_is_read_back_decodes_to_the_recorded_quality(run, records, vae, name):
    check(name, run.out / name, records, vae)


@pytest.mark.parametrize("name", ["hf", "lightningdit", "mds", "safetensors", "webdataset"])
def test_many_shards(run, records, vae, name, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter_class(name), "shard_samples", 1)
    folder = export_run(run, name, tmp_path / "x" / name)
    pattern = {"hf": "*.h5", "mds": "*.mds", "webdataset": "*.tar"}.get(name, "*.safetensors")
    assert len(list(folder.rglob(pattern))) == 5
    check(name, folder, records, vae)


def test_streaming_dataset_of_the_trainer_reads_the_mds(run, records):
    """The class MosaicML's diffusion trainer derives its own from, opened as that does."""
    reader = streaming_reader("StreamingDataset")
    dataset = reader(local=str(run.out / "mds" / "train"), shuffle=False, batch_size=1)
    names = [dataset[i]["name"] for i in range(len(dataset))]
    assert names == [record.name for record in in_split(records, "train")]


@pytest.mark.parametrize("name", TRAINERS)
def test_what_is_scaled_is_stated(run, vae, name):
    """In the class, the provenance and the README alike."""
    kind = exporter_class(name)
    provenance = json.loads((run.out / name / "relatent.json").read_text())
    assert provenance["latents_scaled"] is kind.latents_scaled
    assert provenance["shift_subtracted"] is (kind.latents_scaled and kind.shift_subtracted)
    assert (provenance["scaling_factor"], provenance["shift_factor"]) == (0.3, 0.75)
    assert (provenance["schema"], provenance["format"]) == ("relatent/1", name)
    assert provenance["vae"]["weights_sha256"] == vae.weights_sha256
    assert provenance["config"]["iterations"] == 4
    assert provenance["settings"]["size"] == 32
    assert provenance["counts"] == {"total": 5, "flipped": 5, "splits": {"train": 2, "val": 1, "test": 2}}
    assert not [path for path in (str(run.out), str(run.out.parent)) if path in json.dumps(provenance)]
    words = {False: "**unscaled**", True: "(z − 0.75) · 0.3" if kind.shift_subtracted else "z · 0.3"}
    assert words[kind.latents_scaled] in (run.out / name / "README.md").read_text()
    assert ("**scaled**" if kind.latents_scaled else "unscaled") in kind.__doc__


def test_the_card_of_the_hub(run):
    """Its YAML has what the hub asks for, its sizes and splits are the run's."""
    hub = pytest.importorskip("huggingface_hub")
    card = hub.DatasetCard.load(run.out / "hf" / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "unknown"
    assert data["size_categories"] == ["n<1K"]
    assert {"latents"} < set(data["tags"])
    assert data["task_categories"]
    files = [{"split": split, "path": f"data/{split}-*.h5"} for split in ("train", "val", "test")]
    assert data["configs"] == [{"config_name": "default", "data_files": files}]
    assert "yours to fill in" in card.text
    assert "weights" in card.text
    shard = next((run.out / "hf" / "data").glob("train-*.h5"))
    assert len(relatent.load_optimized_dataset(shard)) == 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory, vae):
    """A run without splits, classes, flip or pictures."""
    root = tmp_path_factory.mktemp("plain")
    (root / "in").mkdir()
    Image.fromarray(picture(seed=1)).save(root / "in" / "one.png")
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(root / "in", root / "out", vae, config=config, size=32, keep_images=False)
    return RunFolder.open(root / "out")


@pytest.mark.parametrize("name", ["lightningdit", "mar"])
def test_without_flip_a_format_that_needs_it_is_refused(plain, name, vae):
    with pytest.raises(UsageError, match=r"mirrored latent .* again with --flip") as error:
        export_run(plain, name)
    assert "\n" not in str(error.value)
    assert not (plain.out / name).exists()
    with pytest.raises(UsageError, match="add --flip"):  # before any work, where the format is asked for with the run
        relatent.optimize_directory(plain.out.parent / "in", plain.out.parent / "new", vae, formats=[name], size=32)
    assert not (plain.out.parent / "new").exists()


def test_without_pictures_repa_is_refused(plain):
    with pytest.raises(UsageError, match="--no-images"):
        export_run(plain, "repa")


def test_without_flip_the_rest_leave_mirrored_latents_out(plain, tmp_path):
    with np.load(export_run(plain, "kohya") / "one_0064x0048_sd.npz") as file:
        bare = {"latents", "original_size", "crop_ltrb"}
        assert set(file) == bare | {f"{key}_4x4" for key in bare}
    assert "Leave `flip_aug` off" in (plain.out / "kohya" / "README.md").read_text()
    folder = export_run(plain, "safetensors")
    from safetensors.numpy import load_file

    assert set(load_file(folder / "all-00000.safetensors")) == {"latents", "labels"}
    sample = streaming_reader("LocalDataset")(local=str(export_run(plain, "mds")))[0]
    assert not {"latents_32_flipped", "jpg"} & set(sample)
    wds = pytest.importorskip("webdataset")
    samples = list(wds.WebDataset(str(export_run(plain, "webdataset") / "all-000000.tar"), shardshuffle=False))
    assert {key for key in samples[0] if not key.startswith("__")} == {"latents.npy", "json", "cls"}


def test_a_run_of_one_split_lies_at_the_top(plain, tmp_path):
    folder = export_run(plain, "fast-dit", tmp_path / "features")
    assert np.load(folder / "imagenet256_features" / "0.npy").shape == (1, 4, 4, 4)
    assert np.load(folder / "imagenet256_labels" / "0.npy").tolist() == [0]
    assert json.loads((folder / "classes.json").read_text()) == {"classes": ["unlabelled"]}
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(export_run(plain, "hf")), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 1}


@pytest.mark.parametrize("name", ["fast-dit", "repa"])
def test_other_numbers_of_channels_are_refused_where_the_trainer_takes_four(tmp_path, name):
    vae = relatent.load_autoencoder(small_kl(latent_channels=8), device="cpu")
    Image.fromarray(picture()).save(tmp_path / "one.png")
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(tmp_path / "one.png", tmp_path / "out", vae, config=config, size=32)
    with pytest.raises(UsageError, match="4 channels, those of this run have 8"):
        export_run(RunFolder.open(tmp_path / "out"), name)
    with pytest.raises(UsageError, match="4 channels, those of this run have 8"):  # before any work
        relatent.optimize_directory(tmp_path / "one.png", tmp_path / "new", vae, formats=[name], size=32)
    assert not (tmp_path / "new").exists()


def test_padded_pictures_are_refused_where_the_trainer_crops(tmp_path, vae):
    Image.fromarray(picture()).save(tmp_path / "one.png")
    config = relatent.OptimizationConfig(iterations=1)
    relatent.optimize_directory(tmp_path / "one.png", tmp_path / "out", vae, config=config, size=32, fit="pad")
    for name in ("kohya", "ai-toolkit", "onetrainer", "simpletuner"):
        with pytest.raises(UsageError, match="--fit crop"):
            export_run(RunFolder.open(tmp_path / "out"), name)
        with pytest.raises(UsageError, match="--fit crop"):  # before any work
            relatent.optimize_directory(tmp_path / "one.png", tmp_path / "new", vae, formats=[name], size=32, fit="pad")
        assert not (tmp_path / "new").exists()


def test_known_autoencoders_have_the_trainers_own_names(run, records):
    """Suffix and space of latents follow the scaling factor and the channels."""

    def named(name, **changes):
        header = dataclasses.replace(run.header, vae=run.header.vae | changes)
        return make_exporter(name, run.out, header)

    assert named("kohya", scaling_factor=0.18215).suffix == "sd"
    assert named("kohya", scaling_factor=0.13025).suffix == "sdxl"
    assert named("ai-toolkit", scaling_factor=0.18215).space == "sd1"
    assert named("ai-toolkit", scaling_factor=0.13025).space == "sdxl"
    assert named("ai-toolkit", scaling_factor=1.5305, latent_channels=16).space == "sd3"
    assert named("ai-toolkit", scaling_factor=0.3611, latent_channels=16).space == "flux1"
    assert "multiplies by 0.18215 or 0.13025" in (run.out / "kohya" / "README.md").read_text()


@pytest.mark.parametrize(
    ("size", "width", "height", "crop", "hashed"),
    [  # by hand from the trainers' rules
        (512, 300, 400, (64, 0, 448, 512), (512, 683, 0, 85)),
        (512, 640, 480, (0, 64, 512, 448), (683, 512, 85, 0)),
        (256, 256, 256, (0, 0, 256, 256), (256, 256, 0, 0)),
        (512, 100, 100, (0, 0, 512, 512), (512, 512, 0, 0)),
        (64, 1000, 10, (0, 31, 64, 31.64), (6400, 64, 3168, 0)),
    ],
)
def test_crops_as_the_trainers_state_them(run, records, size, width, height, crop, hashed):
    from relatent.exporters.formats.trainers.kohya import crop_ltrb

    assert crop_ltrb((size, size), width, height) == pytest.approx(crop)
    record = dataclasses.replace(
        next(iter(records.values())),
        original_size=(height, width),
        optimized_latents=np.zeros((4, size // 8, size // 8)),
        images={},
    )
    found = make_exporter("ai-toolkit", run.out, run.header).parameters(record)
    assert tuple(found[key] for key in ("scale_to_width", "scale_to_height", "crop_x", "crop_y")) == hashed
    assert (found["crop_width"], found["crop_height"], found["latent_version"]) == (size, size, 1)


def test_labels_have_their_classes(run):
    for name in TRAINERS:
        known = run.out / name / "classes.json"
        assert known.exists() == (name not in ("ai-toolkit", "comfyui", "hf", "kohya", "onetrainer", "simpletuner"))
        if known.exists():
            assert json.loads(known.read_text()) == {"classes": CLASSES}


def test_pictures_outside_the_splits_are_a_split_of_their_own_beside_train(run, records, tmp_path):
    datasets = pytest.importorskip("datasets")
    first, second = list(records.values())[:2]
    header = dataclasses.replace(run.header, splits=("train", "all"))
    with make_exporter("hf", tmp_path, header) as exporter:
        exporter.write([first, dataclasses.replace(second, split="all")])
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows["image_name"][0] for split, rows in loaded.items()} == {
        "train": first.name,
        "other": second.name,
    }


def test_mar_finds_what_no_longer_fits_a_class_folder(run, records, tmp_path, monkeypatch):
    from torchvision.datasets import DatasetFolder

    monkeypatch.setattr("relatent.exporters.formats.mar.PER_FOLDER", 1)
    header = dataclasses.replace(run.header, classes=tuple(CLASSES), splits=("train",))
    with make_exporter("mar", tmp_path, header) as exporter:
        exporter.write([dataclasses.replace(record, split="train") for record in records.values()])
    found = DatasetFolder(str(tmp_path / "mar"), loader=np.load, extensions=(".npz",))
    assert {Path(path).stem for path, _ in found.samples} == set(records)
    assert all(len(list(path.glob("*.npz"))) == 1 for path in (tmp_path / "mar").rglob("0*"))
    assert found.classes == CLASSES
