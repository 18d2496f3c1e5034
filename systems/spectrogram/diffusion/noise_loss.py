"""The loss of the network: the squared error of what it predicts."""

import torch
from torch import Tensor, nn

from .draws import Draws
from .network import ConditionalUNet, noise_scheduler, prediction_target


class NoiseLoss(nn.Module):
    """Noises latents and scores the network's prediction. A module, so that autocast and several processes see one forward."""

    def __init__(self, network: ConditionalUNet) -> None:
        super().__init__()
        self.network, self.scheduler = network, noise_scheduler()

    def forward(self, scaled: Tensor, users: Tensor, draws: Draws) -> Tensor:
        """Mean squared error, a scalar in fp32. scaled: (B, C, h, w) fp32. users: (B,) int64. draws: of these latents, in their order."""
        device = scaled.device
        noise, timesteps = draws.noise.to(device), draws.timesteps.to(device)
        noisy = self.scheduler.add_noise(scaled, noise, timesteps)  # type: ignore[arg-type]  # it takes any integers
        target = prediction_target(self.scheduler, self.network.prediction_type, scaled, noise, timesteps)
        predicted = self.network(noisy, timesteps, users.to(device), draws.dropped.to(device))
        return torch.nn.functional.mse_loss(predicted.float(), target)
