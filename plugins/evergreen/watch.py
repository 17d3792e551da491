"""New files at a pipeline's source become an event of its data asset; no task and no worker waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

log = logging.getLogger("evergreen")

_SEEN = "listing"  # in Airflow's store of the asset: what was there when somebody was last told


class SourceTrigger(BaseEventTrigger):
    """Looks at files or objects every so many seconds and tells when they have changed and stand still again.

    Standing still is two looks in a row with the same listing: a file that is being written is not told halfway. What was
    seen survives restarts in the asset's state; the first look ever only remembers, so that a new pipeline does not
    retrain by itself. uris: of the source. seconds: between two looks.
    """

    def __init__(self, uris: Sequence[str], seconds: float) -> None:
        super().__init__()
        self.uris, self.seconds = list(uris), seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "evergreen.watch.SourceTrigger", {"uris": self.uris, "seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        before = ""
        while True:
            now = await asyncio.to_thread(self._look)
            if now and now == before:
                seen = await self._seen()
                if seen and seen != now:
                    log.info("%s has changed", ", ".join(self.uris))
                    # Told first and remembered then: a crash in between tells it twice, and the second retrain is skipped.
                    yield TriggerEvent({"uris": self.uris, "listing": now})
                if seen != now:
                    await self._remember(now)
            before = now
            await asyncio.sleep(self.seconds)

    def _look(self) -> str:
        from mlops.data.listing import digest
        from mlops.errors import EvergreenError

        try:
            return digest(self.uris)
        except (EvergreenError, OSError) as error:
            log.warning("%s cannot be looked at now: %s", ", ".join(self.uris), error)
            return ""

    async def _seen(self) -> str:
        assert self.asset_state_store is not None
        return str(await self.asset_state_store.aget(_SEEN, "") or "")

    async def _remember(self, listing: str) -> None:
        assert self.asset_state_store is not None
        await self.asset_state_store.aset(_SEEN, listing)
