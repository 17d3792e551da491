"""The candidate beside the champion on one server: who is answered by which, what is asked of both, and how it ends.

Canary: a share of the requests is answered by the candidate, a sticky id always by the same one; the champion is asked aside.
Shadow: the champion answers all of them, the candidate is asked a share aside. Aside is when nobody waits, so that a trial takes
no time from anybody and stands still on a server that is never idle. What the candidate fails is answered by the champion.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import socket
import threading
from collections.abc import Callable
from typing import Any, Literal

from mlops.config_rollout import RolloutSection
from mlops.serving.predictions import PredictionLog
from mlops.serving.queueing import Job
from mlops.serving.releases import Loader, Served
from mlops.serving.trial import Pair, Trial

log = logging.getLogger("evergreen")

Mode = Literal["canary", "shadow"]
POLL_SECONDS, RETRY_SECONDS = 1.0, 15.0


class Rollout:
    """loader, candidate: what follows the aliases champion and candidate. share: none is what the pipeline file says.

    rules, settle: of `mlops.rollouts`. counts: requests answered by the candidate, failed by it, and pairs compared.
    """

    def __init__(
        self,
        loader: Loader,
        candidate: Loader,
        mode: Mode,
        share: float | None = None,
        predictions: PredictionLog | None = None,
        rules: Callable[[str, str], RolloutSection] | None = None,
        settle: Callable[..., str] | None = None,
    ) -> None:
        from mlops import rollouts

        self.mode, self.candidate = mode, candidate
        self._loader, self._share, self._predictions = loader, share, predictions
        self._rules, self._settle = rules or rollouts.rules_of, settle or rollouts.settle
        self._trial: Trial | None = None
        self._lock, self._wake, self._stop = threading.Lock(), threading.Event(), threading.Event()
        self._settled: dict[tuple[str, str], str] = {}
        self._thread: threading.Thread | None = None
        self.counts = {"answered": 0, "failed": 0, "pairs": 0}

    def start(self) -> None:
        """Loads the candidate where there is one, and follows the trial in a thread until `stop`."""
        self.candidate.start()
        self._thread = threading.Thread(target=self._follow, name="rollout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread:
            self._thread.join(5)
        self.candidate.stop()

    def choose(self, job: Job) -> Served | None:
        """The release that answers a job."""
        champion, trial = self._loader.served, self._trial
        tried = self._tried(trial)
        if self.mode == "canary" and trial and tried and not job.pinned and self._drawn(job, trial):
            job.role = "candidate"
            return tried
        return champion

    def _tried(self, trial: Trial | None) -> Served | None:
        """The candidate, where it and the champion are those of a trial that goes on."""
        champion, candidate = self._loader.served, self.candidate.served
        if trial is None or champion is None or candidate is None or trial.outcome != "running":
            return None
        return candidate if (champion.version, candidate.version) == (trial.champion, trial.candidate) else None

    def _drawn(self, job: Job, trial: Trial) -> bool:
        """Whether the lot falls on a job: by its sticky id where it has one, and by the candidate, so that it is not always
        the same users who try what is new."""
        lot = random.random()
        if job.sticky:
            digest = hashlib.sha256(f"{trial.candidate}:{job.sticky}".encode("utf-8", "surrogatepass")).digest()
            lot = int.from_bytes(digest[:8]) / 2**64
        return lot < (trial.rules.share if self._share is None else self._share)

    def instead(self, job: Job, error: Exception) -> Served | None:
        """The champion, for what the candidate was to answer and could not."""
        champion = self._loader.served
        if job.role != "candidate" or job.twin is not None or champion is None:
            return None
        job.role = "champion"
        log.error("candidate version %s failed, the champion answers: %s", job.served and job.served.version, error)
        self.counts["failed"] += 1
        self._pair(job, Pair(None, ()))
        return champion

    def after(self, job: Job) -> Job | None:
        """What is to be asked of the other release, after an answer; the pair, after both."""
        if job.twin is not None:
            self._both(job.twin, job)
            return None
        self.counts["answered"] += job.role == "candidate" and job.error is None
        trial = self._trial
        tried = self._tried(trial)
        if job.error is not None or trial is None or tried is None:
            return None
        if self.mode == "shadow" and self._drawn(job, trial):
            return Job(job.asked, math.inf, role="shadow", served=tried, twin=job)
        if job.role == "candidate":
            return Job(job.asked, math.inf, role="champion", served=self._loader.served, twin=job)
        return None

    def _both(self, answered: Job, aside: Job) -> None:
        tried, other = (answered, aside) if answered.role == "candidate" else (aside, answered)
        if aside.role == "shadow":
            self.counts["failed"] += aside.error is not None
            if self._predictions and aside.error is None:
                self._predictions.answered(answered.request_id, aside, "shadow")
        answers = [None if job.error is not None else job.answers for job in (tried, other)]
        self._pair(tried, Pair(answers[0], answers[1], tried.computed, other.computed))

    def _pair(self, tried: Job, pair: Pair) -> None:
        trial = self._trial
        if trial is None or tried.served is None or tried.served.version != trial.candidate:
            return  # of a trial that is over
        with self._lock:
            if trial.outcome != "running":
                return
            trial.add(pair)
        self.counts["pairs"] += 1
        self._wake.set()

    def told(self) -> dict[str, Any]:
        """The state, for whoever asks."""
        with self._lock:
            trial = self._trial.told() if self._trial else None
        return {"mode": self.mode, "trial": trial, "counts": self.counts, "problem": self.candidate.problem} | {
            "settled": [
                {"champion": champion, "candidate": candidate, "what": what}
                for (champion, candidate), what in self._settled.items()
            ]
        }

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            try:
                self._look()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a registry that is away, or a lock that another server holds
                log.warning("the rollout cannot go on now, it is tried again: %s: %s", type(error).__name__, error)
                self._stop.wait(RETRY_SECONDS * random.uniform(0.5, 1.5))

    def _look(self) -> None:
        """Begins the trial of a new pair of versions, and ends one in which something was shown."""
        champion, candidate, trial = self._loader.served, self.candidate.served, self._trial
        if champion is None or candidate is None or champion.version == candidate.version:
            self._trial = None
            return
        versions = (champion.version, candidate.version)
        if trial is None or (trial.champion, trial.candidate) != versions:
            self._trial = (
                None if versions in self._settled else Trial(*versions, self._rules(champion.name, versions[1]))
            )
            if self._trial:
                log.info("%s: version %s is tried beside %s (%s)", champion.name, versions[1], versions[0], self.mode)
            return
        if trial.outcome == "running" or versions in self._settled:
            return
        with self._lock:
            verdict, outcome = trial.verdict(), trial.outcome
        who = f"server {socket.gethostname()}"
        what = self._settle(champion.name, *versions, trial.rules, outcome, verdict, who)
        self._settled[versions] = what
        log.info("%s version %s: %s", champion.name, versions[1], what)
        for loader in (self._loader, self.candidate):
            loader.look()
