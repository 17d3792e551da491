"""`make down`: stops what `make up` or `make stack` runs or what a crashed one left; touches nothing else."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from embedded import home
from processes import alive, kill_all, leftovers, load_state, signal_all, state_file

PATIENCE = 20.0


def clean() -> int:
    """Stops everything that the state file leads to; the number of processes that were still there."""
    state = load_state()
    if state is None:
        return 0
    if alive(state):
        os.kill(state["pid"], signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while alive(state) and time.monotonic() < deadline:
            time.sleep(0.1)
    own = {"pid": state["pid"], "birth": state["birth"]}
    state["processes"].append(own)  # hung: what it would not end by itself is ended here
    found = leftovers(state)
    signal_all(found, signal.SIGTERM)
    deadline = time.monotonic() + 3
    while leftovers(state) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = kill_all(lambda: leftovers(state))
    if left:
        raise SystemExit(f"could not stop: {', '.join(str(process.pid) for process in left)}")
    state_file().unlink(missing_ok=True)
    return len(found)


def main() -> int:
    places = [home(), home() / "stack"]
    stopped = [_stop(place) for place in places]
    if not any(stopped):
        print("nothing to stop")
    return 0


def _stop(place: Path) -> bool:
    """What runs below a folder; False where nothing does."""
    os.environ["EVERGREEN_HOME"] = str(place)
    running = load_state()
    if running is None:
        return False
    was_alive = alive(running)
    count = clean()
    print("stopped" if was_alive else f"cleaned up: {count} processes that a crash had left")
    return True


if __name__ == "__main__":
    sys.exit(main())
