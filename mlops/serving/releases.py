"""Which release serves: found by its alias, copied here, verified, loaded beside the old one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import shutil
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops import settings, signing
from mlops.errors import NotFound, StoreError, UserError
from mlops.serving import golden
from mlops.serving.copies import require_copy
from mlops.serving.first_load import try_load
from mlops.serving.runtime import Runtime
from mlops.store import MANIFEST, check_manifest, open_store
from mlops.types import Release

log = logging.getLogger("evergreen")

POLL_SECONDS = 2.0
RETRY_SECONDS = 30.0  # a release that could not be loaded is tried again: the disk may have been full
FIRST_LOAD_SECONDS = 120.0  # that a release has to be loaded and asked for the first time
_SETTLE = 0.2  # of several signs to look, one look
KEPT = 3  # local copies beside the one that serves


@dataclass(frozen=True)
class Served:
    """A loaded release; a request uses one of these from start to end."""

    name: str
    version: str
    variant: str
    runtime: Runtime


def load_runtime(name: str, alias: str = "champion", threads: int | None = None) -> tuple[Runtime, Served]:
    """The runtime behind an alias or version number. NotFound where there is none."""
    from mlops import registry

    served = _open(registry.at(name, alias), threads)
    return served.runtime, served


def _folder(name: str) -> Path:
    return settings.current().cache / "serving" / name


def _place(release: Release) -> Path:
    # Two registries may both have a version 1: the copy is named by its content too.
    return _folder(release.name) / f"{release.version}-{release.model.files.sha256[:16]}"


def _open(release: Release, threads: int | None = None) -> Served:
    """Loads a release from the local copy, which is made first where there is none. What this machine has not loaded before is
    tried in a process of its own."""
    from mlops import registry

    registry.require_verdicts(release)
    package = _place(release)
    if (package / MANIFEST).is_file():
        try:
            require_copy(package, release.model.files.sha256)
        except StoreError as error:
            log.warning("%s; it is copied again", error)
            shutil.rmtree(package)
    if not (package / MANIFEST).is_file():
        _download(release, package)
        require_copy(package, release.model.files.sha256)
    _keep_signature(package, release.model.files.sha256)
    tried = _beside(package, "tried")
    if not tried.exists():
        try_load(package, _cases(package), FIRST_LOAD_SECONDS, threads)
        tried.touch()
    return _load(release.name, release.version, package, threads)


def _load(name: str, version: str, package: Path, threads: int | None = None) -> Served:
    """Answers once, to be warm, and then the golden cases; UserError where it answers those otherwise, StoreError without a
    signature where one is asked for."""
    if signing.required():
        kept = _beside(package, "signature")
        signature = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
        signing.require(package, signature, f"{name} version {version}")
    runtime = Runtime.load(package, threads)
    runtime.warm_up()
    cases = _cases(package)
    if cases and (wrong := golden.differs(runtime, cases)):
        raise UserError(wrong)
    return Served(name, version, runtime.variant, runtime)


def _beside(package: Path, what: str) -> Path:
    """A file about a local copy that is no part of it."""
    return package.with_name(f"{package.name}.{what}")


def _keep_signature(package: Path, sha256: str) -> None:
    """Beside the copy, so that it can be asked for again when the store is gone."""
    kept = _beside(package, "signature")
    if signing.required() and not kept.exists() and (signature := signing.read(open_store(), sha256)):
        kept.write_text(json.dumps(signature), encoding="utf-8")


def _cases(package: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(_beside(package, "golden").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _download(release: Release, target: Path) -> None:
    """The judged files of a release from the store, checked against the manifest that was judged."""
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        store = open_store()
        shutil.copytree(store.fetch(release.model.files), temporary)
        if cases := golden.read(store, release.model.files.sha256):
            _beside(target, "golden").write_text(json.dumps(cases), encoding="utf-8")
        check_manifest(temporary, json.loads((temporary / MANIFEST).read_text(encoding="utf-8")))
        temporary.rename(target)
    except OSError as error:
        if not target.is_dir():
            who = f"{release.name} version {release.version}"
            raise StoreError(f"{who} could not be copied to {target}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Loader:
    """Follows an alias. `served` is swapped as a whole; a release that cannot be loaded leaves the old one in place.

    optional: an alias that is gone leaves nothing in place, and nothing is taken from the local copies alone. counts: how many
    releases were "taken" and "refused".
    """

    def __init__(self, name: str, alias: str = "champion", poll: float = POLL_SECONDS, optional: bool = False) -> None:
        self.name, self.alias, self.poll, self._optional = name, alias, poll, optional
        self.served: Served | None = None
        self.problem = "not loaded yet"
        self._current: Path | None = None
        self._refused: tuple[Path, float] | None = None
        self.counts = {"taken": 0, "refused": 0}
        self._stop, self._look = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def _note(self) -> Path:
        return _folder(self.name) / f"last-good-{self.alias}.json"

    def refresh(self) -> None:
        """Looks at the alias once and swaps if it moved; never raises."""
        from mlops import registry

        try:
            release = registry.at(self.name, self.alias)
        except NotFound as error:
            if self._optional:
                self._drop()
            else:
                self._tell(str(error))
            return
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self._tell(f"the registry does not answer: {type(error).__name__}: {error}")
            if self.served is None and not self._optional:
                self._from_cache()
            return
        if self.served is not None and self._current == _place(release):
            self.problem = ""
        elif not self._refused or self._refused[0] != _place(release) or time.monotonic() > self._refused[1]:
            self._swap(release)

    def _swap(self, release: Release) -> None:
        try:
            fresh = _open(release)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a tokenizer's panics are no Exception
            self.counts["refused"] += 1
            self._refused = (_place(release), time.monotonic() + RETRY_SECONDS)
            self._tell(f"version {release.version} was refused: {type(error).__name__}: {error}")
            return
        self._take(fresh, _place(release))
        note = {"version": release.version, "place": _place(release).name, "sha256": release.model.files.sha256}
        try:
            temporary = self._note.with_suffix(".new")
            temporary.write_text(json.dumps(note), encoding="utf-8")
            temporary.replace(self._note)
            self._tidy()
        except (OSError, ValueError) as error:  # it serves all the same
            log.warning("%s cannot be written: %s", self._note, error)

    def _drop(self) -> None:
        if self.served is not None:
            log.info("%s version %s is no %s any more", self.name, self.served.version, self.alias)
        self.served, self._current, self.problem, self._refused = None, None, "", None
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Keeps the newest local copies, and those that serve here by whatever alias."""
        folder = _folder(self.name)
        notes = [json.loads(note.read_text(encoding="utf-8")) for note in folder.glob("last-good-*.json")]
        in_use = {str(note.get("place")) for note in notes}
        copies = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for old in sorted(copies, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
            if old != self._current and old.name not in in_use:
                shutil.rmtree(old, ignore_errors=True)
                for what in ("tried", "golden", "signature"):
                    _beside(old, what).unlink(missing_ok=True)

    def _take(self, fresh: Served, place: Path) -> None:
        self.served, self._current, self.problem, self._refused = fresh, place, "", None
        self.counts["taken"] += 1
        with contextlib.suppress(OSError):
            os.utime(place)
        log.info("%s version %s (%s) serves", self.name, fresh.version, fresh.variant)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.error("%s@%s: %s", self.name, self.alias, problem)
        self.problem = problem

    def _from_cache(self) -> None:
        """The last good release, without asking anybody."""
        problem = self.problem
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            place = _folder(self.name) / str(note["place"])
            require_copy(place, str(note["sha256"]))
            self._take(_load(self.name, str(note["version"]), place), place)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            log.warning("%s has no local copy to answer from: %s: %s", self.name, type(error).__name__, error)
        self.problem = problem

    def start(self) -> None:
        """Loads now, then polls in a thread until `stop`."""
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="follow-alias", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Lets the thread look at the alias now."""
        self._look.set()

    def _follow(self) -> None:
        # Jitter keeps a fleet of servers from asking the registry all at once.
        while not self._stop.is_set():
            if self._look.wait(self.poll * random.uniform(0.8, 1.2)) and self._stop.wait(_SETTLE):
                return
            self._look.clear()
            try:
                self.refresh()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # without this thread no release would ever be taken again
                log.exception("%s@%s: the alias could not be followed; it is tried again", self.name, self.alias)

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()
        self._look.set()
        if self._thread:
            self._thread.join(5)
