"""The user as one token of the UNet's cross-attention."""

import torch
from torch import Tensor, nn

STD = 0.02  # of the null token's start


class UserCondition(nn.Module):
    """Embedding(num_users, width) and an MLP; the null token, which stands for "any user", is a parameter of its own.

    The null token is none of the users: with a user in its place, guidance would lead away from that user.
    """

    def __init__(self, num_users: int, width: int) -> None:
        super().__init__()
        self.num_users = num_users
        self.embedding = nn.Embedding(num_users, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.null_token = nn.Parameter(STD * torch.randn(width))

    def forward(self, users: Tensor, dropped: Tensor) -> Tensor:
        """The tokens, (B, 1, width).

        users: (B,) int64, counted from 0. dropped: (B,) bool, true where the null token takes the user's place.
        """
        tokens = torch.where(dropped[:, None], self.null_token, self.mlp(self.embedding(users)))
        return tokens[:, None]
