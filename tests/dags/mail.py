"""A mail server of a few lines: what it is handed it keeps."""

from __future__ import annotations

import email
import email.message
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Talk(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as smtplib needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper().decode() if line.split() else ""
            if word == "DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (part := self.rfile.readline()) != b".\r\n":
                    lines.append(part.removeprefix(b".") if part.startswith(b"..") else part)
                self.server.mails.append(b"".join(lines))  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if word == "QUIT" else b"250 fine\r\n")


@contextmanager
def mail_server() -> Iterator[tuple[int, list[bytes]]]:
    """Its port and what came in."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Talk) as server:
        server.daemon_threads, server.mails = True, []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1], server.mails  # type: ignore[attr-defined]
        finally:
            server.shutdown()


def read(mail: bytes) -> tuple[str, list[str], str]:
    """Subject, addressees and the text of its first part."""
    found = email.message_from_bytes(mail, policy=email.policy.default)
    assert isinstance(found, email.message.EmailMessage)
    body = found.get_body(("html", "plain"))
    assert body is not None
    return str(found["subject"]), [each.strip() for each in str(found["to"]).split(",")], str(body.get_content())
