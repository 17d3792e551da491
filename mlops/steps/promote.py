"""promote: let the release serve, unless the pipeline asks for approval or the champion moved meanwhile."""

from __future__ import annotations

from typing import Literal

from mlops import ledger, promotion, rollouts
from mlops.config import PipelineConfig
from mlops.errors import UserError
from mlops.reconcile import reconcile
from mlops.types import Promotion, Release, Run, identity


def promote(config: PipelineConfig, run: Run, release: Release) -> Promotion:
    """What became of the release, in the ledger too. Trying again after a crash finds it promoted and says so."""
    against = run.champion.version if run.champion else None
    stack = ledger.serving(ledger.entries(release.name))
    if stack and stack[-1] == release.version:
        reconcile(release.name, files=False)  # the try before this one may have ended between ledger and alias
        return Promotion(release=release, outcome="promoted", reason=f"version {release.version} serves already")
    if config.promote == "approval" or (config.promote == "approve-first" and run.champion is None):
        if config.rollout and against:  # live requests tell the person more; they do not decide
            rollouts.begin(release.name, release.version, config.rollout.model_copy(update={"promote": False}))
        else:
            promotion.set_candidate(release.name, release.version)
        reason = f"version {release.version} waits: mlops promote {release.name} {release.version} --reason …"
        return _held(run, release, "awaiting_approval", reason)
    if taken_out := promotion.rolled_back(release):
        again = f"mlops promote {release.name} {release.version} --reason … lets it serve again"
        return _held(run, release, "held", f"{taken_out}; {again}")
    if config.rollout and against:
        rollouts.begin(release.name, release.version, config.rollout)
        reason = (
            f"version {release.version} waits: a server with --canary or --shadow tries it beside version {against}"
        )
        return _held(run, release, "awaiting_rollout", reason)
    why = (
        f"as good as version {against} or better, on the same rows"
        if against
        else "the first champion: floor and baseline"
    )
    try:
        fence = promotion.promote(release.name, release.version, f"retrain {run.retrain_id}: {why}", against)
    except UserError as error:
        return _held(run, release, "held", str(error))
    return Promotion(release=release, outcome="promoted", reason=f"version {release.version}: {why}", fence=fence)


def _held(
    run: Run, release: Release, outcome: Literal["held", "awaiting_approval", "awaiting_rollout"], reason: str
) -> Promotion:
    digests = tuple(identity(verdict) for verdict in release.verdicts)
    promotion.hold(release.name, release.version, f"retrain {run.retrain_id}: {reason}", digests)
    return Promotion(release=release, outcome=outcome, reason=reason)
