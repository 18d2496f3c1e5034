"""Weight maps through the optimiser, and masks from files through a run."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import relatent
import torch
from helpers import assert_same, picture, small_kl, started
from PIL import Image
from relatent import LatentOptimizer, OptimizationConfig, optimize_directory
from relatent.cli.main import main
from relatent.engine.errors import ImageError, UsageError
from relatent.engine.inputs.images import LoadedImage, load_grey, load_image
from relatent.engine.inputs.masks import Masks
from relatent.engine.inputs.prefetch import Reader
from relatent.engine.inputs.sources import discover
from relatent.engine.losses.metrics import mean_squared_error, quality
from relatent.engine.optimization import loop as loops
from relatent.engine.optimization.checks import check_weights
from relatent.engine.optimization.step import build_step
from relatent.factory.state.plan import PlannedImage
from relatent.factory.state.run_folder import RunFolder
from torch import nn

EXACT = OptimizationConfig(iterations=8, precision="fp32", convergence_threshold=0.0)
QUICK = OptimizationConfig(iterations=3)


@pytest.fixture
def halves():
    """(3, 1, 32, 32): left half, lower half, a ramp."""
    weights = torch.zeros(3, 1, 32, 32)
    weights[0, :, :, :16] = 1
    weights[1, :, 16:] = 1
    weights[2] = torch.linspace(0, 1, 32)
    return weights


def psnr_of_what_counts(image, target, weight):
    error = (image.clamp(-1, 1) - target).square().mean(1, keepdim=True)
    return (10 * torch.log10(4 * weight.sum() / (weight * error).sum())).item()


@pytest.mark.parametrize("loss", ["mse", "huber", "mse + 0.1*improved_ssim"])
def test_what_counts_gets_better_and_is_what_the_metrics_measure(small_vae, targets, halves, loss):
    latents = small_vae.encode(targets)
    config = replace(EXACT, loss_function=loss, iterations=40)
    results = LatentOptimizer(config).optimize_batch(small_vae, latents, targets, weights=halves)
    plain = LatentOptimizer(config).optimize_batch(small_vae, latents, targets)
    for i, (result, unweighted) in enumerate(zip(results, plain, strict=True)):
        target, weight = targets[i : i + 1], halves[i : i + 1]
        assert result.metrics["psnr_improvement"] > 0
        for name, image in (("initial", result.initial_image), ("final", result.optimized_image)):
            expected = psnr_of_what_counts(image, target, weight)
            assert result.metrics[f"{name}_psnr"] == pytest.approx(expected, abs=1e-3)
        if i < 2:  # of a ramp, where all counts somewhat, the two may end in different minima
            assert result.metrics["final_psnr"] > psnr_of_what_counts(unweighted.optimized_image, target, weight)


def test_equal_weights_change_nothing_and_their_scale_neither(small_vae, targets, halves):
    latents = small_vae.encode(targets)
    optimizer = LatentOptimizer(EXACT)
    plain = optimizer.optimize_batch(small_vae, latents, targets)
    for weights in (torch.full((3, 1, 32, 32), 0.25), torch.ones(3, 1, 32, 32, dtype=torch.bool)):
        for a, b in zip(plain, optimizer.optimize_batch(small_vae, latents, targets, weights=weights), strict=True):
            assert a.losses == pytest.approx(b.losses, rel=1e-4)
            assert a.metrics["final_ssim"] == pytest.approx(b.metrics["final_ssim"], abs=1e-4)
    one = optimizer.optimize(small_vae, latents[:1], targets[:1], weight=halves[:1])
    scaled = optimizer.optimize(small_vae, latents[:1], targets[:1], 7.0 * halves[:1])
    assert one.losses == pytest.approx(scaled.losses, rel=1e-4)


@pytest.mark.parametrize("loss", ["mse", "l1", "huber(delta=0.3)"])
def test_the_fused_loss_is_the_general_one(small_vae, targets, halves, loss):
    """The same loss as a sum of two halves goes through autograd."""
    latents = small_vae.encode(targets)
    both = [
        LatentOptimizer(replace(EXACT, loss_function=expression)).optimize_batch(
            small_vae, latents, targets, weights=halves
        )
        for expression in (loss, f"0.5*{loss} + 0.5*{loss}")
    ]
    for fused, general in zip(*both, strict=True):
        assert fused.losses == pytest.approx(general.losses, rel=1e-3)
        assert fused.metrics["loss_reduction"] == pytest.approx(general.metrics["loss_reduction"], rel=2e-2)


def test_a_target_is_of_what_counts(small_vae, targets, halves):
    config = OptimizationConfig(iterations=80, target_gain=0.5, convergence_threshold=0.0)
    latents = small_vae.encode(targets)
    for result in LatentOptimizer(config).optimize_batch(small_vae, latents, targets, weights=halves):
        assert result.stop_reason == "target"
        assert 0.5 <= result.metrics["psnr_improvement"] + 1e-3 < 3.0


def test_encode_takes_weights(small_vae, targets, halves):
    refined = relatent.encode(small_vae, targets, EXACT, weights=halves)
    for pick, expected in ((refined, 0.0), (small_vae.encode(targets), 1e-6)):
        error = mean_squared_error(small_vae.decode(pick), targets, check_weights(halves, targets))
        assert (error > expected).all()
    before = mean_squared_error(small_vae.decode(small_vae.encode(targets)), targets, check_weights(halves, targets))
    after = mean_squared_error(small_vae.decode(refined), targets, check_weights(halves, targets))
    assert (after < before).all()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (torch.ones(3, 32, 32), r"expected shape \(3, 1, 32, 32\)"),
        (torch.ones(1, 1, 32, 32), r"found \(1, 1, 32, 32\)"),
        (torch.full((3, 1, 32, 32), torch.nan), "NaN"),
        (-torch.ones(3, 1, 32, 32), "negative"),
        (torch.zeros(3, 1, 32, 32), "masked out"),
    ],
)
def test_weights_that_do_not_fit_are_refused(small_vae, targets, weights, words):
    with pytest.raises(UsageError, match=words):
        LatentOptimizer(EXACT).optimize_batch(small_vae, small_vae.encode(targets), targets, weights=weights)


def test_weighted_and_unweighted_images_do_not_share_a_loop(small_vae, targets, halves):
    slots = started(small_vae, targets, EXACT)
    with pytest.raises(UsageError, match="cannot share a loop"):
        slots.load([0], small_vae.encode(targets[:1]), targets[:1], EXACT, weights=halves[:1])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "mse + 0.1*ms_ssim(window=3) + 0.1*fft"])
def test_compiled_with_weights_and_regularisers_equals_eager(targets, halves, loss):
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.ConvTranspose2d(4, 8, 8, stride=8), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
    vae = relatent.load_autoencoder(decoder, latent_channels=4, downscale_factor=8)
    targets, halves = (nn.functional.interpolate(x, size=48) for x in (targets, halves))
    latents = torch.randn(3, 4, 6, 6)
    found = {}
    for mode in ("on", "off"):
        config = OptimizationConfig(
            iterations=4, loss_function=loss, regularisers="0.1*l2_to_init + 0.01*tv + 0.1*prior", compile=mode,
            precision="fp32", convergence_threshold=0.0,
        )  # fmt: skip
        found[mode] = LatentOptimizer(config).optimize_batch(vae, latents, targets, weights=halves)
    (loop,) = vae.cache.values("loops").values()
    assert loop.mode == "compiled"
    for compiled, eager in zip(found["on"], found["off"], strict=True):
        assert compiled.losses == pytest.approx(eager.losses, rel=1e-3)
        assert eager.losses[-1] < eager.losses[0]


def test_a_compiled_loop_with_weights_is_another_one(targets, halves, monkeypatch):
    vae = relatent.load_autoencoder(small_kl(), device="cpu")
    monkeypatch.setattr(loops, "build_runner", lambda step, slots, *rest, **options: loops.EagerRunner(step, slots))
    optimizer = LatentOptimizer(OptimizationConfig(iterations=2, compile="on", precision="fp32"))
    latents = vae.encode(targets)
    for weights in (halves, None, halves.flip(-1)):
        optimizer.optimize_batch(vae, latents, targets, weights=weights)
    assert [loop.slots.weights is None for loop in vae.cache.values("loops").values()] == [True, False]


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_the_loss_kernel_in_the_step_takes_the_weights(small_vae, targets, halves, loss):
    config = OptimizationConfig(iterations=3, loss_function=loss, target_gain=20.0, regularisers="0.1*l2_to_init")
    decode = small_vae.loop_decoder("fp32")
    states = []
    for triton in (True, False):
        slots = started(small_vae, targets, config)
        slots.weights = check_weights(halves, targets)
        step = build_step(decode, config, torch.device("cpu"), triton=triton)
        for _ in range(3):
            step(slots)
        states.append(slots)
    assert_same(*states)


def write_masks(photographs, folder):
    """A white rectangle each, under another ending; returns them by their picture's name."""
    masks = {}
    for path in [path for path in photographs.rglob("*") if path.is_file()]:
        relative = path.relative_to(photographs)
        with Image.open(path) as opened:
            mask = np.zeros((opened.height, opened.width), np.uint8)
        mask[10:40, 12:30] = 255
        file = (folder / relative).with_suffix(".gif")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(file)
        masks[relative.as_posix()] = mask
    return masks


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_run_with_masks(photographs, tmp_path, small_vae, fit):
    write_masks(photographs, photographs / "masks")  # inside the input: they are no pictures of the run
    (photographs / "masks" / "loose.gif").unlink()
    options = dict(config=QUICK, size=32, masks=photographs / "masks", fit=fit)
    run = optimize_directory(photographs, tmp_path / "out", small_vae, **options)
    assert run["settings"]["masks"] == str(photographs / "masks")
    assert run["counts"] == {"total": 4, "done": 3, "failed": 1}
    (failure,) = run["failures"]
    assert failure["stage"] == "load"
    assert failure["reason"].startswith(f"no mask: expected {photographs / 'masks' / 'loose'} with any image's ending")
    records = [record for part in RunFolder.open(tmp_path / "out").records() for record in part]
    assert [record.name for record in records] == ["first", "second", "third"]
    for record in records:
        mask = load_grey(photographs / "masks" / record.source_path.replace("png", "gif").replace("jpg", "gif"),
                         record.original_size, 32, fit)  # fmt: skip
        weight = torch.from_numpy(mask / 255.0).float()[None, None]
        image, target = (
            torch.from_numpy(record.images[name]).permute(2, 0, 1)[None] / 127.5 - 1
            for name in ("optimized", "original")
        )
        assert record.metrics["final_psnr_8bit"] == pytest.approx(psnr_of_what_counts(image, target, weight), abs=1e-3)
        assert any("mask applied" in conversion for conversion in record.conversions)
    with pytest.raises(UsageError, match=r"masks was .*, now None"):
        optimize_directory(photographs, tmp_path / "out", small_vae, config=QUICK, size=32, fit=fit)


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_mask_is_fitted_as_its_picture(tmp_path, fit, turned):
    """A picture that is its own mask: fitted, it equals its grey self, padding black."""
    grey = np.repeat(picture(48, 80)[:, :, :1], 3, 2)
    options = {"exif": Image.Exif()}
    options["exif"][0x0112] = 6 if turned else 1
    Image.fromarray(grey).save(tmp_path / "a.png", **options)
    image = load_image(tmp_path / "a.png", 32, fit, "black")
    mask = load_grey(tmp_path / "a.png", image.original_size, 32, fit)
    np.testing.assert_array_equal(mask, image.pixels[:, :, 0])
    assert image.original_size == ((80, 48) if turned else (48, 80))


