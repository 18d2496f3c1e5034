"""Tasks of a study that several processes share: each is done once, its file being written when it is done."""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 2.0


@dataclass(frozen=True)
class Task:
    """run writes `done`, atomically and last; it can start when all files of `needs` are there."""

    name: str
    done: Path
    needs: tuple[Path, ...]
    run: Callable[[], None]


def run_tasks(tasks: Sequence[Task], locks: Path, say: Callable[[str], None] = print) -> None:
    """Return when all are done, by this process or by others; always start the first one that can be."""
    locks.mkdir(parents=True, exist_ok=True)
    while waiting := [task for task in tasks if not task.done.is_file()]:
        ready = (task for task in waiting if all(path.is_file() for path in task.needs))
        if not any(_try(task, locks, say) for task in ready):
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _try(task: Task, locks: Path, say: Callable[[str], None]) -> bool:
    with claim(locks / f"{task.name.replace('/', '-')}.lock") as claimed:
        if not claimed or task.done.is_file():
            return task.done.is_file()
        started = time.monotonic()
        task.run()
        say(f"{task.name}: {time.monotonic() - started:.1f} s")
        return True


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Whether this process has the lock, until the end of the block; a killed process frees it."""
    with path.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
