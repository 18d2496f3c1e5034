"""A small codec, trained for a handful of steps on synthetic pictures."""

import torch
from relatent.systems.codec.model.configuration import CodecConfiguration
from relatent.systems.codec.model.network import HierarchicalCodec
from synthetic_pictures import picture_of

TINY = CodecConfiguration("tiny", (8, 8, 12), 12, 8, 12, 16)


def trained() -> HierarchicalCodec:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = HierarchicalCodec(TINY)
        with torch.no_grad():
            model.analysis[-1].weight.mul_(60)  # so that symbols differ from zero
            model.hyper_analysis[-1].weight.mul_(60)
        images = torch.stack([picture_of(64, 64, seed) for seed in range(4)]).float() / 255
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(8):
            output = model(images)
            loss = 0.01 * 255**2 * (output.reconstruction - images).square().mean() + output.bits.mean() / 64**2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model
