"""The training loop: plain torch. Token-budget batches, accumulation, fused AdamW, the best epoch kept, no work lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, NamedTuple, NoReturn

from mlops.tasks.base import Examples
from mlops.training.batches import optimizer_steps, share, within
from mlops.training.checkpoints import Checkpoints
from mlops.training.device import chance_state, set_chance_state
from mlops.training.dropout import from_bytes
from mlops.training.losses import Found, gradient_not_finite, judged, losses_of, not_finite
from mlops.training.memory import kept_blocks, out_of_memory, release, too_little
from mlops.training.optimizer import adamw, factor, scale_and_clip, set_rate
from mlops.training.predictor import logits_of
from mlops.training.progress import Progress
from mlops.training.ranks import Ranks, put, whole
from mlops.training.setting import Setting, State

log = logging.getLogger("evergreen")

Step = Sequence[Sequence[int]]  # the batches of an optimizer step, as row positions


class Sums(NamedTuple):
    """Over a step's batches and all processes: losses, weights, rows; how many want a checkpoint, how many lack memory."""

    loss: float
    weight: float
    rows: float
    due: float
    failed: float


def train(
    model: Any,
    rows: Examples,
    validation: Examples,
    setting: Setting,
    ranks: Ranks | None = None,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Trains in place; the model ends on the CPU, in eval mode, in the first process with the weights of its best epoch.

    Returns the history as training.json keeps it. The best epoch has the highest validation metric, then the lowest
    validation loss; without validation rows it is the last. Goes on from the newest checkpoint. Raises EvergreenError,
    naming the rows, as soon as a loss is not finite, and when memory runs out although the batches were halved.
    """
    blocks = kept_blocks() if setting.device.name == "cpu" else nullcontext()
    with blocks, setting.device.products(), from_bytes(model, setting.device.name):
        training = Training(model, rows, validation, setting, ranks or Ranks(), checkpoints)
        try:
            return training.run()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise too_little(setting, training.state, rows.lengths) from error


class Training:
    """One training under way. working: the model that is trained, in shares where it is; kept: the best weights so far."""

    def __init__(
        self,
        model: Any,
        rows: Examples,
        validation: Examples,
        setting: Setting,
        ranks: Ranks,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.model, self.rows, self.validation, self.setting = model, rows, validation, setting
        self.ranks, self.checkpoints, self.lengths = ranks, checkpoints, rows.lengths
        self.padded = [setting.padded(length) for length in self.lengths]
        section = setting.train
        self.working = ranks.place(model, setting.device)
        self.weights = [value for value in self.working.parameters() if value.requires_grad]
        self.optimizer = adamw(
            self.working, section.learning_rate, section.weight_decay, layer_decay=section.layer_decay
        )
        self.state = State(section.batch_tokens)
        self.kept: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """All epochs that are left, then the best weights into the model."""
        self._resume()
        while not self.state.finished(self.setting.train):
            self._epoch()
        self.model.to("cpu")
        if self.ranks.first:
            self.model.load_state_dict(self.kept, strict=False)  # frozen weights are not among them
        self.model.eval()
        return self._history()

    def _epoch(self) -> None:
        """One pass over the rows, or what is left of it, and the judgement after it."""
        state, section = self.state, self.setting.train
        steps = optimizer_steps(self.padded, section.batch_tokens, section.accumulate, section.seed, state.epoch)
        progress = Progress(self.setting, state, len(steps))
        self.working.train()
        while state.step < len(steps):
            step = steps[state.step]
            # The middle of the step: neither the first nor the last one has a rate of zero.
            done = (state.epoch - 1 + (state.step + 0.5) / len(steps)) / section.epochs
            rate = section.learning_rate * factor(done, section.warmup, section.schedule)
            set_rate(self.optimizer, rate)
            sums = self._step(step)
            state.add(sums.loss, sums.weight, round(sums.rows))
            tokens = sum(self.lengths[row] for batch in step for row in batch)
            progress.tick(sums.loss / max(sums.weight, 1e-9), rate, tokens)
            if sums.due:
                self._save()
        metric, validation_loss = self._judge()
        if state.close(metric, validation_loss, sum(self.lengths)):
            self.kept = self._learned()
        progress.close(state.epochs[-1])
        self._save()

    def _step(self, step: Step) -> Sums:
        """One optimizer step. Its gradient is that of the mean over all targets of all its batches in all processes."""
        chance = chance_state()
        sums = self._gradients(within(step, self.padded, self.state.budget))
        if sums.failed:
            self._halve()
            set_chance_state(chance)
            return self._step(step)
        self.ranks.sum_gradients(self.weights)
        weight = max(sums.weight, 1e-9)
        norm = scale_and_clip(self.weights, weight / self.ranks.divisor, self.setting.train.max_grad_norm)
        if not math.isfinite(norm):
            row_ids = [self.rows.row_ids[row] for batch in step for row in batch]
            gradient_not_finite(row_ids, self.setting, self._where())
        self.optimizer.step()
        return sums

    def _gradients(self, step: Step) -> Sums:
        """Adds up the gradients of this process's batches; sums over all processes, which hear of a lack of memory so."""
        self.optimizer.zero_grad(set_to_none=True)
        failed, found = 0.0, Found()
        try:
            for chosen in share(step, self.ranks.rank, self.ranks.world):
                self._backward(chosen, step[0][:1], found)
        except (RuntimeError, MemoryError) as error:
            if self.ranks.sharded or not out_of_memory(error):
                raise  # the other processes wait inside of the backward pass: they cannot begin anew
            failed, found = 1.0, Found()
        due = self.checkpoints is not None and self.ranks.first and self.checkpoints.due()
        # Only now is there a number to wait for: a GPU has computed all batches without a pause.
        loss, weight, rows = found.sums(self._lost)
        return Sums(*self.ranks.sum([loss, weight, float(rows), float(due), failed]))

    def _backward(self, chosen: Sequence[int], filler: Sequence[int], found: Found) -> None:
        """One batch's gradients, not divided by anything; its losses go into `found`.

        filler: a row that a process computes for nothing where it has none: the others of a sharded model wait for it.
        """
        if not chosen and not self.ranks.sharded:
            return
        losses, weights = losses_of(self.working, self.rows, chosen or filler, self.setting)
        if not chosen:
            (losses.sum() * 0).backward()
            return
        losses.sum().backward()
        found.add(chosen, losses, weights)

    def _lost(self, chosen: Sequence[int], losses: Sequence[float]) -> NoReturn:
        """Ends the training for a batch whose losses are not finite; no weight has changed by them."""
        not_finite([self.rows.row_ids[row] for row in chosen], losses, self.setting, self._where())

    def _halve(self) -> None:
        """Half the tokens per batch from here on, once; the steps keep their rows, so twice the batches are added up."""
        state = self.state
        self.optimizer.zero_grad(set_to_none=True)
        release()
        if state.halved:
            raise too_little(self.setting, state, self.lengths)
        state.halved, state.budget = True, max(1, state.budget // 2)
        text = "fine_tune: memory ran out at %s; that step again, from here on with batches of %s tokens, twice as many"
        log.warning(text, self._where(), f"{state.budget:,}")

    def _where(self) -> str:
        return f"epoch {self.state.epoch}, step {self.state.step + 1}"

    def _judge(self) -> tuple[float | None, float | None]:
        """The deciding metric and the mean loss on the validation rows; none without rows."""
        validation, world = self.validation, self.ranks.world
        if not len(validation):
            return None, None
        # The processes of a sharded model have to do the same; others share the rows out.
        mine = range(len(validation)) if self.ranks.sharded else range(self.ranks.rank, len(validation), world)
        ids = [validation.input_ids[row] for row in mine]
        seconds = None if validation.seconds is None else [validation.seconds[row] for row in mine]
        found = logits_of(self.working, ids, self.setting.package, self.setting.device, seconds)
        if world > 1 and not self.ranks.sharded:
            parts = self.ranks.gather(found)
            found = [parts[row % world][row // world] for row in range(len(validation))]
        where = f"the validation after epoch {self.state.epoch}"
        return judged(self.setting, validation, found, self.setting.package.labels, where)

    def _learned(self) -> dict[str, Any]:
        """The weights that training changes, whole and on the CPU; only the first process keeps them."""
        frozen = {name for name, value in self.working.named_parameters() if not value.requires_grad}
        if not (self.ranks.first or self.ranks.sharded):
            return {}
        values = self.working.state_dict()
        found = {name: whole(value) for name, value in values.items() if name not in frozen}
        return found if self.ranks.first else {}

    def _save(self) -> None:
        """Writes a checkpoint: all that decides how the training goes on."""
        if self.checkpoints is None:
            return
        chance = self.ranks.gather(chance_state())
        if not (self.ranks.first or self.ranks.sharded):
            return
        values = {"weights": self._learned(), "optimizer": whole(self.optimizer.state_dict())}
        if self.ranks.first:
            values |= {"best": self.kept, "chance": {str(rank): each for rank, each in enumerate(chance)}}
            self.checkpoints.save(self.state.epoch, self.state.step, self.state.dump(), values)

    def _resume(self) -> None:
        found = self.checkpoints.newest() if self.checkpoints else None
        if found is None:
            return
        state, values = found
        self.state = State.load(state)
        targets = self.working.state_dict()
        for name, value in values["weights"].items():
            put(targets[name], value)
        load_optimizer(self.optimizer, values["optimizer"])
        set_chance_state(values["chance"][str(self.ranks.rank)])
        self.kept = values["best"] if self.ranks.first else {}
        if self.ranks.first:
            log.info(
                "fine_tune: goes on at epoch %d after step %d, from a checkpoint", self.state.epoch, self.state.step
            )

    def _history(self) -> dict[str, Any]:
        state, named = self.state, list(self.model.named_parameters())
        return {
            "metric": self.setting.metric,
            "best_epoch": state.best_epoch,
            "epochs": [asdict(epoch) for epoch in state.epochs],
            "steps": state.steps,
            "batch_tokens": state.budget,
            "rows": {"train": len(self.rows), "validation": len(self.validation)},
            "parameters": sum(value.numel() for name, value in named if ".lora_" not in name),
            "trained_parameters": sum(value.numel() for _, value in named if value.requires_grad),
            "device": self.setting.device.name,
            "precision": self.setting.device.precision,
            "processes": self.ranks.world,
        }


def load_optimizer(optimizer: Any, state: Any) -> None:
    """Puts whole states into an optimizer whose weights may be in shares."""
    optimizer.load_state_dict(state)
    for weight, values in optimizer.state.items():
        if hasattr(weight, "full_tensor"):
            from torch.distributed.tensor import distribute_tensor

            for name, value in values.items():
                if value.shape == weight.shape:
                    values[name] = distribute_tensor(value, weight.device_mesh, weight.placements)