def test_masks_of_other_kinds(tmp_path):
    ramp = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
    expected = ramp.copy()
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "16bit.png")
    Image.fromarray(ramp > 127).save(tmp_path / "1bit.png")
    white = np.full_like(ramp, 255)
    Image.fromarray(np.dstack([white, white, white, ramp])).save(tmp_path / "alpha.png")
    for name, values in (("16bit", expected), ("1bit", np.where(ramp > 127, 255, 0)), ("alpha", expected)):
        np.testing.assert_array_equal(load_grey(tmp_path / f"{name}.png", (8, 8), 8, "none"), values)
    with pytest.raises(ImageError, match="expected its picture's, 16×8 pixels, found 8×8"):
        load_grey(tmp_path / "1bit.png", (8, 16), 8, "none")


def test_masks_behind_links_are_found_as_their_pictures_are(photographs, tmp_path):
    masks = tmp_path / "masks"
    write_masks(photographs, masks)
    for folder in (photographs, masks):
        (folder / "train").rename(tmp_path / f"{folder.name}-elsewhere")
        (folder / "train").symlink_to(tmp_path / f"{folder.name}-elsewhere")
    found = Masks(masks)
    sources = {source.relative: source for source in discover(photographs)}
    assert found.find(sources["train/first.png"]) == masks / "train" / "first.gif"
    assert found.find(sources["loose.bmp"]) == masks / "loose.gif"


