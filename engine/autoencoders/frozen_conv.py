"""`FrozenConv`: a convolution of frozen weights as a module of the loop's decoder."""

import torch
from torch import nn

from ...kernels.frozen_conv import frozen_conv, turn

Factors = tuple[torch.Tensor, torch.Tensor]  # project (r, C), expand (C, r)


class FrozenConv(nn.Module):
    """nn.Conv2d or nn.Conv3d of frozen weights, zero padding and one group; its input is not kept for the backward pass."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, transposed: bool):
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.stride, self.padding, self.transposed = stride, padding, transposed
        self.project: nn.Parameter | None = None
        self.reduced: nn.Parameter | None = None
        self.expand: nn.Parameter | None = None
        self.turned = False  # whether `reduced` is, see `frozen_conv`

    def set_low_rank(self, outputs: Factors | None, inputs: Factors | None) -> None:
        """Replace, in the backward pass of a 2-D convolution, the identity over the O output channels by expand · project,
        of (O, r) and (r, O), and likewise over the inputs; None: the identity itself."""
        reduced = self.weight.detach() if self.turned else None
        if outputs is not None or inputs is not None:
            reduced = self.weight.detach().double().cpu()
            reduced = reduced.transpose(0, 1) if self.transposed else reduced
            if outputs is not None:
                reduced = torch.einsum("oihw,or->rihw", reduced, outputs[1].double())
            if inputs is not None:
                reduced = torch.einsum("rihw,si->rshw", reduced, inputs[0].double())
            reduced = reduced.transpose(0, 1) if self.transposed else reduced
        if reduced is not None and self.turned:
            reduced = turn(reduced)
        self.project = None if outputs is None else self._frozen(outputs[0][:, :, None, None])
        self.reduced = None if reduced is None else self._frozen(reduced)
        self.expand = None if inputs is None else self._frozen(inputs[1][:, :, None, None])

    def turn(self) -> bool:
        """Let the backward pass run as a convolution, with a weight of its own; return whether that is possible."""
        self.turned = not self.transposed and self.stride == 1 and self.padding < min(self.weight.shape[2:])
        if self.turned:
            self.set_low_rank(None, None)
        return self.turned

    def _frozen(self, tensor: torch.Tensor) -> nn.Parameter:
        return nn.Parameter(tensor.to(self.weight).contiguous(), requires_grad=False)

    def forward(self, x: torch.Tensor, output_size: None = None) -> torch.Tensor:
        return self._run(x, self.bias)

    def without_bias(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution alone."""
        return self._run(x, None)

    def _run(self, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return frozen_conv(
            x, self.weight, bias, stride=self.stride, padding=self.padding, transposed=self.transposed,
            project=self.project, reduced=self.reduced, expand=self.expand, turned=self.turned,
        )  # fmt: skip
