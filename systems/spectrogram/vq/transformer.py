"""A decoder-only transformer over the codes of a picture, row by row; its first token is the user."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.condition import UserCondition
from .settings import TransformerSettings

Cache = list[tuple[Tensor, Tensor]]  # of each layer the keys and values so far, (B, heads, length, width / heads)


class Transformer(nn.Module):
    """p(code | user, codes before it) for pictures of `length` codes out of `codes`.

    Layer normalisation lies before attention and MLP (Radford et al. 2019); positions are learned. With a probability, the null token
    takes the user's place, so that logits can be guided.
    """

    def __init__(self, settings: TransformerSettings, codes: int, length: int) -> None:
        super().__init__()
        width = settings.width
        self.codes, self.length = codes, length
        self.condition = UserCondition(settings.num_users, width)
        self.embedding = nn.Embedding(codes, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(Block(width, settings.heads, settings.dropout) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, codes: Tensor, users: Tensor, dropped: Tensor) -> Tensor:
        """Logits (B, n + 1, codes) of each code and of the one behind the last.

        codes: (B, n) int64, n below `length`. users: (B,) int64, from 0 on. dropped: (B,) bool, true for the null token.
        """
        return self._logits(torch.cat([self.condition(users, dropped), self.embedding(codes)], 1), 0, None)

    def step(self, previous: Tensor | None, users: Tensor, dropped: Tensor, cache: Cache) -> Tensor:
        """Logits (B, codes) of the next code. cache: an empty list for the first code, for which `previous` is None; it grows.

        previous: (B,) int64, the code drawn last.
        """
        first = self.condition(users, dropped) if previous is None else self.embedding(previous)[:, None]
        return self._logits(first, cache[0][0].shape[2] if cache else 0, cache)[:, -1]

    def _logits(self, tokens: Tensor, start: int, cache: Cache | None) -> Tensor:
        """cache: filled where it is empty, lengthened otherwise; None to keep nothing."""
        hidden = tokens + self.position[start : start + tokens.shape[1]]
        for number, block in enumerate(self.blocks):
            past = cache[number] if cache and len(cache) > number else None
            hidden, present = block(hidden, past)
            if cache is not None:
                cache[number : number + 1] = [present]
        logits: Tensor = self.head(self.norm(hidden))
        return logits


class Block(nn.Module):
    """Causal attention and an MLP, each behind a normalisation and beside the input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x: (B, n, width); n is 1 where there is a past. Returns the same shape, and keys and values with the past ones."""
        heads = self.queries_keys_values(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0)
        query, key, value = heads.transpose(2, 3)  # (B, heads, n, width / heads) each
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=past is None)
        x = x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.drop(self.mlp(self.norms[1](x))), (key, value)
