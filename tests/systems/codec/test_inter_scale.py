"""Phase 2: the eight checks of the original, as values; that alignments train and are saved; the lower bound."""

import math

import pytest
import torch
from relatent.engine.errors import UsageError
from relatent.systems.codec.inter_scale import DISTANCES, InterScaleRegularizer
from relatent.systems.codec.transforms.haar import DWTDownsampler
from torch.utils._python_dispatch import TorchDispatchMode

HPCM = (320, 320, 320)


def hierarchy(channels=(6, 6, 6), batch=2, side=4, dtype=torch.float32, requires_grad=False) -> list[torch.Tensor]:
    """Unit Gaussians, coarse to fine, the coarsest `side` wide."""
    return [
        torch.randn(batch, count, side << i, side << i, dtype=dtype, requires_grad=requires_grad)
        for i, count in enumerate(channels)
    ]


def small(seed: int = 0, channels=(6, 6, 6), **options) -> InterScaleRegularizer:
    torch.manual_seed(seed)
    return InterScaleRegularizer(channels=channels, **options)


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_1_accuracy_of_the_downsampler(side):
    """White noise keeps a quarter of its energy in LL; a box average would leave a sixteenth."""
    torch.manual_seed(side)
    x = torch.randn(4, 32, side, side)
    low = DWTDownsampler().downsample(x)
    assert low.shape == (4, 32, side // 2, side // 2)
    blocks = x.unfold(2, 2, 2).unfold(3, 2, 2)
    torch.testing.assert_close(low, 0.5 * blocks.sum((-1, -2)))
    assert (low.square().sum() / x.square().sum()).item() == pytest.approx(0.25, rel=0.05)


def test_2_the_downsampler_reads_its_input_once():
    """Its cost, without a clock: one operator, which writes a quarter of what it reads."""

    class Calls(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.written: list[int] = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            found = function(*args, **(kwargs or {}))
            self.written.append(found.numel())
            return found

    x = torch.randn(16, 320, 64, 64, device="meta")
    with Calls() as calls:
        DWTDownsampler()(x)
    assert calls.written == [x.numel() // 4]


def test_3_about_minus_a_tenth_on_unit_gaussians():
    torch.manual_seed(0)
    regularizer = InterScaleRegularizer(delta=0.1, channels=HPCM)
    assert [tuple(align.weight.shape) for align in regularizer.channel_align] == [(320, 320, 1, 1)] * 2
    with torch.no_grad():
        # the aligned latent has the variance .1² of its initialisation: −.1 · (1 + .01)
        assert regularizer(hierarchy(HPCM)).item() == pytest.approx(-0.101, abs=0.002)


def test_the_value_is_the_formula():
    regularizer, latents = small(delta=0.3, channels=(4, 5, 6)), hierarchy((4, 5, 6))
    distances = []
    for i, align in enumerate(regularizer.channel_align):
        low = 0.5 * latents[i + 1].unfold(2, 2, 2).unfold(3, 2, 2).sum((-1, -2))
        aligned = torch.einsum("oi,bihw->bohw", align.weight[:, :, 0, 0], low)
        distances.append(((latents[i] - aligned) ** 2).mean())
    assert regularizer(latents).item() == pytest.approx(-0.3 * (sum(distances) / 2).item(), rel=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("distance", DISTANCES)
def test_4_gradients_flow_to_latents_and_alignments(distance, normalise):
    regularizer = small(channels=(2, 3, 2), distance=distance, normalise=normalise).double()
    latents = hierarchy((2, 3, 2), 1, 1, torch.float64, requires_grad=True)
    weights = [align.weight for align in regularizer.channel_align]
    assert torch.autograd.gradcheck(lambda *inputs: regularizer(inputs[:3]), (*latents, *weights))
    regularizer(latents).backward()
    for tensor in (*latents, *weights):
        assert tensor.grad.norm() > 0


def test_5_memory():
    """What the graph keeps beside latents and parameters, for the original's batch of 16: 52 MB, LL and its alignment of
    both pairs. The original reports about 130 MB."""
    sides, kept = (16, 32, 64), {}
    with torch.device("meta"):
        regularizer = InterScaleRegularizer(channels=HPCM)
        latents = [torch.randn(16, 320, side, side, requires_grad=True) for side in sides]
    own = {each.untyped_storage()._cdata for each in (*latents, *regularizer.parameters())}

    def pack(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor  # kept alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        regularizer(latents)
    extra = sum(each.untyped_storage().nbytes() for key, each in kept.items() if key not in own)
    coarse, middle = (16 * 320 * side**2 * 4 for side in sides[:2])
    # the differences, which the square keeps, are as large as the aligned latents, which nothing keeps
    assert extra == 2 * (coarse + middle) == 52_428_800


def test_6_scale_independence():
    """A coarse latent that its finer one predicts costs more than one that is independent of it."""
    regularizer = small()
    latents = hierarchy()
    with torch.no_grad():
        middle = regularizer.channel_align[1](DWTDownsampler()(latents[2]))
        redundant = [regularizer.channel_align[0](DWTDownsampler()(middle)), middle, latents[2]]
        assert regularizer(redundant).item() == pytest.approx(0.0, abs=1e-12)
        assert regularizer(latents).item() < -0.08
        assert regularizer([torch.ones_like(each) for each in latents]).item() < 0


def descend(regularizer, latents, optimizer, steps: int) -> list[float]:
    """Minimise the penalty. Returns it before each step."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = regularizer(latents)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_7_training_moves_the_alignments_and_a_checkpoint_keeps_them():
    regularizer = small()
    before = {name: value.clone() for name, value in regularizer.state_dict().items()}
    assert sorted(before) == ["channel_align.0.weight", "channel_align.1.weight"]
    optimizer = torch.optim.Adam(regularizer.parameters(), lr=1e-2)
    latents = hierarchy()
    losses = descend(regularizer, latents, optimizer, 5)
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5
    assert all(not torch.equal(value, before[name]) for name, value in regularizer.state_dict().items())
    restored = small(seed=1)
    restored.load_state_dict(regularizer.state_dict())
    assert restored(latents).item() == regularizer(latents).item()


def test_8_edge_cases():
    regularizer, latents = small(), hierarchy()
    assert regularizer([]).item() == 0.0
    assert regularizer(latents[:1]).item() == 0.0
    assert regularizer([None, None, None]).item() == 0.0
    assert regularizer([latents[0], None, latents[2]]).item() == 0.0  # neither pair is whole
    torch.testing.assert_close(regularizer([None, *latents[1:]]), small().forward([None, *latents[1:]]))
    first, second = regularizer([*latents[:2], None]), regularizer([None, *latents[1:]])
    torch.testing.assert_close(regularizer(latents), (first + second) / 2)
    torch.testing.assert_close(regularizer(latents[:2]), first)
    assert first.item() != second.item()
    odd = [torch.randn(1, 6, 3, 2), torch.randn(1, 6, 5, 4)]  # 5 rows: the last one is repeated
    assert regularizer(odd).item() < 0


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 6, 4, 4), (2, 6, 4, 4)], r"scales 1 and 2 .*expected \(2, 6, 2, 2\), found \(2, 6, 4, 4\)"),
        ([(1, 6, 4, 4), (2, 6, 8, 8)], r"expected \(2, 6, 4, 4\), found \(1, 6, 4, 4\)"),  # it would broadcast
        ([(2, 1, 4, 4), (2, 6, 8, 8)], r"expected \(2, 6, 4, 4\), found \(2, 1, 4, 4\)"),
        ([(2, 6, 4, 4), (2, 5, 8, 8)], r"channels=\(6, 6, 6\) do not fit: beside a finer latent \(2, 5, 8, 8\)"),
        ([(2, 6, 4, 4)] * 4, "expected at most 3 scales.*found 4"),
    ],
)
def test_latents_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(UsageError, match=message):
        small()([torch.zeros(shape) for shape in shapes])


def test_bad_options_are_refused():
    with pytest.raises(UsageError, match="distance: expected one of mse, l1, cosine, found 'l2'"):
        InterScaleRegularizer(distance="l2")
    for delta in (-0.1, math.inf, math.nan):
        with pytest.raises(UsageError, match="delta: expected a number of at least 0, found"):
            InterScaleRegularizer(delta=delta)


def values_of(distance: str, normalise: bool, factor: float = 1.0) -> float:
    regularizer = small(distance=distance, normalise=normalise)
    return regularizer([factor * each for each in hierarchy()]).item()


def test_growing_latents_lower_it_for_ever_unless_normalised():
    for distance, power in (("mse", 2), ("l1", 1), ("cosine", 0)):
        assert values_of(distance, False, 10.0) == pytest.approx(10.0**power * values_of(distance, False), rel=1e-4)
        assert values_of(distance, True, 10.0) == pytest.approx(values_of(distance, True), rel=1e-4)
    assert values_of("mse", True) == pytest.approx(-0.1, abs=0.01)  # as the plain one on unit Gaussians
    assert small(normalise=True)([torch.zeros_like(each) for each in hierarchy()]).item() == 0.0


@pytest.mark.parametrize(("distance", "bound"), [("mse", -0.2), ("l1", -0.1), ("cosine", -0.2)])
def test_training_by_the_penalty_alone_stays_above_the_bound(distance, bound):
    """δ = .1: the plain MSE passes −2δ and goes on falling, the normalised distances cannot."""

    def train(normalise: bool) -> tuple[float, float]:
        regularizer, latents = small(distance=distance, normalise=normalise), hierarchy(requires_grad=True)
        optimizer = torch.optim.Adam([*latents, *regularizer.parameters()], lr=0.1)
        values = descend(regularizer, latents, optimizer, 60)
        return values[29], values[59]

    half, end = train(normalise=True)
    assert bound - 1e-6 <= end <= half < 0.8 * bound
    if distance != "cosine":
        half, end = train(normalise=False)
        assert end < 2 * half < 4 * bound


@pytest.mark.parametrize("normalise", [False, True])
def test_alignments_alone_lower_the_plain_penalty_without_bound(normalise):
    """Rate and distortion do not hold them back: only the penalty uses them."""
    regularizer, latents = small(normalise=normalise), hierarchy()
    optimizer = torch.optim.Adam(regularizer.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        regularizer(latents).backward()
        optimizer.step()
    end = regularizer(latents).item()
    assert -0.2 <= end < -0.1 if normalise else end < -10


def test_16_bits_are_compared_in_fp32():
    regularizer, latents = small(), hierarchy()
    with torch.autocast("cpu", torch.bfloat16):
        found = regularizer([each.bfloat16() for each in latents])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, regularizer(latents), rtol=2e-2, atol=0)
