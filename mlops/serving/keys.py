"""API keys: a file of hashes that a running server watches. A key is shown once, when it is made.

Keys are 256 bits of chance, so a plain sha256 keeps them as well as a slow hash would keep a password, and costs a request
nothing. Lookup is by the key's public part; secrets are compared in constant time.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import logging
import os
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlops import settings
from mlops.errors import NotFound, UserError
from mlops.serving.access import SCOPES

log = logging.getLogger("evergreen")

_PREFIX = "evg"
_LOOK_SECONDS = 1.0  # how often the file is looked at


@dataclass(frozen=True)
class Key:
    """One caller. sha256: of the whole key. expires: ISO 8601 in UTC, none is never."""

    id: str
    name: str
    scopes: tuple[str, ...]
    sha256: str
    created: str
    expires: str | None = None

    @property
    def over(self) -> bool:
        """Whether its time has passed."""
        return self.expires is not None and datetime.datetime.fromisoformat(self.expires) <= _now()


def keys_file() -> Path:
    """EVERGREEN_KEYS, else serving-keys.json below EVERGREEN_HOME."""
    named = os.environ.get("EVERGREEN_KEYS")
    return Path(named).expanduser() if named else settings.current().home / "serving-keys.json"


def read(path: Path) -> list[Key]:
    """The keys of a file, none where there is no file; UserError where it is no file of keys."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return [_key(entry) for entry in raw["keys"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no file of keys: {type(error).__name__}: {error}; `mlops keys` writes one"
        ) from None


def _key(entry: dict[str, Any]) -> Key:
    found = Key(**entry | {"scopes": tuple(entry["scopes"])})
    if not all(isinstance(value, str) for value in (found.id, found.name, found.sha256, *found.scopes)):
        raise TypeError(f"the key {str(found.id)[:40]!r} has a value that is no text")
    if found.expires is not None and datetime.datetime.fromisoformat(found.expires).tzinfo is None:
        raise ValueError(f"the key {found.id!r} expires at {found.expires!r}, a time without a zone")
    return found


def add(path: Path, name: str, scopes: Sequence[str], days: float | None = None) -> tuple[str, Key]:
    """(the key itself, which is kept nowhere, what is kept of it). UserError for scopes that there are not."""
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise UserError(f"found the scopes {', '.join(unknown)}; allowed: {', '.join(SCOPES)}")
    if not name.strip() or len(name) > 100:
        raise UserError(f"found the name {name[:100]!r}; allowed are 1 to 100 characters that tell whose key it is")
    if days is not None and not 0 < days < 36_500:
        raise UserError(f"found {days:g} days; allowed: more than 0")
    own = secrets.token_hex(4)
    text = f"{_PREFIX}_{own}_{secrets.token_urlsafe(32)}"
    made = Key(own, name.strip(), tuple(dict.fromkeys(scopes)), _hash(text), _now().isoformat(timespec="seconds"))
    if days is not None:
        made = replace(made, expires=(_now() + datetime.timedelta(days=days)).isoformat(timespec="seconds"))
    with _lock(path):
        _write(path, [*read(path), made])
    return text, made


def remove(path: Path, which: str) -> Key:
    """Takes a key out; NotFound lists those there are."""
    with _lock(path):
        known = read(path)
        gone = next((key for key in known if key.id == which), None)
        if gone is None:
            raise NotFound(f"{path} has no key {which!r}; there are: {', '.join(key.id for key in known) or 'none'}")
        _write(path, [key for key in known if key is not gone])
    return gone


def _lock(path: Path) -> Any:
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=30)


def _write(path: Path, keys: Sequence[Key]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({"keys": [asdict(key) for key in keys]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Keys:
    """The keys of a running server: the file's, as it is now. A file that has become unreadable changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys = {key.id: key for key in read(path)}
        self._seen, self._looked = self._stamp(), time.monotonic()

    def __len__(self) -> int:
        return len(self._keys)

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _look(self) -> None:
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked, stamp = time.monotonic(), self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._keys = {key.id: key for key in read(self.path)}
            log.info("%s was read anew: %d keys", self.path, len(self._keys))
        except UserError as error:
            log.error("%s; the keys that were read before go on", error)

    def find(self, text: str) -> Key | None:
        """The key that this is, unless it is unknown or over."""
        self._look()
        parts = text.split("_", 2)
        known = self._keys.get(parts[1]) if len(parts) == 3 and parts[0] == _PREFIX else None
        # Compared also where there is none, so that the time does not tell which ids exist.
        same = hmac.compare_digest(_hash(text), known.sha256 if known else _hash(""))
        return known if known and same and not known.over else None
