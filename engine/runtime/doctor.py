"""Diagnostics for `relatent doctor`: what this machine supports, and why a fast path is off."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ...kernels.library import triton
from .allocator import keeps_freed_memory
from .device import computes_in_bf16, describe_device, resolve_device, resolve_precision, usable_processors

PACKAGES = (
    "torch",
    "torchvision",
    "triton",
    "diffusers",
    "vae-toolkit",
    "h5py",
    "pillow-heif",
    "pillow-jxl-plugin",
    "onnxruntime",
)


def examine() -> dict[str, Any]:
    """Return the diagnosis as JSON-compatible values: `facts`, name -> text, and `paths`, name -> {on, why}."""
    device = resolve_device("auto")
    described = describe_device(device)
    facts = {"python": platform.python_version(), "device": f"{described['device']}, {described['name']}"}
    facts |= {package: _version(package) for package in PACKAGES}
    facts["threads"] = (
        f"{torch.get_num_threads()}; this process may use {usable_processors()} of {os.cpu_count()} processors"
    )
    facts["precision auto"] = resolve_precision("auto", device)
    facts["HF_HOME"] = os.environ.get("HF_HOME", "not set: ~/.cache/huggingface")
    facts["BSDS500_PATH"] = os.environ.get("BSDS500_PATH", "not set")
    cuda = torch.cuda.is_available()
    paths = {
        "CUDA": _path(cuda, "found" if cuda else _why_no_cuda()),
        "bf16": _path(
            computes_in_bf16(device),
            "the device multiplies in it" if computes_in_bf16(device) else "this device only emulates it: fp32 is used",
        ),
        "Triton kernels": _path(
            cuda and triton is not None,
            "compiled on first use"
            if cuda and triton
            else "no GPU, so the same lines run in torch"
            if triton
            else "Triton is not installed",
        ),
        "CUDA graph": _path(cuda, "iterations are captured" if cuda else "no GPU, so iterations run eagerly"),
        "freed memory kept": _path(
            kept := keeps_freed_memory(),
            "by the C library, for the next tensors"
            if kept
            else "not with glibc's allocator, or its variables are set",
        ),
        "torchvision": _torchvision(),
    }
    return {"facts": facts, "paths": paths}


def _path(on: bool, why: str) -> dict[str, Any]:
    return {"on": bool(on), "why": why}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return "this torch was built without CUDA; install torch's CUDA build"
    return f"torch has CUDA {torch.version.cuda}, but no usable NVIDIA GPU or driver is here"


def _torchvision() -> dict[str, Any]:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        return _path(False, f"does not match torch, vae-toolkit cannot load: {str(error).splitlines()[0]}")
    return _path(True, "matches torch")
