"""Runs iterations on fixed slots: eagerly, compiled into one region, or replayed from a CUDA graph."""

import contextlib
import logging
import time
from collections.abc import Iterator

import torch

from ...kernels.library import register_operators
from ..errors import first_line
from ..runtime.cuda_flags import exact_fp32, tuned_convolutions
from .slots import Slots
from .step import Step

logger = logging.getLogger(__name__)

# trace_autograd_ops: the region holds its own backward pass. recompile_limit: each configuration compiles once, and a
# process may well use more than dynamo's 8.
DYNAMO = {"trace_autograd_ops": True, "recompile_limit": 128}
REPLAY = 0.1  # what the host takes between two replays, in iterations; an estimate, with 1 ms for an iteration


class EagerRunner:
    """Runs the step eagerly, on the active slots only."""

    mode = "eager"
    compile_seconds = 0.0

    def __init__(self, step: Step, slots: Slots):
        self.step, self.slots = step, slots

    def run(self, iterations: int) -> None:
        """Run that many iterations, or fewer where every image is done before."""
        where = self.slots.active.nonzero().flatten().tolist()
        if not where:
            return
        everything = len(where) == len(self.slots.active)
        part = self.slots if everything else self.slots.take(where)
        left = int((part.max_steps - part.step).max())
        looking_is_free = part.latents.device.type == "cpu"
        with _arithmetic(part):
            for _ in range(min(iterations, left)):
                self.step(part)
                if looking_is_free and not bool(part.active.any()):
                    break
        if not everything:
            self.slots.put(where, part)


class CompiledRunner:
    """Runs one compiled region per iteration; it is compiled on construction, and the content of the slots is preserved."""

    mode = "compiled"

    def __init__(self, step: Step, slots: Slots):
        self.slots = slots
        register_operators()
        self.step = torch.compile(step, fullgraph=True, dynamic=False)
        begin = time.perf_counter()
        with _preserved(slots), torch._dynamo.config.patch(DYNAMO), _arithmetic(slots), tuned_convolutions():
            self.step(slots)
        self.compile_seconds = time.perf_counter() - begin

    def run(self, iterations: int) -> None:
        """Run that many iterations."""
        with torch._dynamo.config.patch(DYNAMO), _arithmetic(self.slots):
            for _ in range(iterations):
                self.step(self.slots)


class CapturedRunner:
    """`per_replay` iterations of another runner's step in one CUDA graph, on its slots' own memory.

    Warm-up and capture happen on one side stream. Threads that write files may use the device meanwhile
    (`capture_error_mode="thread_local"`). cuDNN is tuned before the capture, in which it could not be.
    """

    mode = "captured"

    def __init__(self, runner: EagerRunner | CompiledRunner, per_replay: int):
        step, slots = runner.step, runner.slots
        device = slots.latents.device
        begin = time.perf_counter()
        self.slots, self.per_replay, self.graph = slots, per_replay, torch.cuda.CUDAGraph()
        stream, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        stream.wait_stream(before)
        with torch.cuda.device(device), _preserved(slots), torch._dynamo.config.patch(DYNAMO), _arithmetic(slots):
            with torch.cuda.stream(stream), tuned_convolutions():
                for _ in range(2):  # tune what is left to tune, allocate as it will be captured
                    step(slots)
            stream.synchronize()
            try:
                with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                    for _ in range(per_replay):
                        step(slots)
            finally:
                torch.cuda.set_stream(before)  # where the capture fails, torch before 2.15 leaves the other one
        before.wait_stream(stream)
        self.compile_seconds = runner.compile_seconds + time.perf_counter() - begin

    def run(self, iterations: int) -> None:
        """Replay the graph for `iterations`, a multiple of `per_replay`."""
        for _ in range(iterations // self.per_replay):
            self.graph.replay()


Runner = EagerRunner | CompiledRunner | CapturedRunner


def make_runner(step: Step, slots: Slots, mode: str, per_replay: int, *, compiled: bool = True) -> Runner:
    """mode: eager, compiled or captured; captured without `compiled` is a graph of the eager iteration.

    One that cannot be captured is logged and runs as it was to be captured, with the host between its launches.
    """
    eager = mode == "eager" or not compiled
    runner: EagerRunner | CompiledRunner = EagerRunner(step, slots) if eager else CompiledRunner(step, slots)
    if mode != "captured":
        return runner
    try:
        return CapturedRunner(runner, per_replay)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the driver, of a library, or of an operation that synchronises
        logger.warning(
            "the iteration cannot be captured and runs %s, which is slower: %s", runner.mode, first_line(error)
        )
        return runner


def build_runner(step: Step, slots: Slots, mode: str, per_replay: int, *, compiled: bool = True) -> Runner:
    """Call `make_runner`; a step that cannot be compiled is logged once and runs eagerly."""
    try:
        return make_runner(step, slots, mode, per_replay, compiled=compiled)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the compiler's own kinds are many and change between versions
        logger.warning("the iteration does not compile and runs eagerly, which is slower: %s", first_line(error))
        return EagerRunner(step, slots)


def choose_mode(compile_setting: str, device: torch.device) -> str:
    """Return eager, compiled or captured. On CPU compiling gains nothing (convolutions bound it) and costs a minute."""
    if compile_setting == "off" or (compile_setting == "auto" and device.type != "cuda"):
        return "eager"
    return "captured" if device.type == "cuda" else "compiled"


def replay_length(iterations: int, checkpoint_interval: int) -> int:
    """Return how many iterations a replay has, at most `checkpoint_interval`, for whole replays to take least time.

    The last replay may go past the end. What it does there changes nothing, since no image is active any more, but takes
    as long as any other iteration.
    """
    lengths = range(1, min(iterations, checkpoint_interval) + 1)
    return min(lengths, key=lambda length: -(-iterations // length) * (length + REPLAY))


def _arithmetic(slots: Slots) -> contextlib.AbstractContextManager[None]:
    """In which an iteration runs: what is asked for in fp32 is computed in fp32. In lower precision, and for the fp32 parts
    of such a loop, TF32 is as the caller has set it."""
    return exact_fp32() if slots.decoder_input.dtype == torch.float32 else contextlib.nullcontext()


@contextlib.contextmanager
def _preserved(slots: Slots) -> Iterator[None]:
    """Restore the content of the slots, at the same addresses, when the block ends."""
    kept = {name: getattr(slots, name).detach().clone() for name in Slots.names()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in kept.items():
                getattr(slots, name).copy_(tensor)
