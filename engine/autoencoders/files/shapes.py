"""The configuration of an autoencoder from the keys and shapes of its weights."""

from collections.abc import Callable, Mapping
from itertools import count, takewhile
from typing import Any

from ...errors import UsageError

State = Mapping[str, Any]
PREFIXES = ("first_stage_model.", "vae.")  # of an autoencoder inside a whole model's checkpoint
_GROUPS = 32  # of the group norms in every public autoencoder of this kind; shapes do not tell
# a key of the rest of a checkpoint -> its autoencoder's factor and shift
_MODELS = {
    "conditioner.embedders.": (0.13025, 0.0),  # SDXL
    "cond_stage_model.": (0.18215, 0.0),  # Stable Diffusion 1 and 2
    "model.diffusion_model.joint_blocks.": (1.5305, 0.0609),  # Stable Diffusion 3
    "model.diffusion_model.double_blocks.": (0.3611, 0.1159),  # FLUX.1
}
_CONFIG = "a config.json beside it"


def infer(state: State, where: str, scaling: tuple[float, float] | None) -> tuple[str, dict[str, Any]]:
    """The class of diffusers and its configuration. scaling: factor and shift where they are known.

    Raises `UsageError` where keys and shapes do not tell, with the remedy.
    """
    prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in state)), "")
    own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    scaling = scaling or next(
        (values for key, values in _MODELS.items() if any(name.startswith(key) for name in state)), None
    )
    try:
        if "decoder.mid.block_1.conv1.weight" in own:
            return _kl(
                own, where, scaling, "encoder.down.{}.block.{}.conv1.weight", "decoder.up.{}.block.0.conv1.weight"
            )
        if "decoder.middle.0.residual.0.gamma" in own:
            return _wan(own, where, "encoder.downsamples.{}.", "residual.2.weight", "conv1", "head.2")
        if "decoder.mid_block.resnets.0.norm1.gamma" in own:
            return _wan(own, where, "encoder.down_blocks.{}.", "conv1.weight", "conv_in", "conv_out")
        if "decoder.mid_block.resnets.0.norm1.weight" in own and "encoder.down_blocks.0.resnets.0.conv1.weight" in own:
            levels = "encoder.down_blocks.{}.resnets.{}.conv1.weight"
            return _kl(own, where, scaling, levels, "decoder.up_blocks.{}.resnets.0.conv1.weight")
    except KeyError as error:
        raise UsageError(f"{where} does not hold all of its autoencoder; missing: {error.args[0]}") from error
    raise UsageError(
        f"{where} holds no autoencoder whose keys are known; give a folder in diffusers' layout, or put {_CONFIG}"
    )


def _kl(own: State, where: str, scaling: tuple[float, float] | None, block: str, up: str) -> tuple[str, dict[str, Any]]:
    """AutoencoderKL and AutoencoderKLFlux2. block: in the encoder, by level and number. up: in the decoder, by level."""
    levels = _number(lambda i: block.format(i, 0) in own)
    down = tuple(own[block.format(i, 0)].shape[0] for i in range(levels))
    wide = tuple(own[up.format(i)].shape[0] for i in range(levels))
    wide = wide[::-1] if "up_blocks" in up else wide  # diffusers counts from the latents, the authors from the picture
    if any(width % _GROUPS for width in (*down, *wide)):
        raise UsageError(f"{where}: the groups of its norms do not follow from widths {down}; put {_CONFIG}")
    channels = own["decoder.conv_in.weight"].shape[1]
    config = {
        "in_channels": own["encoder.conv_in.weight"].shape[1],
        "out_channels": own["decoder.conv_out.weight"].shape[0],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": down,
        "layers_per_block": _number(lambda i: block.format(0, i) in own),
        "latent_channels": channels,
        "norm_num_groups": _GROUPS,
        "sample_size": 1024 if channels > 4 else 512,
        "use_quant_conv": any(key.endswith("quant_conv.weight") and "post" not in key for key in own),
        "use_post_quant_conv": any(key.endswith("post_quant_conv.weight") for key in own),
        "mid_block_add_attention": any(
            key.startswith(("decoder.mid.attn", "decoder.mid_block.attentions")) for key in own
        ),
    }
    if "bn.running_mean" in own:
        return "AutoencoderKLFlux2", config | {"decoder_block_out_channels": None if wide == down else wide}
    if wide != down:
        raise UsageError(f"{where}: an encoder of widths {down} and a decoder of {wide}; put {_CONFIG}")
    if scaling is None:
        names = "sd15 or sdxl" if channels == 4 else "sd3 or flux"
        raise UsageError(
            f"{where} does not say how its {channels} latent channels are scaled, and models of these shapes differ: name the "
            f"model, --vae {names}, with --weights {where}; or put {_CONFIG}"
        )
    return "AutoencoderKL", config | {"scaling_factor": scaling[0], "shift_factor": scaling[1] or None}


def _wan(own: State, where: str, layer: str, block: str, first: str, last: str) -> tuple[str, dict[str, Any]]:
    """AutoencoderKLWan, which Qwen-Image's is in all but name. layer: in the encoder, by number. block: a residual one's
    convolution. first, last: convolutions."""
    if f"{layer.format(0)}resnets.0.conv1.weight" in own or f"{layer.format(0)}downsamples.0.residual.0.gamma" in own:
        raise UsageError(
            f"{where} is Wan 2.2's, whose statistics are not in the file; give a folder in diffusers' layout"
        )
    latents, base = own[f"decoder.{first}.weight"].shape[1], own[f"encoder.{first}.weight"].shape[0]
    if latents != 16:
        raise UsageError(f"{where}: the statistics of its {latents} latent channels are not known; put {_CONFIG}")
    widths: list[list[int]] = [[]]
    temporal = []
    for i in range(_number(lambda i: any(key.startswith(layer.format(i)) for key in own))):
        if f"{layer.format(i)}{block}" in own:
            widths[-1].append(own[f"{layer.format(i)}{block}"].shape[0])
        else:
            widths.append([])
            temporal.append(f"{layer.format(i)}time_conv.weight" in own)
    config = {
        "base_dim": base,
        "decoder_base_dim": own[f"decoder.{last}.weight"].shape[1] * base // widths[0][0],
        "z_dim": latents,
        "dim_mult": [level[0] // base for level in widths],
        "num_res_blocks": len(widths[0]),
        "temperal_downsample": temporal,  # the name that diffusers gives it
        "in_channels": own[f"encoder.{first}.weight"].shape[1],
        "out_channels": own[f"decoder.{last}.weight"].shape[0],
    }
    return "AutoencoderKLWan", config  # the class's own latents_mean and latents_std


def _number(there: Callable[[int], bool]) -> int:
    return sum(1 for _ in takewhile(there, count()))
