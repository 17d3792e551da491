"""One thread: what several processes compute must not depend on how many threads earlier tests left."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
