"""Caches of the trainers of 2026 by autoencoder: names, keys, shapes and types as the trainers' sources have them, written out,
and a rectangle of each kind of scaling read back, unscaled and decoded to the recorded quality."""

import base64
import dataclasses
import hashlib
import json

import numpy as np
import pytest
import relatent
import torch
from helpers import picture, small_kl
from PIL import Image
from relatent.engine.autoencoders.scaling import BatchNormScaling, ChannelScaling, FactorScaling, identity_scaling
from relatent.engine.errors import UsageError
from relatent.engine.inputs.prefetch import Reader
from relatent.engine.inputs.sources import Source
from relatent.engine.losses.metrics import from_uint8, psnr
from relatent.engine.optimization.outcomes import to_record
from relatent.exporters.base.exporter import make_exporter
from relatent.exporters.base.header import Header
from relatent.exporters.base.latent_spaces import latent_space
from safetensors import safe_open

MEAN = tuple(np.linspace(-1, 1, 16).tolist())
STD = tuple(np.linspace(0.5, 3, 16).tolist())
PACKED_MEAN = tuple(np.linspace(-0.2, 0.2, 128).tolist())
PACKED_VAR = tuple(np.linspace(2, 4, 128).tolist())
SCALINGS = {  # channels and scaling of autoencoders that people use
    "sd": (4, FactorScaling(0.18215)),
    "sdxl": (4, FactorScaling(0.13025)),
    "sd3": (16, FactorScaling(1.5305, 0.0609)),
    "flux": (16, FactorScaling(0.3611, 0.1159)),
    "qwen": (16, ChannelScaling(MEAN, STD)),
    "wan21": (16, ChannelScaling(MEAN, STD)),
    "flux2": (32, BatchNormScaling(PACKED_MEAN, PACKED_VAR, 1e-4)),
}
HEIGHT, WIDTH = 48, 32  # of the targets; latents are 6 × 4
STEM = "sub/a.b picture"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(record, header, autoencoder) by latent space, of one photograph of 70 × 90 pixels with a caption and a mask."""
    root = tmp_path_factory.mktemp("made")
    (root / "sub").mkdir()
    file = root / f"{STEM}.png"
    Image.fromarray(picture(90, 70)).save(file)
    file.with_suffix(".txt").write_text("a caption")
    source = Source(str(file), f"{STEM}.png", "a.b picture", "all", hashlib.sha256(file.read_bytes()).hexdigest())
    image = Reader((WIDTH, HEIGHT)).read(source)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :16] = 255
    image = dataclasses.replace(image, mask=mask)
    optimizer = relatent.LatentOptimizer(relatent.OptimizationConfig(iterations=2))
    found = {}
    for name, (channels, scaling) in SCALINGS.items():
        vae = relatent.load_autoencoder(small_kl(latent_channels=channels), device="cpu")
        vae.name, vae.scaling = f"my-{name}", scaling
        targets = {"plain": image.tensor(), "flipped": image.tensor().flip(-1)}
        results = {view: optimizer.optimize(vae, vae.encode(target), target) for view, target in targets.items()}
        header = Header("2026-11-25T00:00:00+00:00", "0", vae.identity(), {}, splits=("all",))
        found[name] = (to_record(source, image, results, keep_images=False), header, vae)
        assert found[name][0].optimized_latents.shape == (channels, 6, 4)
    return found


def export(name, made, space, place, **changes):
    """Write one format of the record of a latent space; `changes` are to the autoencoder's identity."""
    record, header, _ = made[space]
    header = dataclasses.replace(header, vae=header.vae | changes)
    with make_exporter(name, place, header) as exporter:
        exporter.write([record])
    return place / name


def scaled(space, z):
    """What the diffusion model sees, by the formulas of docs/files.md, written out."""
    scaling = SCALINGS[space][1]
    if isinstance(scaling, FactorScaling):
        return (z - scaling.shift) * scaling.factor
    if isinstance(scaling, ChannelScaling):
        return np.stack([(z[c] - MEAN[c]) / STD[c] for c in range(16)])
    packed = np.stack([z[c, i::2, j::2] for c in range(32) for i in range(2) for j in range(2)])
    return np.stack([(packed[c] - PACKED_MEAN[c]) / np.sqrt(PACKED_VAR[c] + 1e-4) for c in range(128)])


