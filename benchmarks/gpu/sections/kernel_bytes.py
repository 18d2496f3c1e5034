"""Bytes that the compiler's own kernels move, as it counts them when it makes them."""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Let what is compiled meanwhile count the bytes of its kernels; the kernels stay the same."""
    from torch._inductor import config

    with config.patch(benchmark_kernel=True):
        yield


def kernel_bytes() -> dict[str, float]:
    """Return name -> bytes of one call, of all kernels compiled in this process under `counted`. Kernels of this project
    are not among them: the section `kernels` measures those."""
    codecache = sys.modules.get("torch._inductor.codecache")
    if codecache is None:
        return {}
    modules = codecache.PyCodeCache.modules
    found: dict[str, float] = {}
    for module in modules.values() if isinstance(modules, dict) else modules:
        for kernel in vars(module).values():
            facts = getattr(kernel, "inductor_meta", None)
            if isinstance(facts, dict) and facts.get("kernel_num_gb"):
                found[facts.get("kernel_name", "")] = 1e9 * float(facts["kernel_num_gb"])
    return found
