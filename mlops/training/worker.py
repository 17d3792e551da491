"""`python -m mlops.training.worker FOLDER RANK WORLD`: one of the processes that `launch.together` starts."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from mlops.process import die_with_parent

log = logging.getLogger("evergreen")

# Longer than the first process may take to write a checkpoint while the others wait for it.
_PATIENCE = timedelta(hours=1)


def main(place: Path, rank: int, world: int) -> int:
    """Trains as rank `rank`; the exit code. Its error lies in the folder for the process that started it."""
    from mlops.errors import EvergreenError
    from mlops.training.launch import error_file

    _speak(rank)
    try:
        _work(place, rank, world)
    except BaseException as error:
        message = str(error) if isinstance(error, EvergreenError) else f"{type(error).__name__}: {error}"
        values = {"time": time.time_ns(), "kind": type(error).__name__, "message": message}
        error_file(place, rank).write_text(json.dumps(values), encoding="utf-8")
        log.debug("the traceback", exc_info=True)
        return getattr(error, "exit_code", 1)
    return 0


def _work(place: Path, rank: int, world: int) -> None:
    import torch
    from torch import distributed

    from mlops.training.fit import Job, fit
    from mlops.training.launch import JOB, STORE, teller
    from mlops.training.ranks import Ranks

    job = Job.load((place / JOB).read_text(encoding="utf-8"))
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, "lo")  # nobody else on the network has a say in this
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
    meeting = f"file://{place / STORE}"
    distributed.init_process_group(
        "nccl" if cuda else "gloo", init_method=meeting, rank=rank, world_size=world, timeout=_PATIENCE
    )
    fit(job, Ranks(rank, world, job.config.train.launch.strategy), teller(place, rank))
    distributed.destroy_process_group()


def _speak(rank: int) -> None:
    """Log lines on stderr; of the others than the first only what is a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s " + (f"rank {rank}: " if rank else "") + "%(message)s", "%H:%M:%S")
    )
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if rank else os.environ.get("EVERGREEN_LOG", "INFO").upper())
    log.propagate = False


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
