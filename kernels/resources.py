"""Resource report of the Triton kernels: registers, shared memory and spills, compiled on this machine without a GPU.

python -m relatent.kernels.resources [--json] [sm_80 sm_90 ...]
"""

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from .library import INTERPRETED, require, triton
from .registry import VARIANTS, Variant

ARCHITECTURES = ("sm_80", "sm_90")
TILE = 1024  # values; what is loaded in smaller pieces are parameters


def compile_variant(variant: Variant, architecture: str) -> dict[str, Any]:
    """Compile one variant and return its resources: registers per thread, shared memory (bytes), spills (bytes stored
    and loaded), stack (bytes), widest global load (bits), fewest bytes that a warp reads beside each other of a tile,
    number of warps, and operations in fp64, which are slow.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names: list[str] = variant.kernel.arg_names  # type: ignore[attr-defined]
    signature = dict(zip(names, variant.types, strict=False))
    signature |= dict.fromkeys(variant.constants, "constexpr")
    # Alignment as with torch's allocations: pointers are multiples of 16 bytes, and sizes are multiples of 16.
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(names)
        if signature[name].startswith("*") or signature[name] == "i32"
    }
    constants = {(names.index(name),): value for name, value in variant.constants.items()}
    source = ASTSource(variant.kernel, signature, constants, aligned)
    target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    compiled = triton.compile(source, target=target, options={"num_warps": 4})
    ptx = compiled.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        named = re.search(r"^\.target\s+(sm_\w+)", ptx, re.MULTILINE)
        command = [
            _ptxas(target.arch),
            "-v",
            f"--gpu-name={named[1] if named else architecture}",
            str(path),
            "-o",
            f"{path}.o",
        ]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    vectors = [int(n or 1) * int(bits) for n, bits in re.findall(r"ld\.global(?:\.v(\d))?\.\w*?(\d+)\b", ptx)]
    return {
        "registers": _number(r"Used (\d+) registers", report),
        "shared": compiled.metadata.shared,
        "spills": _number(r"(\d+) bytes spill stores", report) + _number(r"(\d+) bytes spill loads", report),
        "stack": _number(r"(\d+) bytes stack frame", report),
        "widest_load_bits": max(vectors, default=0),
        "contiguous_bytes": min(_contiguous_bytes(compiled.asm["ttgir"]), default=0),
        "warps": compiled.metadata.num_warps,
        "fp64_operations": len(re.findall(r"\b(?:add|sub|mul|fma|div|sqrt)\.\S*f64\b", ptx)),
    }


def _contiguous_bytes(ttgir: str) -> list[int]:
    """Return, for each load of a tile in Triton's GPU dialect, how many bytes a warp reads beside each other.

    Memory is fetched in sectors of 32 bytes and lines of 128: with less than 32 a warp fetches what it does not use.
    """
    layouts = {}
    for name, content in re.findall(r"^(#\w+) = #ttg\.blocked<\{(.*)\}>", ttgir, re.MULTILINE):
        size, threads, order = (
            [int(number) for number in re.search(rf"{word} = \[(.*?)\]", content)[1].split(",")]  # type: ignore[index]
            for word in ("sizePerThread", "threadsPerWarp", "order")
        )
        layouts[name] = order[0], size[order[0]] * threads[order[0]]
    found = []
    for shape, element, name in re.findall(r"tt\.load .*: tensor<([\dx]+)x!tt\.ptr<(\w+)>, (#\w+)>", ttgir):
        extents = [int(extent) for extent in shape.split("x")]
        if prod(extents) >= TILE and name in layouts:
            axis, values = layouts[name]
            found.append(min(extents[axis], values) * _number(r"(\d+)$", element) // 8)
    return found


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _ptxas(architecture: int) -> str:
    """Return the path of the assembler that Triton itself uses for this architecture."""
    from triton.backends.nvidia.compiler import get_ptxas

    return str(get_ptxas(architecture).path)


def report(architectures: tuple[str, ...] = ARCHITECTURES) -> dict[str, dict[str, dict[str, Any]]]:
    """Return architecture -> kernel -> resources. Raises `ValueError` where Triton is absent or in interpreter mode."""
    require(triton is not None, "resources: Triton is not installed; it comes with torch for Linux")
    require(not INTERPRETED, "resources: TRITON_INTERPRET=1 is set, so nothing is compiled; unset it")
    variants = VARIANTS | {
        f"{name}, in compiled code": in_compiled_code(variant)
        for name, variant in VARIANTS.items()
        if "fp32" in variant.types
    }
    return {
        architecture: {name: compile_variant(variant, architecture) for name, variant in variants.items()}
        for architecture in architectures
    }


def in_compiled_code(variant: Variant) -> Variant:
    """Return the variant as torch.compile of torch 2.11 calls it, which declares a Python float as fp64."""
    return replace(variant, types=tuple("fp64" if kind == "fp32" else kind for kind in variant.types))


def main(arguments: list[str]) -> int:
    """Print the resources as a table, or with --json as JSON."""
    architectures = tuple(word for word in arguments if word.startswith("sm_")) or ARCHITECTURES
    found = report(architectures)
    if "--json" in arguments:
        print(json.dumps(found, indent=1))
        return 0
    for architecture, kernels in found.items():
        print(f"{architecture:54} registers  shared  spills  stack  widest load  beside each other")
        for name, row in kernels.items():
            print(
                f"  {name:52} {row['registers']:9} {row['shared']:7} {row['spills']:7} {row['stack']:6} "
                f"{row['widest_load_bits']:8} bit {row['contiguous_bytes']:10} bytes"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
