"""The registry's side of a rollout: which rules a candidate is tried by, and what becomes of it afterwards."""

from __future__ import annotations

import logging
from typing import Literal

from mlops import promotion, registry
from mlops.config_rollout import RolloutSection
from mlops.errors import UserError
from mlops.store import open_store
from mlops.tracking import client
from mlops.types import Verdict, identity

log = logging.getLogger("evergreen")

_RULES = "evergreen.rollout"


def begin(name: str, version: str, rules: RolloutSection) -> None:
    """Points the alias candidate to a version that live requests decide on. The rules are there before the alias is."""
    client().set_model_version_tag(name, version, _RULES, rules.model_dump_json())
    promotion.set_candidate(name, version)


def rules_of(name: str, version: str) -> RolloutSection:
    """Those of its pipeline file. A candidate without any waits for a person: it is tried by the defaults, and tried only."""
    found = client().get_model_version(name, version).tags.get(_RULES)
    return RolloutSection.model_validate_json(found) if found else RolloutSection(promote=False)


def settle(
    name: str,
    champion: str,
    candidate: str,
    rules: RolloutSection,
    outcome: Literal["passed", "failed", "undecided"],
    verdict: Verdict,
    who: str,
) -> str:
    """Promotes a candidate or takes it back, with the trial in the store and in the ledger; what was done.

    What can no longer be done since the champion is another by now is a hold like any other.
    """
    if registry.aliased(client(), name, "champion") == candidate:  # another server, or a person, was first
        return f"version {candidate} serves already"
    digest = identity(verdict)
    trial = {"champion": champion, "candidate": candidate, "outcome": outcome, "rules": rules.model_dump()}
    open_store().create_document(
        f"rollouts/{name}/{candidate}-{digest[:12]}", trial | {"verdict": verdict.model_dump()}
    )
    shown = _words(verdict)
    if outcome != "passed":
        reason = f"rollout {outcome} beside version {champion}: {shown}"
        return _take_back(name, candidate, reason, digest, who)
    if not rules.promote:
        reason = f"rollout passed beside version {champion}, waits for a person: {shown}"
        promotion.hold(name, candidate, reason, (digest,), who)
        return reason
    release = registry.at(name, candidate)
    if release.replaces != champion:
        reason = f"rollout passed, but it was judged against version {release.replaces}, the champion is {champion}"
        return _take_back(name, candidate, reason, digest, who)
    if taken_out := promotion.rolled_back(release):
        return _take_back(name, candidate, f"rollout passed, but {taken_out}", digest, who)
    reason = f"rollout passed beside version {champion}: {shown}"
    try:
        promotion.promote(name, candidate, reason, champion, who, (digest,))
    except UserError as error:
        if registry.aliased(client(), name, "champion") == candidate:  # meanwhile
            return f"version {candidate} serves already"
        return _take_back(name, candidate, f"rollout passed, but {error}", digest, who)
    return reason


def _take_back(name: str, version: str, reason: str, digest: str, who: str) -> str:
    promotion.hold(name, version, reason, (digest,), who)
    promotion.unset_candidate(name, version)
    return reason


def _words(verdict: Verdict) -> str:
    return "; ".join(
        f"{check.name.removeprefix('rollout ')} {check.observed} (allowed {check.allowed}, {check.outcome})"
        for check in verdict.checks
    )
