"""What is fitted to the latents of normal volumes: a Gaussian mixture and a prior over codes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....engine.errors import UsageError
from ..model.vqvae import VQVAE3D
from .priors.code_prior import CodeContext, CodePrior
from .priors.gaussian_mixture import GaussianMixturePrior

COMPONENTS = 256  # of the mixture: with 32 it is too coarse to tell normal latents from others
VECTORS_EACH = 32  # for one component, at least
VECTORS = 25_600  # of the mixture's fit, at most


@dataclass(frozen=True, eq=False)
class Normality:
    """The priors that have to be fitted, for one model and one size of volumes."""

    mixture: GaussianMixturePrior
    codes: CodePrior

    @classmethod
    def fit(cls, model: VQVAE3D, volumes: Iterable[Tensor], seed: int = 0) -> "Normality":
        """Fit to (1, D, H, W) fp32 volumes in [0, 1] of one size, all normal, on the processor.

        The same volumes and seed give the same priors. Raises `UsageError` where there are too few volumes, or latents that are not finite.
        """
        latents, indices = [], []
        with torch.inference_mode():
            for volume in volumes:
                z_e = model.encode(volume[None])
                latents.append(z_e)
                indices.append(model.quantise(z_e).indices)
        if sum(each[0, 0].numel() for each in latents) < VECTORS_EACH:
            raise UsageError(f"{len(latents)} normal volumes are too few to fit a prior to; give more of them")
        z_e, index = torch.cat(latents).clone(), torch.cat(indices).clone()
        if not bool(z_e.isfinite().all()):
            raise UsageError("the model's latents of normal volumes are NaN or infinite: train it again")
        vectors = z_e.movedim(1, -1).flatten(0, -2)
        codebook = model.quantiser.codebook.detach().float()
        spread = (vectors - codebook[index.flatten()]).square().mean().sqrt().clamp_min(1e-3).item()
        generator = torch.Generator().manual_seed(seed)
        drawn = vectors[torch.randperm(len(vectors), generator=generator)[:VECTORS]]
        return cls(
            GaussianMixturePrior.fit(drawn, min(COMPONENTS, len(drawn) // VECTORS_EACH), seed),
            CodePrior.fit(codebook, index, spread, seed=seed),
        )

    @property
    def grid(self) -> tuple[int, ...]:
        """(d, h, w) of the latents that the priors were fitted to."""
        return tuple(self.codes.context.position.shape[2:])

    def state(self) -> dict[str, Any]:
        """Tensors, for `torch.save`; `of_state` reads them."""
        return {"mixture": self.mixture.state_dict(), "codes": self.codes.state_dict()}

    @classmethod
    def of_state(cls, state: dict[str, Any], model: VQVAE3D) -> "Normality":
        """What `state` gave, for the same model. Raises `UsageError` where it is of another."""
        try:
            mixture, codes = (
                {name: value.float() for name, value in state[part].items()} for part in ("mixture", "codes")
            )
            codebook = model.quantiser.codebook.detach().float()
            if not torch.allclose(codes["codebook"], codebook, atol=1e-3):
                raise ValueError("its codes differ")
            context = CodeContext(*codebook.shape, *codes["context.position"].shape[2:])
            prior = CodePrior(codebook, context, 1.0)
            prior.load_state_dict(codes | {"codebook": codebook})
            return cls(GaussianMixturePrior(**mixture), prior)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UsageError(f"the priors of normal volumes are of another model: {reason}; fit them again") from None
