"""Locks that several machines share: one at a time, taken over from who ended, and its loss is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops import leases
from mlops.blobs import Blobs, LocalBlobs, open_blobs
from mlops.errors import RegistryError, UserError
from mlops.leases import lease
from mlops.locks import lock


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    if request.param == "folder":
        return LocalBlobs(tmp_path / "store")
    for name, value in request.getfixturevalue("s3_server").items():
        monkeypatch.setenv(name, value)
    return open_blobs(f"s3://evergreen/{tmp_path.name}")


@pytest.fixture
def postgres_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from servers import postgres

    with postgres(tmp_path) as url:
        monkeypatch.setenv("EVERGREEN_LOCK", url)
        yield url


def test_one_at_a_time(blobs: Blobs) -> None:
    inside, most, order = [0], [0], []

    def work(number: int) -> None:
        with lease(blobs, "locks/a", 60, term=20) as held:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            held()
            order.append(number)
            inside[0] -= 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(90)
    assert (most[0], sorted(order)) == (1, list(range(6)))
    assert len(blobs.list("locks/a/")) <= 2  # the numbers before are swept


def test_who_does_not_renew_loses_it_and_is_told(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases._Lease, "keep", lambda self, over: None)  # a process that sleeps
    with lease(blobs, "locks/a", 5, term=1.0) as lost:
        lost()
        started = time.monotonic()
        with lease(blobs, "locks/a", 30, term=1.0) as held:
            assert time.monotonic() - started > 0.9
            held()
            with pytest.raises(RegistryError, match=r"was lost: renewed .* run again"):
                lost()
    # What the loser gives back at its end is not what the winner holds.
    with lease(blobs, "locks/a", 5, term=30):
        pass


def test_who_renews_keeps_it(blobs: Blobs) -> None:
    with lease(blobs, "locks/a", 5, term=1.0) as held:
        with pytest.raises(RegistryError, match=r"is held by .*:\d+:.* gives up"), lease(blobs, "locks/a", 3, term=1.0):
            pass
        held()


def test_a_takers_number_that_was_swept_is_not_held(blobs: Blobs) -> None:
    """A process that slept between looking and taking: the number was taken, given back and swept since."""
    slow = leases._Lease(blobs, "locks/a", 30)
    for _ in range(3):
        with lease(blobs, "locks/a", 5):
            pass
    newest = blobs.list("locks/a/")
    assert not slow._make(1)
    assert blobs.list("locks/a/") == newest


def test_postgres_keeps_sessions_apart_and_their_end_is_noticed(postgres_lock: str) -> None:
    import psycopg

    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait(20)
        address = postgres_lock.replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as other:  # another machine: no file of this one keeps it out
            waiting = other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted").fetchone()
            order.append(f"{waiting[0] if waiting else None} held")
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
        order.append("ended")

    other = threading.Thread(target=second)
    other.start()
    with lock("a") as held:
        held()
        inside.set()
        other.join(30)
        with pytest.raises(RegistryError, match="the lock of a was lost"):
            held()
    assert order == ["1 held", "ended"]


@pytest.mark.parametrize("found", ["redis://a", "postgres", "mysql://u:secret@h/d"])
def test_other_locks_are_refused_without_their_passwords(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_LOCK", found)
    with pytest.raises(UserError, match="allowed: file, store, or postgresql") as caught, lock("a"):
        pass
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there_is_a_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_LOCK", "postgresql://me:secret@127.0.0.1:1/locks")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1/locks\) cannot be reached") as caught, lock("a"):
        pass
    assert "secret" not in str(caught.value)
