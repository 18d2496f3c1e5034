"""Many machines: the same shards on Ray, an engine for those who outgrow one. `pip install "relatent[ray]"`."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch

from ..engine.errors import UsageError
from .ledger import Shard
from .workshop import Workshop


def on_ray(out: Path, numbers: Sequence[int], address: str | None, workers: int | None) -> Iterator[Shard]:
    """These shards as they get done, a GPU each where the cluster has any, else a processor each.

    OUT and the pictures must be on a file system that every node sees under the same path. A task whose worker or node
    dies runs again elsewhere. address: of a running cluster, or `auto`; None starts one on this machine.
    Raises `UsageError` where Ray is not installed or cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError('--ray needs Ray: pip install "relatent[ray]"') from error
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
        except ConnectionError as error:
            raise UsageError(f"no Ray cluster at {address!r}: {error}") from error
    resource = "num_gpus" if ray.cluster_resources().get("GPU", 0) >= 1 else "num_cpus"
    task = ray.remote(process_shard).options(max_retries=-1, **{resource: 1})
    waiting = [task.remote(str(out.resolve()), number, workers) for number in numbers]
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            yield ray.get(done[0])
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def process_shard(out: str, number: int, workers: int | None = None) -> Shard:
    """Make shard `number` of the run in OUT, whoever else makes others. Idempotent: it comes out the same each time,
    and its file appears whole or not at all."""
    return _workshop(out, workers).make_one(number)


@lru_cache(maxsize=1)
def _workshop(out: str, workers: int | None) -> Workshop:
    """Kept for the next shard that comes to this process."""
    import ray

    if "GPU" not in ray.get_runtime_context().get_assigned_resources():
        torch.set_num_threads(1)  # the one processor that it was given
        return Workshop.open(Path(out), "cpu", workers)
    return Workshop.open(Path(out), "cuda", workers)  # Ray shows a worker its own device only
