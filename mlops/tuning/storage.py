"""Where studies are kept: a journal file under the home, or a database that workers on several machines share."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops import settings
from mlops.errors import UserError

log = logging.getLogger("evergreen")

# Seconds: how often a worker says that it lives, and after which silence its trial is taken from it. Databases only: who
# shares a file also shares its locks, which end with their holder.
BEAT, SILENCE = 30, 180


def open_storage(name: str) -> Any:
    """Optuna's storage of a study; UserError where the database cannot be used."""
    import optuna
    from filelock import FileLock
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = settings.current()
    if where.tune_storage is not None:
        return _database(where.tune_storage)
    folder = where.home / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    # Optuna's own lock outlives a killed process for 30 s; this one is the kernel's.
    lock: Any = FileLock(folder / f"{name}.journal.lock")
    path = folder / f"{name}.journal"
    _mend(path, lock)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _mend(path: Path, lock: Any) -> None:
    """Cuts off a last line that a full disk or a power failure has torn: the next one would be written behind it, and no
    line of the journal be read again."""
    with lock:
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)
            log.warning("tune: the last line of %s was torn and is left out", path)


def _database(url: str) -> Any:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        raise UserError(
            "EVERGREEN_TUNE_STORAGE is no address of a database; allowed: sqlite:///…, postgresql://…"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are marked as experimental
            # Workers of a SQLite file wait for each other: the default of 5 s is short on a busy disk.
            patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
            return RDBStorage(url, engine_kwargs=patience, heartbeat_interval=BEAT, grace_period=SILENCE)
    except (SQLAlchemyError, ImportError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300].replace(url, shown)
        raise UserError(f"EVERGREEN_TUNE_STORAGE: {shown} cannot be used: {told}") from error


def beats(storage: Any) -> bool:
    """Whether a storage tells dead workers by their silence."""
    from optuna.storages import RDBStorage

    return isinstance(storage, RDBStorage)


@contextmanager
def heartbeat(storage: Any, trial_id: int) -> Iterator[None]:
    """Says every BEAT seconds that the worker of a trial lives; nothing for a file."""
    if not beats(storage):
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        pause = 0.0
        while not ended.wait(pause):
            pause = BEAT
            try:
                storage.record_heartbeat(trial_id)
            except Exception as error:  # the next one may get through
                log.warning("tune: a sign of life was not written: %s: %s", type(error).__name__, error)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
