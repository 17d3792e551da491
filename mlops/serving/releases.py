"""Which release serves: found by its alias, copied here, verified, loaded beside the old one."""

from __future__ import annotations

import json
import logging
import random
import shutil
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from mlops import settings
from mlops.errors import EvergreenError, NotFound, StoreError
from mlops.serving.runtime import Runtime
from mlops.store import MANIFEST, build_manifest, check_manifest

log = logging.getLogger("evergreen")

POLL_SECONDS = 2.0


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

    release = registry.at(name, alias)
    served = _open(name, release.version, threads)
    return served.runtime, served


def _folder(name: str) -> Path:
    return settings.current().cache / "serving" / name


def _open(name: str, version: str, threads: int | None = None) -> Served:
    """Loads a version from the local copy, which is made first where there is none. Answers once, to be warm."""
    package = _folder(name) / version
    if not (package / MANIFEST).is_file():
        _download(name, version, package)
    runtime = Runtime.load(package, threads)
    runtime.predict(["warm up"])
    return Served(name, version, runtime.variant, runtime)


def _download(name: str, version: str, target: Path) -> None:
    """The judged files of a version from the store, or from MLflow's copy, checked against the manifest that was judged."""
    from mlops import registry
    from mlops.store import open_store

    release = registry.at(name, version)
    registry.require_verdicts(release)
    temporary = target.with_name(f".{version}-{uuid.uuid4().hex[:8]}")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(open_store().fetch(release.model.files), temporary)
        manifest = temporary / MANIFEST
        if not manifest.is_file():
            manifest.write_text(json.dumps(build_manifest(temporary)), encoding="utf-8")
        check_manifest(temporary, json.loads(manifest.read_text(encoding="utf-8")))
        temporary.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise StoreError(f"{name} version {version} could not be copied to {target}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Loader:
    """Follows an alias. `served` is swapped as a whole; a release that cannot be loaded leaves the old one in place."""

    def __init__(self, name: str, alias: str = "champion", poll: float = POLL_SECONDS) -> None:
        self.name, self.alias, self.poll = name, alias, poll
        self.served: Served | None = None
        self.problem = "not loaded yet"
        self._refused: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def _note(self) -> Path:
        return _folder(self.name) / f"last-good-{self.alias}.json"

    def refresh(self) -> None:
        """Looks at the alias once and swaps if it moved; never raises."""
        try:
            version = self._resolve()
        except NotFound as error:
            self.problem = str(error)
            return
        except Exception as error:
            self.problem = f"the registry does not answer: {type(error).__name__}: {error}"
            if self.served is None:
                self._from_cache()
            return
        if (self.served is not None and self.served.version == version) or version == self._refused:
            return
        self._swap(version)

    def _resolve(self) -> str:
        from mlops import registry

        return registry.at(self.name, self.alias).version

    def _swap(self, version: str) -> None:
        try:
            fresh = _open(self.name, version)
        except Exception as error:
            # Not tried again until the alias moves: a broken file does not mend itself.
            self._refused = version if isinstance(error, EvergreenError) else None
            self.problem = f"version {version} was refused: {type(error).__name__}: {error}"
            log.error("%s %s", self.name, self.problem)
            return
        self.served, self.problem, self._refused = fresh, "", None
        self._note.write_text(json.dumps({"version": version}), encoding="utf-8")
        log.info("%s version %s (%s) serves", self.name, version, fresh.variant)

    def _from_cache(self) -> None:
        try:
            version = str(json.loads(self._note.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError):
            return
        log.warning("%s: %s; serving version %s from the local copy", self.name, self.problem, version)
        if (_folder(self.name) / version / MANIFEST).is_file():
            self._swap(version)

    def start(self) -> None:
        """Loads now, then polls in a thread until `stop`."""
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="follow-alias", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        # Jitter keeps a fleet of servers from asking the registry all at once.
        while not self._stop.wait(self.poll * random.uniform(0.8, 1.2)):
            self.refresh()

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()
        if self._thread:
            self._thread.join(5)
