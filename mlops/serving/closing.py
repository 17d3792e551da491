"""A listening socket that ends without resetting anybody who has connected."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
import sys
from collections.abc import Sequence

_SO_ATTACH_FILTER = 26  # Linux's; the socket module has no name for it
# A classic BPF program (linux/filter.h: code, jt, jf, k) over a TCP segment: byte 13 holds the flags; one with SYN is dropped.
_NO_SYN = ((0x30, 0, 0, 13), (0x45, 1, 0, 0x02), (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0))
_TICK = 0.002  # seconds for the loop to take what waits


async def no_more(listening: Sequence[socket.socket], settle_seconds: float) -> None:
    """Returns at a moment when nobody waits to be accepted; the caller closes the sockets at once, with no await between.

    Closing alone resets everybody whose handshake is under way or done and not yet accepted. So new handshakes are dropped
    first (a client's next try, a second later, finds the port closed), those under way are given settle_seconds, and the
    event loop accepts the rest. Where no filter can be set (not Linux) only the last of the three holds.
    """
    for sock in listening:
        _drop_new(sock)
    await asyncio.sleep(settle_seconds)
    waiting = select.poll()
    for sock in listening:
        waiting.register(sock, select.POLLIN)
    for _ in range(int(settle_seconds / _TICK)):
        if not waiting.poll(0):
            return
        await asyncio.sleep(_TICK)


def _drop_new(sock: socket.socket) -> None:
    if not sys.platform.startswith("linux"):
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_SYN))
    filter_of = struct.pack("HP", len(_NO_SYN), ctypes.addressof(program))
    with contextlib.suppress(OSError):  # a sandbox may know no filters
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_of)
