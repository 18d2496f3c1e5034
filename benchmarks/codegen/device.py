"""An H100 that is not there: what torch and Triton are told about it while they compile.

To be used in a process of its own that was started with the stub of `stub.py` in LD_PRELOAD; nothing is undone.
"""

from types import SimpleNamespace
from typing import Any

import torch

MEMORY = 80 * 2**30
SHARED = 232_448  # bytes a block may have
PROPERTIES = SimpleNamespace(
    name="H100 (absent)", major=9, minor=0, multi_processor_count=132, total_memory=MEMORY, warp_size=32,
    regs_per_multiprocessor=65_536, max_threads_per_multi_processor=2048, max_threads_per_block=1024,
    shared_memory_per_block=49_152, shared_memory_per_block_optin=SHARED, shared_memory_per_multiprocessor=233_472,
    L2_cache_size=50 * 2**20, gcnArchName="",
)  # fmt: skip


class _Driver:
    """The part of Triton's driver that is asked for while code is generated."""

    utils = SimpleNamespace(
        get_device_properties=lambda device: {"max_shared_mem": SHARED, "multiprocessor_count": 132}
    )

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cuda", 0)


def pretend() -> torch.device:
    """Make this process believe in the device, and return it."""
    import triton
    from torch._inductor import config
    from torch._inductor.fx_passes import joint_graph
    from torch._inductor.runtime import triton_helpers
    from torch._subclasses import fake_tensor

    cuda: Any = torch.cuda
    cuda._lazy_init = lambda: None
    cuda._get_device_properties = lambda device: PROPERTIES
    cuda.get_rng_state = lambda device=None: torch.empty(0, dtype=torch.uint8)
    cuda.set_rng_state = lambda state, device=None: None
    fake_tensor.init_gpu_context = lambda device: None  # type: ignore[assignment]  # it would allocate memory
    triton.runtime.driver.set_active(_Driver())
    triton_helpers.set_driver_to_gpu = lambda: None  # it would ask for the driver
    # These would run operations on the device: folding of constants, and the examples of the patterns of the joint graph,
    # which replace attention that is written out and pad matrices, neither of which the step has.
    config.joint_graph_constant_folding = False
    joint_graph.lazy_init = lambda *arguments, **options: None
    config.compile_threads = 1
    config.force_disable_caches = True
    return torch.device("cuda", 0)
