"""One thread: a fork of a process whose libraries have started others would wait for them for ever."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
