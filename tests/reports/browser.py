"""A page in a headless Chromium, in a frame of any width: what it measures, loads and looks like."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WHY = "there is no chromium or google-chrome on the PATH"
# The frame has its parent's origin, so the parent can ask it. A frame, because a window is never narrower than 500 pixels.
_FRAME = """<!doctype html><style>body{{margin:0}}iframe{{border:0;display:block}}</style>
<iframe id="f" width="{width}" height="{height}" srcdoc="{page}"></iframe><pre id="told"></pre><script>
f.onload = () => {{
  const inside = f.contentDocument, root = inside.documentElement;
  told.textContent = JSON.stringify({{
    wide: root.scrollWidth, room: root.clientWidth, tall: root.scrollHeight, title: inside.title,
    loaded: f.contentWindow.performance.getEntriesByType("resource").map(one => one.name),
    low: [...inside.querySelectorAll("svg text, td, th, p, li, dd")].filter(one => {{
      const box = one.getBoundingClientRect();
      return box.width && !one.closest(".scroll") && !one.closest("thead") && (box.right > root.clientWidth + 1 || box.left < -1);
    }}).map(one => one.outerHTML.slice(0, 200)),
    background: f.contentWindow.getComputedStyle(inside.body).backgroundColor,
  }});
}};</script>"""


def _run(page: str, folder: Path, width: int, height: int, dark: bool, *more: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    wrapped = folder / "frame.html"
    framed = _FRAME.format(width=width, height=height, page=html.escape(page, quote=True))
    wrapped.write_text(framed, encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command += [f"--window-size={width},{height}", *more, wrapped.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def measured(page: str, folder: Path, width: int, dark: bool = False) -> dict[str, Any]:
    """wide, room and tall in pixels; title; loaded: addresses that it asked for; low: what sticks out; background."""
    told = re.search(r'<pre id="told">(.*?)</pre>', _run(page, folder, width, 900, dark, "--dump-dom"), re.S)
    assert told, "the browser ran no script"
    found: dict[str, Any] = json.loads(html.unescape(told[1]))
    return found


def pictured(page: str, folder: Path, path: Path, width: int, height: int, dark: bool = False) -> None:
    """Writes a PNG of the top of the page; not narrower than 500 pixels, the frame's at its left."""
    _run(page, folder, width, height, dark, f"--screenshot={path}")
