"""The lock of an object store: a lease, which ends by itself where its holder was killed.

Each taking of a lease is an object of its own, numbered upwards and created by a put that the server refuses where
the number is there already. The holder is whoever made the highest number. Nobody can therefore take a lease that
somebody else took in the same moment, and a holder that slept too long finds out that it no longer is one.
"""

import contextlib
import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from storage.errors import LeaseLostError
from storage.places import put_bytes

if TYPE_CHECKING:
    from upath import UPath

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
"""A lease that its holder did not renew for so long is free. Clocks of machines may differ by much less."""


class Lease:
    """The right to make one artefact of an object store, for a while.

    Args:
        target: The artefact.
        seconds: How long it holds unless renewed.
        clock: Seconds since 1970, on every machine about the same.
    """

    def __init__(
        self, target: "UPath", *, seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self.target = target
        self._folder = target.with_name(f".{target.name}.lease")
        self._seconds = seconds
        self._clock = clock
        self._holder = f"{socket.gethostname()}-{secrets.token_hex(8)}"
        self._number = 0

    def take(self) -> bool:
        """Take the lease if it is free or expired; whether that worked."""
        newest = self._newest()
        if newest and self._expires(newest) > self._clock():
            return False
        number = newest + 1
        if not put_bytes(self._object(number), self._content(), once=True):
            return False
        if self._newest() != number:
            # The list was read before others took, and gave back, the lease several times.
            self._remove(number)
            return False
        if newest:
            log.warning("%s: another process left its work there unfinished; it is taken over.", self.target)
        self._number = number
        return True

    def renew(self) -> None:
        """Hold the lease from now on for its whole length.

        Raises:
            LeaseLostError: Another process took it over.
        """
        self.check()
        put_bytes(self._object(self._number), self._content(), once=False)

    def check(self) -> None:
        """Make sure that the lease is still ours, before something is written under it.

        Raises:
            LeaseLostError: Another process took it over.
        """
        if self._newest() != self._number:
            raise LeaseLostError(
                f"{self.target}: another process took over this work because this one stood still for more than "
                f"{self._seconds:.0f} seconds. Run the same command again: it uses what the other stored."
            )

    def release(self) -> None:
        """Give the lease back; one that was taken over stays with its new holder."""
        for number in self._numbers():
            if number <= self._number:
                self._remove(number)
        self._number = 0

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew in the background while the block runs, then give the lease back."""
        stop = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(stop,), daemon=True, name="lease")
        keeper.start()
        try:
            yield
        finally:
            stop.set()
            keeper.join()
            self.release()

    def _keep(self, stop: threading.Event) -> None:
        while not stop.wait(self._seconds / 3):
            try:
                self.renew()
            except LeaseLostError as error:
                # The next write under the lease says so where somebody can act on it.
                log.warning("%s", error)
                return
            except Exception:  # a server that cannot be reached now may be there the next time
                log.exception("%s: the lease could not be renewed", self.target)

    def _newest(self) -> int:
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        try:
            listed = self._folder.fs.ls(self._folder.path, detail=False)
        except FileNotFoundError:
            return []
        names = [str(name).rsplit("/", 1)[-1] for name in listed]
        return sorted(int(name) for name in names if name.isdecimal())

    def _expires(self, number: int) -> float:
        try:
            facts: dict[str, Any] = json.loads(self._object(number).read_bytes())
            return float(facts["expires"])
        except FileNotFoundError:
            return 0.0

    def _object(self, number: int) -> "UPath":
        return self._folder / f"{number:08d}"

    def _content(self) -> bytes:
        return json.dumps({"holder": self._holder, "expires": self._clock() + self._seconds}).encode()

    def _remove(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._object(number).unlink()
