"""Records what a generated module launches, by running its Python part on fake tensors."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .kernel_source import KernelSource, read_kernel

FEW = 16  # channels: what a convolution gives with fewer, such as the picture, is no activation
Part = tuple[int, int, int]  # of a storage: which one, offset and number of values


@dataclass(frozen=True)
class Launch:
    """One kernel, or one operator of ATen, which may launch several."""

    name: str
    kind: str  # fused, project, convolution, product, attention, copy or other
    triton: bool
    read: int  # bytes
    written: int  # bytes
    detail: str = ""  # of a convolution: what distinguishes it
    repeated: tuple[int, ...] = ()  # sizes in bytes of results that are stored a second time


class Recorder(TorchDispatchMode):
    """Records launches, buffers, and the bytes of buffers that are alive at once, while it is entered.

    Generated modules are made with `kernel` in place of Inductor's `AsyncCompile.triton`. Sizes are those of whole
    tensors: of one that is read in part, or more than once, all bytes are counted, once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[Launch] = []
        self.buffers: list[tuple[torch.dtype, tuple[int, ...]]] = []
        self.on_cpu = 0  # tensors of the CPU that were made or used
        self.peak = 0
        self.argument_bytes = 0
        self.activations: list[int] = []  # numbers of values of what convolutions give
        self._arguments: set[int] = set()  # storages
        self._alive: list[weakref.ReferenceType[torch.Tensor]] = []

    def kernel(self, name: str, source: str) -> Any:
        """Return an object whose `run` records a launch of the Triton kernel `name`."""
        facts = read_kernel(name, source)

        def run(*arguments: Any, **options: Any) -> None:
            self._launch_kernel(facts, [value for value in arguments if isinstance(value, torch.Tensor)])

        return type("Kernel", (), {"run": staticmethod(run)})()

    def _launch_kernel(self, facts: KernelSource, tensors: list[torch.Tensor]) -> None:
        given = dict(zip(facts.pointers, tensors, strict=True))
        kind = "copy" if facts.copies else "fused" if facts.generated else "project"
        read = _total(given[name] for name in facts.reads)
        written = _total(given[name] for name in facts.writes)
        again = [
            size
            for group in facts.repeated
            for size in sorted((_bytes(given[name]) for name in group), reverse=True)[1:]
        ]
        self.launches.append(Launch(facts.name, kind, True, read, written, repeated=tuple(again)))
        self._see(tensors)

    def start(self, arguments: list[torch.Tensor]) -> None:
        """Take note of the arguments of the whole step: weights, and the state of the slots."""
        self.argument_bytes = _total(arguments)
        self._arguments = {tensor.untyped_storage()._cdata for tensor in arguments}
        self._see(arguments)

    def allocate(self, size: Any, stride: Any, dtype: torch.dtype, device: str) -> torch.Tensor:
        """A new buffer."""
        made = torch.empty_strided(size, stride, dtype=dtype, device=device)
        self.buffers.append((dtype, tuple(size)))
        self._keep(made)
        return made

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        result = function(*arguments, **options)
        given = [value for value in tree_leaves((arguments, options)) if isinstance(value, torch.Tensor)]
        made = [value for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        self._see(given + made)
        name = str(function).removeprefix("aten.")
        if function.is_view or name.startswith(("empty", "detach", "prim.")):  # nothing is launched
            for value in made:
                self._alive.append(weakref.ref(value))
            return result
        known = {_part(value) for value in given}
        for value in made:
            if _part(value) not in known:
                self.buffers.append((value.dtype, tuple(value.shape)))
            self._keep(value)
        outputs = [value for key, value in options.items() if key == "out"]
        inputs = [value for value in given if not any(value is output for output in outputs)]
        kind, detail = _describe(name, arguments)
        if kind == "convolution":
            self.activations += [value.numel() for value in made if value.shape[1] >= FEW]
        self.launches.append(Launch(name, kind, False, _total(inputs), _total(made), detail))
        return result

    def _keep(self, tensor: torch.Tensor) -> None:
        self._alive.append(weakref.ref(tensor))
        self._alive = [reference for reference in self._alive if reference() is not None]
        storages = {}
        for reference in self._alive:
            if (value := reference()) is not None:
                storage = value.untyped_storage()
                storages[storage._cdata] = storage.nbytes()
        self.peak = max(self.peak, sum(size for key, size in storages.items() if key not in self._arguments))

    def _see(self, tensors: list[torch.Tensor]) -> None:
        self.on_cpu += sum(tensor.device.type == "cpu" for tensor in tensors)


def replay(module: Any, call: Callable[..., Any], recorder: Recorder, arguments: list[Any]) -> Any:
    """Run `call`, the function of a generated module, on fake tensors."""
    device = "cuda:0"
    replaced: dict[str, Callable[..., Any]] = {
        "empty_strided_cuda": lambda size, stride, dtype: recorder.allocate(size, stride, dtype, device),
        "empty_strided_cpu": lambda size, stride, dtype: recorder.allocate(size, stride, dtype, "cpu"),
        "reinterpret_tensor": lambda tensor, size, stride, offset=0: torch.as_strided(
            tensor, size, stride, tensor.storage_offset() + offset
        ),
        "get_raw_stream": lambda index: 0,
        "assert_alignment": lambda *ignored: None,
        "copy_if_misaligned": lambda tensor: tensor,
    }
    for name, function in replaced.items():
        setattr(module, name, function)
    recorder.start([value for value in arguments if isinstance(value, torch.Tensor)])
    with recorder:
        return call(arguments)


def _describe(name: str, arguments: tuple[Any, ...]) -> tuple[str, str]:
    """The kind of an operator of ATen, and what distinguishes a convolution."""
    if name.startswith("convolution_backward"):
        return "convolution", "backward"
    if name.startswith("convolution"):
        _, _, _, stride, _, _, transposed = arguments[:7]
        return "convolution", f"{'transposed, ' if transposed else ''}stride {stride[0]}"
    if "attention" in name:
        return "attention", ""
    if name.split(".")[0] in ("mm", "addmm", "bmm", "baddbmm"):
        return "product", ""
    return ("copy" if name.split(".")[0] in ("copy_", "clone", "_to_copy") else "other"), ""


def _part(tensor: torch.Tensor) -> Part:
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tensor.numel()


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _total(tensors: Any) -> int:
    """The bytes of tensors, those that are given twice counted once."""
    return sum({_part(tensor): _bytes(tensor) for tensor in tensors}.values())
