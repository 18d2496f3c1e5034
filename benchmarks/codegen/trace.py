"""The process that compiles one step for a device that is not there, and writes what it launches.

    LD_PRELOAD=<stub> python -m relatent.benchmarks.codegen.trace <request.json> <result.json>

`look.py` starts it.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ...engine.autoencoders import rewrite
from ...engine.autoencoders.autoencoder import Autoencoder
from ...engine.calibration.preconditioner import TAPS
from ...engine.coordinates import WhiteningCoordinates
from ...engine.optimization.config import OptimizationConfig
from ...engine.optimization.runners import DYNAMO
from ...engine.optimization.slots import Slots
from ...engine.optimization.step import build_step
from ...kernels.library import register_operators
from .decoders import build_autoencoder
from .device import pretend
from .launches import Recorder, replay
from .summary import summarise


def trace(request: dict[str, Any], device: torch.device, code: Path | None) -> dict[str, Any]:
    """Compile the step that `request` describes and return its summary; the generated code goes to `code`."""
    fake, recorders = FakeTensorMode(), list[Recorder]()
    _intercept(recorders, code)
    autoencoder = build_autoencoder(request["vae"])
    autoencoder.rewrites = tuple(request["rewrites"])
    rewrite.runs_on = lambda device: True  # `prepare` asks for the meta device
    decoder = autoencoder.loop_decoder(request["precision"])
    batch, cells = request["batch"], request["size"] // (autoencoder.downscale_factor or 1)
    channels = autoencoder.latent_channels
    assert channels is not None
    with fake:
        _put_on(device, autoencoder)
        latents = torch.empty(batch, channels, cells, cells, device=device)
        targets = torch.empty(batch, 3, request["size"], request["size"], device=device)
        side = min(TAPS, cells - 1 + cells % 2)
        coordinates = WhiteningCoordinates(torch.empty(channels, channels, side, side, device=device))
        config = OptimizationConfig()
        slots = Slots.empty(latents, targets, config, decoder.dtype, coordinates=coordinates)
        register_operators()
        step = torch.compile(build_step(decoder, config, device), fullgraph=True, dynamic=False)
        with torch._dynamo.config.patch(DYNAMO), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # data pointers of fake tensors
            step(slots)
    return summarise(recorders)


def _put_on(device: torch.device, autoencoder: Autoencoder) -> None:
    """Give the loop's decoder fake weights on the device, in the memory formats that it has on `meta`."""
    for copied in autoencoder.cache.values("copies").values():
        for module in copied.modules():
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    if tensor is not None:
                        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
                        table[name] = torch.nn.Parameter(made, requires_grad=False)


def _intercept(recorders: list[Recorder], code: Path | None) -> None:
    """Compile the kernels of each module that Inductor writes, and record it in place of running it."""
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codecache import PyCodeCache

    load: Any = PyCodeCache.load_by_key_path

    def loaded(key: str, path: str, *arguments: Any, **options: Any) -> Any:
        recorder = Recorder()
        recorders.append(recorder)
        if code is not None:
            code.write_bytes(Path(path).read_bytes())

        def triton(self: Any, name: str, source: str, *ignored: Any, **ignored_too: Any) -> Any:
            made = load(*PyCodeCache.write(source))
            getattr(made, name).precompile(warm_cache_only=True)  # to machine code, which it does not run
            return recorder.kernel(name, source)

        compiler: Any = AsyncCompile
        compiler.triton = triton
        compiler.wait = lambda self, scope: None
        module = load(key, path, *arguments, **options)
        call = module.call
        module.call = lambda values: replay(module, call, recorder, values)
        return module

    PyCodeCache.load_by_key_path = loaded  # type: ignore[method-assign]


def main() -> None:
    request, result = (Path(argument) for argument in sys.argv[1:3])
    wanted = json.loads(request.read_text(encoding="utf-8"))
    found = trace(wanted, pretend(), None if wanted["code"] is None else Path(wanted["code"]))
    result.write_text(json.dumps(found), encoding="utf-8")
    sys.stderr.flush()
    os._exit(0)  # the autograd engine's thread for the device cannot be joined without a driver


if __name__ == "__main__":
    main()
