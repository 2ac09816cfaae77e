"""Work that runs ahead of its consumer in a thread of its own, a bounded way ahead."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.1  # how soon a producer notices that nobody listens any more


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


class _Ended:
    """Nothing comes any more."""


class _Ahead(Generic[Item]):
    """Items of a generator, made in a thread; what it raises is raised where its item would have come."""

    def __init__(self, items: Generator[Item, None, None], *, depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[Item | _Failed | _Ended] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        # Whoever consumes may be within a run that its logs and its progress belong to.
        self._thread = threading.Thread(target=copy_context().run, args=(self._produce,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        while True:
            item = self._queue.get()
            if isinstance(item, _Ended):
                return
            if isinstance(item, _Failed):
                raise item.error
            yield item

    def close(self) -> None:
        """Stop the thread, which ends the generator's own clean-up, and wait for it."""
        self._stop.set()
        self._thread.join()

    def _produce(self) -> None:
        last: _Failed | _Ended = _Ended()
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again by the consumer)
            last = _Failed(error)
        finally:
            self._items.close()
            self._put(last)

    def _put(self, item: Item | _Failed | _Ended) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


@contextmanager
def ahead(items: Generator[Item, None, None], *, depth: int = 2) -> Iterator[Iterator[Item]]:
    """The items of a generator, made ahead in a thread while the block consumes them.

    Leaving the block, also by an error or Ctrl-C, ends the generator in its thread.

    Args:
        items: Used by the thread alone from now on.
        depth: Most items that wait; one more is in the making.
    """
    made = _Ahead(items, depth=depth)
    try:
        yield iter(made)
    finally:
        made.close()
