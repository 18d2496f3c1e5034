"""Measurements that are made once per decoder and take seconds: whoever runs the engine may show their progress."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)

Listener = Callable[[str, float], None]  # what is measured, and the fraction done, in [0, 1]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` during the measurements that are made inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def one_time(what: str, steps: int) -> Iterator[Callable[[], None]]:
    """Announce a measurement of about so many steps; yield what is to be called after each of them."""
    logger.info("%s, once; the result is kept on disk", what)
    listener, done = _listener.get(), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if listener is not None:
            listener(what, min(done / steps, 1.0))

    if listener is not None:
        listener(what, 0.0)
    yield advance
    if listener is not None:
        listener(what, 1.0)
