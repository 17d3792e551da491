"""Processes that end with the one that started them (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent() -> None:
    """Asks the kernel for SIGKILL when the parent ends; ends now if it has ended already. Nothing elsewhere than Linux."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have ended before the call took effect; then nobody would ever send the signal.
    expected = os.environ.get("EVERGREEN_PARENT_PID")
    if os.getppid() != parent or (expected and str(parent) != expected):
        os._exit(1)
