"""What the loop asks of a decoder: volumes, packed latents with a rate, functions, callable losses and penalties."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from relatent import Autoencoder, LatentOptimizer, OptimizationConfig, load_autoencoder
from relatent.engine.autoencoders.frozen_conv import FrozenConv
from relatent.engine.coordinates import Coordinates, ScaledCoordinates
from relatent.engine.errors import UsageError
from relatent.engine.loop_decoder import Decoded, LoopDecoder
from relatent.engine.modality import Modality
from relatent.engine.optimization.slots import Slots
from relatent.engine.optimization.step import build_step
from relatent.engine.packing import Packing
from torch import nn

VOLUMES = Modality(0.0, 1.0, name="volumes")


def volume_decoder() -> nn.Module:
    """(B, 4, d, h, w) -> (B, 1, 2d, 2h, 2w) in [0, 1]."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(4, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Upsample(scale_factor=2),
        nn.Conv3d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv3d(8, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip


@pytest.fixture
def volumes() -> Autoencoder:
    return load_autoencoder(volume_decoder(), latent_channels=4, downscale_factor=2, modality=VOLUMES)


@pytest.fixture
def volume_batch(volumes: Autoencoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (3, 4, 4, 5, 6) beside those that decode to the targets (3, 1, 8, 10, 12)."""
    truth = torch.randn(3, 4, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return truth + 0.5 * noise, volumes.decode(truth).clamp(0, 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_volumes_are_optimised_as_pictures_are(volumes, volume_batch, precision):
    latents, targets = volume_batch
    config = OptimizationConfig(iterations=30, precision=precision)
    for index, result in enumerate(LatentOptimizer(config).optimize_batch(volumes, latents, targets)):
        assert set(result.metrics) == {"initial_psnr", "final_psnr", "psnr_improvement", "loss_reduction"}
        assert result.metrics["psnr_improvement"] > 2.0
        assert result.optimized_latents.shape == (1, 4, 4, 5, 6)
        assert result.optimized_image.shape == (1, 1, 8, 10, 12)
        error = (volumes.decode(result.optimized_latents) - targets[index]).square().mean()
        assert result.metrics["final_psnr"] == pytest.approx(-10 * torch.log10(error).item(), abs=1e-3)


def test_the_kernels_take_volumes_of_one_channel(volumes, volume_batch):
    """As on a GPU: the decoder ends in a sigmoid, whose output of one channel torch lays out unlike the targets."""
    pytest.importorskip("triton")
    latents, targets = volume_batch
    config = OptimizationConfig(iterations=3, loss_function="l1")
    decoder = volumes.loop_decoder("fp32")
    losses = []
    for triton in (False, True):
        slots = Slots.empty(latents, targets, config, decoder.dtype)
        slots.load([0, 1, 2], latents, targets, config)
        step = build_step(decoder, config, latents.device, triton=triton)
        for _ in range(3):
            step(slots)
        losses.append(slots.losses[:, :3])
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-6)
    assert (losses[1][:, 2] < losses[1][:, 0]).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_volumes_take_masks_and_functions_for_loss_and_penalty(volumes, volume_batch, precision):
    latents, targets = volume_batch
    weights = torch.zeros(3, 1, 8, 10, 12)
    weights[..., :6] = 1.0
    steps = []

    def absolute(output, target):
        return (output - target).abs().flatten(1).mean(1)

    def stay(z, initial, step):
        steps.append(step.clone())
        return 1e-3 * (z - initial).square().flatten(1).mean(1)

    config = OptimizationConfig(
        iterations=12, loss_function=absolute, regularisers=stay, precision=precision, convergence_threshold=0.0
    )
    results = LatentOptimizer(config).optimize_batch(volumes, latents, targets, weights=weights)
    free = LatentOptimizer(dataclasses.replace(config, regularisers="")).optimize_batch(
        volumes, latents, targets, weights=weights
    )
    assert all(result.metrics["loss_reduction"] > 0.2 for result in results)
    assert max(int(step.max()) for step in steps) >= 11, "the penalty is given the iteration"
    for near, far in zip(results, free, strict=True):
        assert (near.optimized_latents - near.initial_latents).norm() < (
            far.optimized_latents - far.initial_latents
        ).norm()
    named = OptimizationConfig(iterations=4, regularisers="0.1*l2_to_init + 0.01*tv + 0.01*prior", precision=precision)
    assert LatentOptimizer(named).optimize_batch(volumes, latents, targets)[0].metrics["loss_reduction"] > 0.0
    assert named.to_dict()["regularisers"] == "0.1*l2_to_init + 0.01*tv + 0.01*prior"
    assert config.to_dict()["regularisers"].endswith("stay (callable)")


def test_volumes_are_laid_out_and_frozen(volumes):
    decoder = volumes.loop_decoder("bf16")
    (module,) = volumes.cache.values("copies").values()
    convolutions = [part for part in module.modules() if isinstance(part, FrozenConv)]
    assert len(convolutions) == 3
    assert all(conv.weight.is_contiguous(memory_format=torch.channels_last_3d) for conv in convolutions)
    z = torch.randn(1, 4, 4, 4, 4, dtype=torch.bfloat16).requires_grad_(True)
    output = decoder(z)
    (found,) = torch.autograd.grad(output.float().square().sum(), z)
    y = z.detach().float().requires_grad_(True)
    (expected,) = torch.autograd.grad(volumes.decode(y).square().sum(), y)
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: x * 255, r"outside \[0, 1\].*volumes"),
        (lambda x: x - 0.5, r"outside \[0, 1\]"),
        (lambda x: (x * 255).to(torch.uint8), r"floating point in \[0, 1\], found torch.uint8"),
        (lambda x: x / 0.0, "NaN or infinity"),
        (lambda x: x[:, :, :6], r"decode to \(8, 10, 12\), found \(6, 10, 12\)"),
    ],
)
def test_volumes_out_of_range_are_refused(volumes, volume_batch, change, word):
    latents, targets = volume_batch
    with pytest.raises(UsageError, match=word):
        LatentOptimizer(OptimizationConfig(iterations=1)).optimize_batch(volumes, latents, change(targets))


def test_a_target_psnr_counts_by_the_range(volumes, volume_batch):
    latents, targets = volume_batch
    config = OptimizationConfig(iterations=200, target_psnr=30.0, precision="fp32", convergence_threshold=0.0)
    for result in LatentOptimizer(config).optimize_batch(volumes, latents, targets):
        assert result.stop_reason == "target"
        assert result.metrics["final_psnr"] >= 30.0


PACKING = Packing({"y": (3, 4, 4), "z": (2, 2, 2)})
RATE = 2e-3  # loss per unit of magnitude of the latents


class Codec(Autoencoder):
    """Two latents per picture, y and z; both are rounded for what counts, with noise in place of it while optimising."""

    def __init__(self) -> None:
        super().__init__(self.compose, name="codec", coordinates=ScaledCoordinates(PACKING.fill({"y": 4.0, "z": 0.5})))
        self.relaxed = self.judged = 0

    def compose(self, latents: torch.Tensor) -> torch.Tensor:
        parts = PACKING.unpack(latents)
        coarse = F.interpolate(parts["z"].mean(1, keepdim=True), scale_factor=2.0)
        return torch.tanh((parts["y"] * 0.1 + coarse * 0.05).repeat_interleave(2, 2).repeat_interleave(2, 3))

    def loop_decoder(self, precision, recompute=False, low_rank=None) -> LoopDecoder:
        def run(latents, step):
            self.relaxed += 1
            temperature = 0.5 * 0.9 ** step.float().view(-1, 1, 1)
            noise = torch.rand(latents.shape, generator=torch.Generator().manual_seed(self.relaxed)) - 0.5
            return Decoded(self.compose(latents + temperature * noise), RATE * latents.abs().flatten(1).mean(1))

        def judge(latents, step):
            self.judged += 1
            hard = latents.round()
            return Decoded(self.compose(hard), RATE * hard.abs().flatten(1).mean(1))

        return LoopDecoder(run, torch.float32, self.modality, judge=judge)

    def hard_cost(self, latents, targets):
        hard = latents.round()
        error = (self.compose(hard) - targets).square().flatten(1).mean(1)
        return error + RATE * hard.abs().flatten(1).mean(1)


@pytest.fixture
def codec_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    parts = {"y": torch.randn(2, 3, 4, 4, generator=generator) * 5, "z": torch.randn(2, 2, 2, 2, generator=generator)}
    targets = torch.tanh(torch.randn(2, 3, 8, 8, generator=generator))
    return PACKING.pack(parts), targets


def test_packed_latents_with_a_rate_stop_on_their_hard_objective(codec_batch):
    latents, targets = codec_batch
    codec = Codec()
    config = OptimizationConfig(iterations=80, convergence_threshold=1e-3, convergence_window=10)
    results = LatentOptimizer(config).optimize_batch(codec, latents, targets)
    before = codec.hard_cost(latents, targets)
    for index, result in enumerate(results):
        after = codec.hard_cost(result.optimized_latents, targets[index : index + 1]).item()
        assert result.losses[0] == pytest.approx(before[index].item(), rel=1e-5), "losses are the hard ones"
        assert after < before[index].item()
        assert after == pytest.approx(min(result.losses), rel=1e-5), "the best hard objective is what comes back"
        assert result.metrics["loss_reduction"] == pytest.approx(1 - after / before[index].item(), rel=1e-4)
        assert result.stop_reason == "converged"
        window = torch.tensor(result.losses).cummin(0).values
        assert window[-11] - window[-1] <= 1e-3 * window[-11], "it stopped by the window of hard losses"
    assert codec.judged > 0
    assert set(PACKING.unpack(results[0].optimized_latents)) == {"y", "z"}


def test_judging_now_and_then_keeps_the_best_that_was_judged(codec_batch):
    latents, targets = codec_batch

    class Seldom(Codec):
        def loop_decoder(self, precision, recompute=False, low_rank=None) -> LoopDecoder:
            return dataclasses.replace(super().loop_decoder(precision), judge_interval=8)

    each, seldom = Codec(), Seldom()
    config = OptimizationConfig(iterations=24, convergence_threshold=0.0)
    every = LatentOptimizer(config).optimize_batch(each, latents, targets)
    found = LatentOptimizer(config).optimize_batch(seldom, latents, targets)
    assert each.judged - seldom.judged == 24 - 3
    for index, (some, all_of_them) in enumerate(zip(found, every, strict=True)):
        steps = [some.losses[8 * (i // 8)] for i in range(24)]
        assert some.losses == steps, "between two judgements the last one stands"
        assert steps[::8] == all_of_them.losses[::8], "the iterations are the same"
        cost = seldom.hard_cost(some.optimized_latents, targets[index : index + 1]).item()
        assert cost <= min(steps) * (1 + 1e-5)


def test_a_target_is_reached_where_it_is_judged(codec_batch):
    latents, targets = codec_batch

    class Seldom(Codec):
        def loop_decoder(self, precision, recompute=False, low_rank=None) -> LoopDecoder:
            return dataclasses.replace(super().loop_decoder(precision), judge_interval=7)

    config = OptimizationConfig(iterations=70, target_gain=1.0, convergence_threshold=0.0)
    results = LatentOptimizer(config).optimize_batch(Seldom(), latents, targets)
    assert [result.stop_reason for result in results] == ["target"] * 2
    assert all(result.convergence_iteration % 7 == 0 and result.convergence_iteration > 0 for result in results)


def test_a_rate_alone_moves_latents_towards_zero(codec_batch):
    """The extra loss has a gradient, with a fused loss and with one by autograd."""
    latents, _ = codec_batch
    targets = Codec().compose(latents).clamp(-1, 1)
    for loss in ("mse", "mse + 0.001*charbonnier"):

        class Rated(Codec):
            def loop_decoder(self, precision, recompute=False, low_rank=None):
                return LoopDecoder(
                    lambda z, step: Decoded(self.compose(z.detach()) + 0 * z.sum(), z.abs().flatten(1).mean(1)),
                    torch.float32, self.modality,
                )  # fmt: skip

        config = OptimizationConfig(iterations=10, loss_function=loss, convergence_threshold=0.0)
        results = LatentOptimizer(config).optimize_batch(Rated(), latents, targets)
        for index, result in enumerate(results):
            assert result.optimized_latents.abs().mean() < 0.9 * latents[index].abs().mean()


def test_coordinates_give_each_part_its_own_pace(codec_batch):
    """After one step of Adam every coordinate has moved by about the learning rate, a latent by that times its scale."""
    latents, targets = codec_batch
    codec = Codec()
    config = OptimizationConfig(iterations=1, relative_eps=0.0, convergence_threshold=0.0, beta_rise=0)
    from relatent.engine.optimization.optimizer import start_loop

    loop = start_loop(codec, config, latents, targets)
    loop.load([0, 1], latents, targets)
    loop.complete()
    moved = PACKING.unpack(loop.slots.to_latents(loop.slots.latents) - latents)
    ratio = moved["y"].abs().flatten(1).median(1).values / moved["z"].abs().flatten(1).median(1).values
    torch.testing.assert_close(ratio, torch.full((2,), 8.0), rtol=0.1, atol=0.0)


def test_gradients_in_coordinates_are_adjoint():
    generator = torch.Generator().manual_seed(0)
    w, g = (torch.randn(2, 1, 7, generator=generator) for _ in range(2))
    origin = torch.randn(2, 1, 7, generator=generator)
    for coordinates in (Coordinates(), ScaledCoordinates(torch.rand(1, 1, 7, generator=generator) + 0.1)):
        moved = coordinates.to_latents(origin, w) - coordinates.to_latents(origin, torch.zeros_like(w))
        torch.testing.assert_close((moved * g).sum(), (w * coordinates.vjp(g)).sum())


def test_packing_is_a_bijection_and_refuses_what_does_not_fit():
    parts = {"y": torch.randn(2, 3, 4, 4), "z": torch.randn(2, 2, 2, 2)}
    packed = PACKING.pack(parts)
    assert packed.shape == (2, 1, 56)
    for name, part in PACKING.unpack(packed).items():
        assert torch.equal(part, parts[name])
    with pytest.raises(UsageError, match=r"'z' of shape \(2, 2, 2\) per sample, found None"):
        PACKING.pack({"y": parts["y"]})
    with pytest.raises(UsageError, match="expected 56 packed values, found 55"):
        PACKING.unpack(packed[..., 1:])


def test_a_function_is_a_decoder(targets):
    def decode(z):
        return torch.tanh(F.interpolate(z[:, :3], scale_factor=8.0, mode="bilinear"))

    latents = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    vae = load_autoencoder(decode, latent_channels=4, downscale_factor=8)
    results = LatentOptimizer(OptimizationConfig(iterations=20)).optimize_batch(vae, latents, targets)
    assert all(result.metrics["psnr_improvement"] > 1.0 for result in results)


@pytest.mark.parametrize(
    ("penalty", "word"),
    [
        (lambda z, initial, step: z.square().mean(), r"one value per image, shape \(B,\)"),
        (lambda z, initial, step: initial.flatten(1).mean(1), "no gradient with respect to the latents"),
    ],
)
def test_a_penalty_that_cannot_be_used_is_refused_before_any_work(small_vae, targets, penalty, word):
    config = OptimizationConfig(regularisers=penalty)
    with pytest.raises(UsageError, match=rf"regularisers: .*{word}"):
        LatentOptimizer(config).optimize_batch(small_vae, small_vae.encode(targets), targets)


def test_a_penalty_of_the_callers_compiles(volumes, volume_batch):
    """The same iteration in one compiled region equals the eager one, with volumes, coordinates and a penalty."""
    latents, targets = volume_batch
    volumes.coordinates = ScaledCoordinates(torch.full((1, 4, 1, 1, 1), 0.5))
    config = OptimizationConfig(
        iterations=4, regularisers=lambda z, initial, step: 1e-3 * (z - initial).square().flatten(1).mean(1),
        precision="fp32", convergence_threshold=0.0,
    )  # fmt: skip
    found = [
        LatentOptimizer(dataclasses.replace(config, compile=mode)).optimize_batch(volumes, latents, targets)
        for mode in ("off", "on")
    ]
    assert len(volumes.cache.values("loops")) == 1
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled.optimized_latents, eager.optimized_latents, rtol=1e-3, atol=1e-4)
