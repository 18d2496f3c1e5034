"""Executor for many machines: the same shards as Ray tasks. Requires `pip install "relatent[ray]"`."""

import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import RelatentError, RunStoppedError, UsageError
from ...engine.inputs.prefetch import auto_workers
from .worker import ShardResult, ShardWorker

RETRIES = 5  # retries of a shard whose process or node died: limited, since a shard may kill every process
ANSWER_SECONDS = 5.0  # seconds; Ray itself tries an address for minutes
STORE_BYTES = 128 * 2**20  # object store of a `local` cluster; the result of a shard is a few kilobytes
ENVIRONMENT = {  # read when Ray is imported; values set by the user take precedence
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` the working directory would be uploaded to each node
}

_cached_worker: tuple[str, ShardWorker] | None = None  # worker of this process, with the attempt that it belongs to


def check_ray(address: str) -> None:
    """Raise `UsageError` if Ray is not installed or nothing listens at the address."""
    _import()
    address = _resolve(address)
    if address not in ("local", "auto") and "://" not in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        except (OSError, ValueError, OverflowError) as error:
            raise UsageError(
                f"no Ray cluster at {address!r}: {error}; expected HOST:PORT, as `ray start --head` prints it, or auto"
            ) from error


def on_ray(
    out: Path, numbers: Sequence[int], address: str, workers: int | None, gpus: bool
) -> Generator[ShardResult, None, None]:
    """Make the shards on Ray and yield each when it is finished; the generator has to be closed.

    OUT and the pictures must be on a file system that every node sees under the same path. A task whose worker or node
    dies is retried elsewhere.
    address: that of a running cluster, `auto`, or `local`, which starts a cluster on this machine.
    gpus: reserve one GPU for each task if the cluster has any; otherwise one processor each.
    Raises `UsageError` if the cluster cannot be joined, what a task raises, and `RunStoppedError` if Ray gives up.
    """
    ray = _import()
    with _connected(ray, _resolve(address)):
        on_gpu = gpus and ray.cluster_resources().get("GPU", 0) >= 1
        task: Any = ray.remote(
            max_retries=RETRIES,
            # by default Ray ends the process after each GPU task; 0 keeps the engine for the next shard
            max_calls=0,
            num_cpus=1,
            num_gpus=1 if on_gpu else 0,
        )(process_shard)
        attempt = uuid.uuid4().hex
        waiting = [task.remote(str(out.resolve()), number, attempt, workers, on_gpu) for number in numbers]
        try:
            while waiting:
                done, waiting = ray.wait(waiting)
                yield _result(ray, out, done[0])
        finally:
            # a local cluster ends with the run; no force: with it Ray 2.60 may abort this process if a task ends just then
            for reference in waiting if address != "local" else ():
                ray.cancel(reference)


def _result(ray: Any, out: Path, reference: Any) -> ShardResult:
    """Return the result of a finished task. Raises the error of the task, or `RunStoppedError` if Ray gave up."""
    try:
        result: ShardResult = ray.get(reference)
        return result
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (RelatentError, OSError)):
            raise error.cause from None  # the message of Ray's own error contains the traceback
        raise
    except ray.exceptions.RayError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunStoppedError(
            f"Ray gave up on a shard, {type(error).__name__}: {reason}; what was finished is kept, "
            f"`relatent resume {out}` goes on"
        ) from error


def _import() -> Any:
    """Import Ray with its environment settings. Raises `UsageError` if it is not installed."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError('--ray needs Ray: pip install "relatent[ray]"') from error
    return ray


def _resolve(address: str) -> str:
    """Resolve `auto` to the environment variable RAY_ADDRESS if it is set, as Ray does."""
    return os.environ.get("RAY_ADDRESS") or address if address == "auto" else address


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """Connect to the cluster at the address, or use the one that this process is connected to already."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"no Ray cluster at {address!r}: {reason}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray installs its own handler
    try:
        with redirect_stdout(sys.stderr):  # Ray reports processes that died on stdout, which is reserved for results
            yield
    finally:
        with redirect_stdout(sys.stderr):  # including messages that Ray has buffered
            ray.shutdown()


def process_shard(out: str, number: int, attempt: str, workers: int | None, on_gpu: bool) -> ShardResult:
    """Make shard `number` of the run in OUT, independently of all other shards.

    Idempotent: the result is the same each time, and its file is published by an atomic rename.
    attempt: an arbitrary name of the attempt; the engine is reused for further shards of the same attempt.
    Raises `UsageError` if this node does not see the run's files.
    """
    global _cached_worker
    if _cached_worker is None or _cached_worker[0] != attempt:
        _cached_worker = None  # released first, since two engines may not fit in memory
        _cached_worker = attempt, _open(Path(out), workers, on_gpu)
    worker = _cached_worker[1]
    paths = [row.source.path for row in worker.folder.plan.rows(number) if row.source.sha256 is not None]
    if paths and not any(map(os.path.exists, paths)):  # otherwise all of them would be listed as failed
        raise UsageError(f"{paths[0]} and its neighbours {_not_shared()}")
    return worker.make_one(number)


def _open(out: Path, workers: int | None, on_gpu: bool) -> ShardWorker:
    """Open the run in OUT on this node, and build the worker for the resources of the task."""
    if not (out / "run.json").exists():
        raise UsageError(f"{out} {_not_shared()}")
    if on_gpu:  # `cuda` is the GPU of the task: Ray hides all others
        gpus = _gpus_here()
        return ShardWorker.open(out, "cuda", auto_workers("cuda", gpus) if workers is None else workers, gpus)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # the task has one processor, which also reads the pictures
    return ShardWorker.open(out, "cpu", workers or 0)


def _gpus_here() -> int:
    """Return the number of GPUs of this node, which share its processors."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return max(int(node["Resources"].get("GPU", 1)) for node in ray.nodes() if node["NodeID"] == here)


def _not_shared() -> str:
    """Return the part of an error message for files that this node does not see."""
    return f"not seen from {socket.gethostname()}: OUT and the pictures must be where all nodes see them, same path"
