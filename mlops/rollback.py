"""Back to a release that served before: it is asked again whether it still answers, and then it serves."""

from __future__ import annotations

import logging

from mlops import promotion
from mlops.registry import at, require_signed, require_verdicts
from mlops.serving import golden
from mlops.store import open_store
from mlops.tasks.base import Item, Kind
from mlops.types import Check, Release, Verdict

log = logging.getLogger("evergreen")

_ANY = ("a", "The quick brown fox jumps over the lazy dog.", "?")


def rollback(name: str, reason: str, to: str | None = None, who: str | None = None) -> str:
    """Lets a version serve that served before the present one, by default the last of them; its number.

    Infra validation is run again first, in a clean process: libraries and machine may be others than when it shipped. The
    newer releases are not looked at, they may be lost. who: the person, by default this process's user.
    Raises UserError if there is none, or if `to` is none of them; Rejected without verdicts or where it does not answer as it
    did; StoreError where its own files are gone. Nothing is moved then.
    """
    target = promotion.earlier_of(name, to)
    release = at(name, target)
    require_verdicts(release)
    require_signed(release)
    still_answers(release)
    promotion.roll_back(name, reason, target, who)
    return target


def still_answers(release: Release) -> None:
    """Raises Rejected, with every failed check, unless a release answers as it did where it was judged."""
    from mlops.serving.prove import prove
    from mlops.serving.runtime import Runtime

    store = open_store()
    package = store.fetch(release.model.files)
    runtime = Runtime.load(package)
    cases = golden.read(store, release.model.files.sha256)
    proof = prove(package, golden.items(runtime, cases) if cases else _any(runtime.task.kind))
    # Not against logits to the last digits: another processor has other instructions, and the release served there too.
    wrong = golden.differs(runtime, cases) if cases else ""
    told = Check(
        name="golden cases", observed=wrong or "as judged", allowed="as judged", outcome="fail" if wrong else "pass"
    )
    subject = f"{release.name} version {release.version}, asked again"
    Verdict(subject=subject, checks=(*proof.checks, told)).require()
    log.info("%s: it answers as it did (%d rows, p50 %.1f ms)", subject, proof.rows, proof.p50)


def _any(kind: Kind) -> list[Item]:
    """For what was judged before there were golden cases."""
    if kind == "pair":
        return [(text, text) for text in _ANY]
    return [text.split() for text in _ANY] if kind == "tokens" else list(_ANY)
