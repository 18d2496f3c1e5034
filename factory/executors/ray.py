"""Many machines: the same shards on Ray, an engine for those who outgrow one. `pip install "relatent[ray]"`."""

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

RETRIES = 5  # of a shard whose process or node died: one that kills all its processes must not go on for ever
ANSWER_SECONDS = 5.0  # Ray itself tries an address for minutes
STORE_BYTES = 128 * 2**20  # of a cluster for the run alone; what comes back of a shard is a few kilobytes
ENVIRONMENT = {  # read when Ray is imported; what the user has set counts
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent home
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` the working directory would be uploaded to each node
}

_held: tuple[str, ShardWorker] | None = None  # of a worker process, with the attempt that it belongs to


def check_ray(address: str) -> None:
    """Raise `UsageError` where Ray is not installed, or nothing listens at the address."""
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
    """These shards as they get done; to be closed.

    OUT and the pictures must be on a file system that every node sees under the same path. A task whose worker or node
    dies runs again elsewhere. address: of a running cluster, `auto`, or `local`, which starts one on this machine.
    gpus: one for each task, where the cluster has any; else a processor each. Raises `UsageError` where the cluster
    cannot be joined, what a task raises, and `RunStoppedError` where Ray gives up.
    """
    ray = _import()
    with _connected(ray, _resolve(address)):
        on_gpu = gpus and ray.cluster_resources().get("GPU", 0) >= 1
        task: Any = ray.remote(
            max_retries=RETRIES,
            # Ray ends the process after each task on a GPU, unless told not to: the engine stays for the next shard
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
            # an own cluster ends with the run; by force, Ray 2.60 may abort this process when a task is done just then
            for reference in waiting if address != "local" else ():
                ray.cancel(reference)


def _result(ray: Any, out: Path, reference: Any) -> ShardResult:
    try:
        made: ShardResult = ray.get(reference)
        return made
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, (RelatentError, OSError)):
            raise error.cause from None  # Ray's own has the traceback in its words
        raise
    except ray.exceptions.RayError as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunStoppedError(
            f"Ray gave up on a shard, {type(error).__name__}: {reason}; what was finished is kept, "
            f"`relatent resume {out}` goes on"
        ) from error


def _import() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError('--ray needs Ray: pip install "relatent[ray]"') from error
    return ray


def _resolve(address: str) -> str:
    """As Ray does it."""
    return os.environ.get("RAY_ADDRESS") or address if address == "auto" else address


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    """To the cluster that this process is connected to already, else to that at the address."""
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
            signal.signal(signal.SIGTERM, handler)  # Ray sets its own
    try:
        with redirect_stdout(sys.stderr):  # Ray tells on stdout, which is for results, of processes that died
            yield
    finally:
        with redirect_stdout(sys.stderr):  # also what it has kept back
            ray.shutdown()


def process_shard(out: str, number: int, attempt: str, workers: int | None, on_gpu: bool) -> ShardResult:
    """Make shard `number` of the run in OUT, whoever else makes others. Idempotent: it comes out the same each time,
    and its file appears whole or not at all.

    attempt: any name; the engine stays for the next shard of the same. Raises `UsageError` where this node does not see
    the run's files.
    """
    global _held
    if _held is None or _held[0] != attempt:
        _held = None  # first, since two may not fit in memory
        _held = attempt, _open(Path(out), workers, on_gpu)
    worker = _held[1]
    paths = [row.source.path for row in worker.folder.plan.rows(number) if row.source.sha256 is not None]
    if paths and not any(map(os.path.exists, paths)):  # they would all be listed as failed
        raise UsageError(f"{paths[0]} and its neighbours {_unseen()}")
    return worker.make_one(number)


def _open(out: Path, workers: int | None, on_gpu: bool) -> ShardWorker:
    if not (out / "run.json").exists():
        raise UsageError(f"{out} {_unseen()}")
    if on_gpu:  # cuda is the task's own: Ray shows it no other
        gpus = _gpus_here()
        return ShardWorker.open(out, "cuda", auto_workers("cuda", gpus) if workers is None else workers, gpus)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # the one processor that it was given, which reads the pictures too
    return ShardWorker.open(out, "cpu", workers or 0)


def _gpus_here() -> int:
    """Those of this node, which share its processors."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return max(int(node["Resources"].get("GPU", 1)) for node in ray.nodes() if node["NodeID"] == here)


def _unseen() -> str:
    return f"not seen from {socket.gethostname()}: OUT and the pictures must be where all nodes see them, same path"