def check(folder, made, space, stored, is_scaled, view="plain"):
    """Stored latents are the record's, scaled or not as is stated, and decode to the recorded quality."""
    record, _, vae = made[space]
    outcome = record if view == "plain" else record.views[view]
    provenance = json.loads((folder / "relatent.json").read_text())
    assert provenance["latents_scaled"] is is_scaled
    assert ("**scaled**" if is_scaled else "**unscaled**") in (folder / "README.md").read_text()
    expected = scaled(space, outcome.optimized_latents) if is_scaled else outcome.optimized_latents
    assert (stored.shape, stored.dtype) == (expected.shape, np.float32)
    np.testing.assert_allclose(stored, expected, rtol=2e-5, atol=2e-5)
    latents = identity_scaling(provenance["vae"]).unscale(stored) if is_scaled else stored
    target = from_uint8(torch.from_numpy(record.target.copy())).permute(2, 0, 1)[None]
    target = target.flip(-1) if view == "flipped" else target
    value = psnr(vae.decode(torch.from_numpy(np.ascontiguousarray(latents))[None]), target).item()
    assert value == pytest.approx(outcome.metrics["final_psnr"], abs=0.05)


def test_spaces_are_told_apart(made):
    for name, (_, header, _) in made.items():
        assert latent_space(header.vae) == name
    vae = made["sd"][1].vae
    assert latent_space(vae | {"scaling_factor": 0.5}) is None
    assert latent_space(vae | {"downscale_factor": 16}) is None
    assert latent_space(vae | {"latent_channels": 64, "downscale_factor": 32}) == "hunyuan-image"
    assert latent_space(made["qwen"][1].vae | {"repository": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"}) == "wan21"


KOHYA = {  # ending of the file name, whether scaled
    "sd": ("sd", False),
    "sdxl": ("sdxl", False),
    "sd3": ("sd3", False),
    "flux": ("flux", True),
    "qwen": ("anima", True),
}


@pytest.mark.parametrize("space", KOHYA)
def test_kohya(made, tmp_path, space):
    folder = export("kohya", made, space, tmp_path)
    ending, is_scaled = KOHYA[space]
    path = folder / f"{STEM}_0070x0090_{ending}.npz"
    names = {"latents", "latents_flipped", "original_size", "crop_ltrb", "alpha_mask"}
    with np.load(path) as file:
        bare = names if ending in ("sd", "sdxl") else set()
        assert set(file) == {f"{name}_6x4" for name in names} | bare
        assert file["original_size_6x4"].tolist() == [70, 90]
        # 70 × 90 fits into 32 × 48 as 32 × 41.14: (48 - 41.14) // 2 = 3 above it
        assert file["crop_ltrb_6x4"].tolist() == pytest.approx([0, 3, 32, 3 + 32 * 90 / 70])
        mask = file["alpha_mask_6x4"]
        assert (mask.shape, mask.dtype) == ((48, 32), np.float32)
        assert (mask[:, :16] == 1).all()
        assert not mask[:, 16:].any()
        for name in bare:
            assert np.array_equal(file[name], file[f"{name}_6x4"])
        check(folder, made, space, file["latents_6x4"], is_scaled)
        check(folder, made, space, file["latents_flipped_6x4"], is_scaled, "flipped")


def test_kohya_by_name_and_its_refusals(made, tmp_path):
    folder = export("kohya", made, "flux", tmp_path, repository="Alpha-VLLM/Lumina-Image-2.0")
    assert (folder / f"{STEM}_0070x0090_lumina.npz").exists()
    header = made["sd"][1]
    hunyuan = header.vae | {"latent_channels": 64, "downscale_factor": 32, "scaling_factor": 0.75289}
    exporter = make_exporter("kohya", tmp_path, dataclasses.replace(header, vae=hunyuan))
    assert (exporter.suffix, exporter.family.scaled, exporter.family.factors) == ("hi", False, (0.75289,))
    for space in ("flux2", "wan21"):
        with pytest.raises(UsageError, match=f"no family of models for latents of 'my-{space}'") as error:
            export("kohya", made, space, tmp_path / "refused")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "refused" / "kohya").exists()


MUSUBI = {  # short and full name of the architecture, key, shape, whether scaled
    "flux": ("zi", "z_image", "latents_1x6x4_float32", (16, 6, 4), False),
    "qwen": ("qi", "qwen_image", "latents_1x6x4_float32", (16, 1, 6, 4), True),
    "wan21": ("wan", "wan", "latents_1x6x4_float32", (16, 1, 6, 4), True),
    "flux2": ("f2d", "flux_2_dev", "latents_3x2_float32", (128, 3, 2), True),
}


@pytest.mark.parametrize("space", MUSUBI)
def test_musubi(made, tmp_path, space):
    short, full, key, shape, is_scaled = MUSUBI[space]
    folder = export("musubi", made, space, tmp_path)
    record, header, _ = made[space]
    with safe_open(folder / f"{STEM}_0070x0090_{short}.safetensors", framework="np") as file:
        assert list(file.keys()) == [key]
        assert file.metadata() == {
            "architecture": full, "width": "70", "height": "90", "format_version": "1.0.1",
            "vae_weights_sha256": header.vae["weights_sha256"], "source_sha256": record.source_sha256,
        }  # fmt: skip
        latents = file.get_tensor(key)
    assert (latents.shape, latents.dtype) == (shape, np.float32)
    check(folder, made, space, latents[:, 0] if len(shape) == 4 else latents, is_scaled)


@pytest.mark.parametrize(
    ("space", "repository", "short"),
    [
        ("qwen", "krea/Krea-2-base", "kr2"),
        ("flux2", "black-forest-labs/FLUX.2-klein-9B", "f2k9b"),
        ("flux2", "black-forest-labs/FLUX.2-klein-4B", "f2k4b"),
    ],
)
def test_musubi_by_name(made, tmp_path, space, repository, short):
    folder = export("musubi", made, space, tmp_path, repository=repository)
    assert (folder / f"{STEM}_0070x0090_{short}.safetensors").exists()


def test_musubi_refuses_what_it_has_no_model_for(made, tmp_path):
    for space in ("sd", "sd3"):
        with pytest.raises(UsageError, match=r"no model for latents of .* it has for those of Qwen-Image"):
            export("musubi", made, space, tmp_path)


SIMPLETUNER = {"sd": (4, 6, 4), "sd3": (16, 6, 4), "flux": (16, 6, 4), "qwen": (16, 6, 4), "flux2": (128, 3, 2)}


@pytest.mark.parametrize("space", SIMPLETUNER)
def test_simpletuner(made, tmp_path, space):
    folder = export("simpletuner", made, space, tmp_path)
    name = hashlib.sha256(b"a.b picture").hexdigest()
    latents = torch.load(folder / "sub" / f"{name}.pt", weights_only=True)
    assert (tuple(latents.shape), latents.dtype) == (SIMPLETUNER[space], torch.float32)
    check(folder, made, space, latents.numpy(), True)


def test_simpletuner_refuses_what_is_not_known(made, tmp_path):
    with pytest.raises(UsageError, match="only Qwen-Image's"):
        export("simpletuner", made, "wan21", tmp_path)


@pytest.mark.parametrize("space", ["sd", "sdxl", "sd3", "flux", "qwen", "flux2"])
def test_onetrainer(made, tmp_path, space):
    folder = export("onetrainer", made, space, tmp_path)
    item = torch.load(folder / "variation-0" / "0.pt", weights_only=True)
    aggregate = torch.load(folder / "variation-0" / "aggregate.pt", weights_only=True)
    assert aggregate == [{"crop_resolution": (48, 32), "image_path": f"{STEM}.png"}]
    assert set(item) == {"latent_image", "original_resolution", "crop_offset", "latent_mask"}
    # 70 × 90 covers 32 × 48 as 37 × 48: (37 - 32) // 2 = 2 to the left
    assert (item["original_resolution"], item["crop_offset"]) == ((90, 70), (0, 2))
    mask, latents = item["latent_mask"], item["latent_image"].numpy()
    if space == "qwen":  # a clip of one frame, and so is its mask
        assert (latents.shape, tuple(mask.shape)) == ((16, 1, 6, 4), (1, 1, 6, 4))
        mask, latents = mask[:, 0], latents[:, 0]
    assert (tuple(mask.shape), mask.dtype) == ((1, 6, 4), torch.float32)
    torch.testing.assert_close(mask[0, :, [0, 3]], torch.tensor([[1.0, 0.0]]).repeat(6, 1))
    check(folder, made, space, latents, False)


def test_onetrainer_numbers_pictures_as_the_trainer_lists_them(made, tmp_path):
    record, header, _ = made["sd"]
    paths = ("b/2.png", "a/9.jpg", "a-b/1.webp", "z.PNG", "a/skipped.gif", "a/9-masklabel.png", "a/10.png")
    records = [
        dataclasses.replace(record, name=f"n{i}", source_path=path, optimized_latents=record.optimized_latents + i)
        for i, path in enumerate(paths)
    ]
    with make_exporter("onetrainer", tmp_path, header) as exporter:
        exporter.write(records)
    root = tmp_path / "onetrainer" / "variation-0"
    expected = ["a-b/1.webp", "a/10.png", "a/9.jpg", "b/2.png", "z.PNG"]
    assert [item["image_path"] for item in torch.load(root / "aggregate.pt", weights_only=True)] == expected
    for i, path in enumerate(expected):
        latents = torch.load(root / f"{i}.pt", weights_only=True)["latent_image"].numpy()
        assert np.array_equal(latents, record.optimized_latents + paths.index(path))
    assert {path.name for path in root.iterdir()} == {"aggregate.pt", *(f"{i}.pt" for i in range(5))}
    provenance = json.loads((tmp_path / "onetrainer" / "relatent.json").read_text())
    assert provenance["notes"] == [
        "pictures that the trainer does not list, which are left out: 2: 'a/skipped.gif', 'a/9-masklabel.png'"
    ]
    with pytest.raises(UsageError, match="lists none"), make_exporter("onetrainer", tmp_path / "x", header) as exporter:
        exporter.write(records[4:5])


@pytest.mark.parametrize(
    ("original", "crop", "offset"),
    [  # by hand: scale to cover, rounded; half of what is over, rounded down; all (height, width)
        ((512, 512), (512, 512), (0, 0)),
        ((480, 640), (512, 512), (0, 85)),  # 683 × 512
        ((400, 300), (512, 512), (85, 0)),  # 512 × 683
        ((1000, 1500), (448, 576), (0, 48)),  # 672 × 448
        ((1500, 1000), (704, 384), (0, 42)),  # 469 × 704
    ],
)
def test_crop_offsets_as_onetrainer_computes_them(original, crop, offset):
    from relatent.exporters.formats.trainers.onetrainer import crop_offset

    assert crop_offset(original, crop) == offset


COMFYUI = {  # shape, whether scaled
    "sd": ((1, 4, 6, 4), False),
    "flux": ((1, 16, 6, 4), False),
    "qwen": ((1, 16, 1, 6, 4), False),
    "wan21": ((1, 16, 1, 6, 4), False),
    "flux2": ((1, 128, 3, 2), True),
}


@pytest.mark.parametrize("space", COMFYUI)
def test_comfyui(made, tmp_path, space):
    shape, is_scaled = COMFYUI[space]
    folder = export("comfyui", made, space, tmp_path)
    with safe_open(folder / "a.b picture.latent", framework="pt") as file:
        assert set(file.keys()) == {"latent_tensor", "latent_format_version_0"}
        assert file.get_tensor("latent_format_version_0").shape == (0,)
        latents = file.get_tensor("latent_tensor")
        assert (tuple(latents.shape), latents.dtype) == (shape, torch.float32)
        sample = json.loads(file.metadata()["sample"])
        assert (sample["source_path"], sample["caption"]) == (f"{STEM}.png", "a caption")
    latents = latents[0].numpy()
    check(folder, made, space, latents[:, 0] if latents.ndim == 4 else latents, is_scaled)


AI_TOOLKIT = {  # the trainer's name of the latent space, shape
    "sd": ("sd1", (4, 6, 4)),
    "sdxl": ("sdxl", (4, 6, 4)),
    "sd3": ("sd3", (16, 6, 4)),
    "flux": ("flux1", (16, 6, 4)),
    "qwen": ("qwen_image", (16, 6, 4)),
    "wan21": ("wan21", (16, 1, 6, 4)),
    "flux2": ("flux2", (128, 3, 2)),
}


@pytest.mark.parametrize("space", AI_TOOLKIT)
def test_ai_toolkit(made, tmp_path, space):
    version, shape = AI_TOOLKIT[space]
    folder = export("ai-toolkit", made, space, tmp_path)
    text = (  # what the trainer hashes of a picture of 70 × 90 in a bucket of 32 × 48: scaled to 38 × 48, 3 cut away
        '{"crop_height": 48, "crop_width": 32, "crop_x": 3, "crop_y": 0, "filename": "a.b picture.png", '
        f'"latent_space_version": "{version}", "latent_version": 1, "scale_to_height": 48, "scale_to_width": 38}}'
    )
    name = base64.urlsafe_b64encode(hashlib.md5(text.encode()).digest()).decode().replace("=", "")
    with safe_open(folder / "sub" / "_latent_cache" / f"a.b picture_{name}.safetensors", framework="np") as file:
        latents = file.get_tensor("latent")
        assert file.metadata()["source_sha256"] == made[space][0].source_sha256
    assert (latents.shape, latents.dtype) == (shape, np.float32)
    check(folder, made, space, latents[:, 0] if latents.ndim == 4 else latents, True)


@pytest.mark.parametrize(
    ("space", "repository", "version"),
    [
        ("flux", "Tongyi-MAI/Z-Image-Turbo", "zimage"),
        ("flux", "lodestones/Chroma1-HD", "chroma"),
        ("flux", "black-forest-labs/FLUX.1-Kontext-dev", "flux_kontext"),
        ("flux2", "black-forest-labs/FLUX.2-klein-4B", "flux2_klein_4b"),
        ("flux2", "black-forest-labs/FLUX.2-klein-9B", "flux2_klein_9b"),
        ("flux", "Alpha-VLLM/Lumina-Image-2.0", "lumina2"),
        ("qwen", "krea/Krea-2-base", "krea2"),
        ("qwen", "circlestone-labs/Anima", "anima"),
    ],
)
def test_ai_toolkit_takes_the_architecture_s_name(made, tmp_path, space, repository, version):
    header = made[space][1]
    header = dataclasses.replace(header, vae=header.vae | {"repository": repository})
    assert make_exporter("ai-toolkit", tmp_path, header).space == version


def test_packed_latents_need_whole_patches(made, tmp_path):
    record, header, _ = made["flux2"]
    odd = dataclasses.replace(record, optimized_latents=record.optimized_latents[:, :5])
    for name in ("musubi", "simpletuner", "ai-toolkit", "comfyui"):
        with (
            pytest.raises(UsageError, match="multiples of 16 pixels"),
            make_exporter(name, tmp_path, header) as exporter,
        ):
            exporter.write([odd])


def test_a_time_axis_of_one_is_taken_and_a_clip_refused(made, tmp_path):
    record, header, _ = made["qwen"]
    framed = dataclasses.replace(record, optimized_latents=record.optimized_latents[:, None], views={})
    clip = dataclasses.replace(framed, optimized_latents=framed.optimized_latents.repeat(2, 1))
    for name in ("kohya", "musubi", "simpletuner", "onetrainer", "ai-toolkit", "comfyui"):
        with make_exporter(name, tmp_path / "still", header) as exporter:
            exporter.write([framed])
        with (
            pytest.raises(UsageError, match="still pictures"),
            make_exporter(name, tmp_path / "clip", header) as exporter,
        ):
            exporter.write([clip])
    with safe_open(tmp_path / "still" / "musubi" / f"{STEM}_0070x0090_qi.safetensors", framework="np") as file:
        assert file.get_tensor("latents_1x6x4_float32").shape == (16, 1, 6, 4)


def test_captions_reach_the_formats_that_hold_them(made, tmp_path):
    record, header, _ = made["sd"]
    header = dataclasses.replace(header, config={"iterations": 2}, classes=("sub",))
    assert record.caption == "a caption"
    for name in ("webdataset", "hf", "safetensors"):
        with make_exporter(name, tmp_path, header) as exporter:
            exporter.write([record])
    wds = pytest.importorskip("webdataset")
    sample = next(iter(wds.WebDataset(str(tmp_path / "webdataset" / "all-000000.tar"), shardshuffle=False).decode()))
    assert sample["txt"] == sample["json"]["caption"] == "a caption"
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["caption"][:] == ["a caption"]
    with safe_open(tmp_path / "safetensors" / "all-00000.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["samples"])[0]["caption"] == "a caption"


def test_a_run_is_refused_before_any_work_where_the_trainer_has_no_model(tmp_path):
    vae = relatent.load_autoencoder(small_kl(), device="cpu")
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="musubi-tuner has no model"):
        relatent.optimize_directory(tmp_path / "a.png", tmp_path / "out", vae, formats=["hdf5", "musubi"], size=32)
    assert not (tmp_path / "out").exists()