def test_masks_that_cannot_be_used_fail_their_picture_alone(photographs, tmp_path, small_vae):
    masks = tmp_path / "masks"
    write_masks(photographs, masks)
    Image.new("L", (64, 48)).save(masks / "loose.gif")
    Image.new("L", (64, 48)).save(masks / "test" / "third.png")
    (masks / "train" / "second.gif").write_text("no image")
    run = optimize_directory(photographs, tmp_path / "out", small_vae, config=QUICK, size=32, masks=masks, batch_size=2)
    reasons = {failure["source_path"]: failure["reason"] for failure in run["failures"]}
    assert run["counts"]["done"] == 1
    assert "black wherever the picture is kept" in reasons["loose.bmp"]
    assert "two masks: third.gif and third.png" in reasons["test/third.png"]
    assert "second.gif: no image that Pillow knows" in reasons["train/second.jpg"]


def test_a_run_does_not_go_on_with_other_masks(photographs, tmp_path, small_vae):
    masks, out = tmp_path / "masks", tmp_path / "out"
    write_masks(photographs, masks)
    (masks / "loose.gif").write_text("no image")
    options = dict(config=QUICK, size=32, masks=masks, shard_size=1)
    assert optimize_directory(photographs, out, small_vae, **options)["counts"]["failed"] == 1
    rows = [json.loads(line) for line in (out / "plan.jsonl").read_text().splitlines()[1:]]
    first = masks / "train" / "first.gif"
    assert rows[0]["mask"]["path"] == str(first)
    assert rows[0]["mask"]["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    whole = first.read_bytes()
    Image.new("L", (64, 48), 255).save(first)
    with pytest.raises(
        UsageError, match=r"inputs changed since the run began: .*first\.gif has changed; put them back"
    ):
        optimize_directory(photographs, out, small_vae, **options)
    first.unlink()
    with pytest.raises(UsageError, match=r"first\.gif is gone"):
        optimize_directory(photographs, out, small_vae, **options)
    first.write_bytes(whole)
    assert optimize_directory(photographs, out, small_vae, **options)["counts"]["failed"] == 1
    Image.new("L", (64, 48), 255).save(masks / "loose.gif")  # what failed may be mended
    optimize_directory(photographs, out, small_vae, **options)
    folder = RunFolder.open(out)
    folder.retry_failed()
    (row,) = [row for row in folder.plan.all_rows() if row.source.name == "loose"]
    assert row.source.mask_sha256 == hashlib.sha256((masks / "loose.gif").read_bytes()).hexdigest()


def test_a_mask_that_changes_while_the_run_goes_on_fails_its_picture(photographs, tmp_path):
    masks = tmp_path / "masks"
    write_masks(photographs, masks)
    source = next(source for source in discover(photographs) if source.name == "first")
    row = PlannedImage.of(source, Masks(masks))
    reader = Reader(32, masks=Masks(masks))
    assert isinstance(reader.read(row.source), LoadedImage)
    assert PlannedImage.parse(row.line().encode()) == row
    Image.new("L", (64, 48), 255).save(masks / "train" / "first.gif")
    failed = reader.read(row.source)
    assert failed.reason == f"mask {masks / 'train' / 'first.gif'}: changed since the run was planned"


def test_masks_from_the_command_line(photographs, tmp_path, vae_folder, capsys):
    masks = tmp_path / "masks"
    command = ["optimize", str(photographs), str(tmp_path / "out"), "--vae", str(vae_folder), "--size", "32"]
    command += ["--iterations", "2", "--device", "cpu", "--masks", str(masks), "--json"]
    assert main(command) == 2
    assert "no such folder" in capsys.readouterr().err
    masks.mkdir()
    assert main(command) == 2
    assert "holds no image" in capsys.readouterr().err
    write_masks(photographs, masks)
    assert main([*command, "--regularise", "0.1*nothing"]) == 2
    assert "of prior, tv, l2_to_init" in capsys.readouterr().err
    assert main([*command, "--loss", "ms_ssim"]) == 2
    assert "sides above 160 pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*command, "--regularise", "0.1*l2_to_init", "--loss", "mse + 0.1*ssim(window=5)"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["settings"]["masks"] == str(masks)
    assert run["config"]["regularisers"] == "0.1*l2_to_init"
    assert run["config"]["loss_function"] == "mse + 0.1*ssim(window=5)"


def test_ssim_of_what_counts_is_scikit_images_map(targets, halves):
    """With what does not count made equal, scikit-image's map, averaged by the blurred weights."""
    from scipy.ndimage import gaussian_filter
    from skimage.metrics import structural_similarity

    torch.manual_seed(0)
    image = (targets + 0.2 * torch.randn_like(targets)).clamp(-1, 1)
    found = quality(image, targets, check_weights(halves, targets))["ssim"]
    for i in range(3):
        weight = halves[i, 0].double().numpy()
        target = (targets[i].permute(1, 2, 0).double().numpy() + 1) / 2
        noisy = np.where(weight[:, :, None] > 0, (image[i].permute(1, 2, 0).double().numpy() + 1) / 2, target)
        _, each = structural_similarity(
            noisy, target, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            channel_axis=2, full=True,
        )  # fmt: skip
        seen = gaussian_filter(weight, 1.5, truncate=3.5)[5:-5, 5:-5]
        expected = (each[5:-5, 5:-5].mean(2) * seen).sum() / seen.sum()
        assert found[i].item() == pytest.approx(expected, abs=1e-5)
