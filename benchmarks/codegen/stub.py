"""A stub of CUDA's runtime and driver libraries, which lets torch trace operations on `cuda:0` without a GPU.

It answers the questions that torch asks while it traces: one device, of compute capability 9.0. Nothing can be launched.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from ...engine.errors import RelatentError

# The properties' offsets are those of cudaDeviceProp: warpSize, maxThreadsPerBlock, major, minor. The driver's functions
# that are never called must exist, because libcaffe2_nvrtc.so takes the addresses of all of them when it is loaded.
SOURCE = r"""
#define GIVE(name, type, value) int name(type *out) { *out = value; return 0; }
#define PASS(name) int name(void) { return 0; }
#define FAIL(name) int name(void) { return 999; }
GIVE(cudaGetDeviceCount, int, 1)
GIVE(cudaGetDevice, int, 0)
GIVE(cudaDriverGetVersion, int, 99990)
PASS(cudaSetDevice)
PASS(cudaGetLastError)
int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = 0; return 0; }
int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaGetDeviceProperties(char *out, int device) {
    *(int *)(out + 308) = 32; *(int *)(out + 320) = 1024; *(int *)(out + 360) = 9; *(int *)(out + 364) = 0;
    return 0;
}
int cudaGetDeviceProperties_v2(char *out, int device) { return cudaGetDeviceProperties(out, device); }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
FAIL(cuCtxGetCurrent) FAIL(cuCtxSetCurrent) FAIL(cuDeviceGet) FAIL(cuDeviceGetAttribute)
FAIL(cuDevicePrimaryCtxRetain) FAIL(cuFuncGetAttribute) FAIL(cuFuncSetAttribute) FAIL(cuFuncSetCacheConfig)
FAIL(cuGetErrorString) FAIL(cuLaunchCooperativeKernel) FAIL(cuLaunchKernel) FAIL(cuLinkAddData_v2)
FAIL(cuLinkComplete) FAIL(cuLinkCreate_v2) FAIL(cuModuleGetFunction) FAIL(cuModuleLoad) FAIL(cuModuleLoadData)
FAIL(cuModuleLoadDataEx) FAIL(cuModuleUnload) FAIL(cuOccupancyMaxActiveBlocksPerMultiprocessor)
FAIL(cuPointerGetAttribute) FAIL(cuTensorMapEncodeTiled)
"""


class CodegenUnavailableError(RelatentError):
    """This machine cannot show the compiled step."""


def build_stub(folder: Path) -> Path:
    """Compile the stub into `folder` and return its path. Raises `CodegenUnavailableError` where that is impossible."""
    if sys.platform != "linux":
        raise CodegenUnavailableError(f"codegen: needs Linux, found {sys.platform}; run it on a Linux machine")
    if torch.version.cuda is None:
        raise CodegenUnavailableError(
            f"codegen: torch {torch.__version__} is built without CUDA; install a build with it (no GPU is needed)"
        )
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CodegenUnavailableError("codegen: no C compiler (cc, gcc or clang) was found; install one")
    source, library = folder / "stub.c", folder / "libcuda.so.1"
    source.write_text(SOURCE, encoding="ascii")
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CodegenUnavailableError(f"codegen: {compiler} could not compile the stub: {done.stderr.strip()}")
    return library
