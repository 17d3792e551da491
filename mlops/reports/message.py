"""What people are told of a retrain or a rollback: a subject of one line and a text of a few, whatever carries them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlops.reports.table import OUTCOMES, interval
from mlops.reports.words import clean, clip, is_spread

_EVENTS = OUTCOMES | {
    "failed": "failed: it broke before it came to a result; the champion goes on serving",
    "awaiting_approval": "awaiting approval: a person decides whether it may serve",
    "rolled_back": "rolled back: an earlier version serves again",
}
_REASON = 1500  # characters


class Message(NamedTuple):
    """subject: one line. body: plain text. links: addresses by what they lead to."""

    subject: str
    body: str
    links: Mapping[str, str]

    @property
    def text(self) -> str:
        """The whole as plain text."""
        return "\n".join([self.body, "", *(f"{name}: {address}" for name, address in self.links.items())]).rstrip()

    @property
    def page(self) -> str:
        """The whole as HTML in which texts of the data stay texts."""
        links = " · ".join(
            f'<a href="{html.escape(address)}">{html.escape(name)}</a>' for name, address in self.links.items()
        )
        return f"<pre>{html.escape(self.body)}</pre>\n<p>{links}</p>"


def message(event: str, summary: Mapping[str, Any], metric: str, links: Mapping[str, str | None]) -> Message:
    """event: what became of it. summary: as `mlops run --json` prints it; what it lacks is left out. metric: the one
    that the gate goes by. links: those without an address are left out."""
    release = summary.get("release")
    version = f" (version {release['version']})" if release else ""
    lines = [
        _EVENTS[event],
        _measured("candidate", summary.get("candidate"), metric),
        _measured(_beside(summary), summary.get("champion_before"), metric),
        _line(summary.get("sentence")),
        f"reason: {clip(summary.get('reason') or 'none', _REASON)}",
    ]
    subject = f"{summary['pipeline']}: {event.replace('_', ' ')}{version}"
    return Message(
        _line(subject), "\n".join(line for line in lines if line), {name: each for name, each in links.items() if each}
    )


def _beside(summary: Mapping[str, Any]) -> str:
    champion = summary.get("champion_before") or {}
    return f"champion, version {champion.get('version')}"


def _measured(who: str, evaluation: Mapping[str, Any] | None, metric: str) -> str:
    found = (evaluation or {}).get("metrics", {}).get(metric)
    rows = f" on {found['n']:,} test rows" if found and found.get("n") else ""
    return f"{metric}: {interval(found)}{rows}, {who}" if found and is_spread(found) else ""


def _line(text: Any) -> str:
    return " ".join(clean(text or "").split())
