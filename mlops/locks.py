"""One writer of a model's versions and aliases at a time: among the processes of a machine, and among all that share a store.

EVERGREEN_LOCK says where: "file" for one machine, "store" for a lease in the store's bucket, or postgresql://… for an
advisory lock of that database. Without it a store on S3 has its lease and any other a file.

A lock can be lost while its holder sleeps: a lease runs out, a database restarts. So it is no more than a queue. What may be
written is decided by the ledger, whose entries have consecutive numbers that only one writer can take each: the fencing
token of Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlops import settings
from mlops.errors import RegistryError, UserError

log = logging.getLogger("evergreen")

WAIT_SECONDS = 900.0  # a queue of registrations, each with an upload, in front of this one

Held = Callable[[], None]  # raises RegistryError where the lock was lost


@contextmanager
def lock(name: str) -> Iterator[Held]:
    """Waits until nobody else writes to a model's versions and aliases; RegistryError after a quarter of an hour.

    The lock of this machine comes first, so that its processes do not ask the store's all at once.
    """
    where = _where()
    with _file(name):
        if where == "file":
            yield _nothing_to_lose
        elif where == "store":
            from mlops.leases import lease
            from mlops.store import open_store

            with lease(open_store().blobs, f"locks/{name}", WAIT_SECONDS) as held:
                yield held
        else:
            with _advisory(where, name) as held:
                yield held


def _where() -> str:
    """ "file", "store" or the URL of a database."""
    current = settings.current()
    found = current.lock or ("store" if current.store.startswith("s3:") else "file")
    if found in ("file", "store") or found.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
        return found
    kind = found.partition("://")[0]  # what follows may hold a password
    raise UserError(f"EVERGREEN_LOCK is {kind!r}; allowed: file, store, or postgresql://…")


def _nothing_to_lose() -> None:
    """The system takes a file's lock from a process only when that process ends."""


@contextmanager
def _file(name: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder = settings.current().locks
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.registry.lock"
    try:
        with FileLock(path, timeout=WAIT_SECONDS):
            yield
    except Timeout:
        raise RegistryError(
            f"{path} was held by another process for {WAIT_SECONDS:g} s: it hangs, or many wait; `fuser {path}` names it"
        ) from None


@contextmanager
def _advisory(url: str, name: str) -> Iterator[Held]:
    """A session's advisory lock (PostgreSQL, "Explicit Locking"): it ends with the connection, however that ends."""
    import psycopg

    key = int.from_bytes(hashlib.sha256(f"evergreen:{name}".encode()).digest()[:8], "big", signed=True)
    address = "postgresql://" + url.partition("://")[2]
    shown = f"EVERGREEN_LOCK ({address.rpartition('@')[2]})"
    try:
        connection = psycopg.connect(
            address, autocommit=True, connect_timeout=10, application_name=f"evergreen {os.getpid()}"
        )
    except psycopg.Error as error:
        raise UserError(f"{shown} cannot be reached: {error}; check its address, user and password") from error

    def held() -> None:
        try:
            connection.execute("SELECT 1")
        except psycopg.Error as error:
            raise RegistryError(f"the lock of {name} was lost: {shown}: {error}; run again") from error

    with connection:
        try:
            connection.execute(f"SET lock_timeout = {int(WAIT_SECONDS * 1000)}")
            connection.execute("SELECT pg_advisory_lock(%s)", (key,))
        except psycopg.Error as error:
            raise RegistryError(f"no lock of {name} from {shown}: {error}") from error
        yield held
