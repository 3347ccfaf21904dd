"""Define the metrics, which measure a circuit by its logits: one number per scored position, lower is better.

A metric is made once per dataset, from the whole model's logits, and then called on the logits of each circuit. Its
``columns`` name the tokens whose logits it reads, so that no others are computed; None stands for all tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.data import NO_ANSWER, Dataset, answers
from acdc.errors import InputError


@runtime_checkable
class Metric(Protocol):
    """Measure circuits on one dataset by their logits.

    Attributes:
        columns: Int[row column], the tokens whose logits are read at each scored position; None for all.
    """

    columns: Int[Tensor, "row column"] | None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        """Take the dataset, and the whole model's logits on the clean prompts at the scored positions."""

    def __call__(self, logits: Float[Tensor, "... row column"]) -> Float[Tensor, "... row"]:
        """Return one number per scored position, of one circuit or of several at once, from logits at ``columns``."""


MetricKind = Callable[[Dataset, Float[Tensor, "row d_vocab"]], Metric]
"""A metric's class, or any function that makes a metric for a dataset from the whole model's logits."""


class FunctionMetric:
    """Measure circuits by a function ``(logits, dataset) -> values``, where lower is better.

    The function gets ``logits`` Float[row d_vocab], one row per scored position, on the device of the computation, and
    the dataset of those rows, whose ``scored_rows`` tell each row's prompt and position. It returns Float[row].

    Args:
        function: the function; SP and the methods that take gradients need it differentiable.

    Raises:
        InputError: the function does not return one number per scored position, or a number is not finite on the
            whole model's logits.
    """

    columns = None

    def __init__(
        self, function: Callable[..., Tensor], dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]
    ) -> None:
        self.function, self.dataset = function, dataset.to(model_logits.device)
        if not self(model_logits).isfinite().all():
            raise InputError(f"{self.name} gives a value that is not finite on the whole model's logits")

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        states = logits.reshape(-1, *logits.shape[-2:])
        return torch.stack([self.of_state(state) for state in states]).view(logits.shape[:-1])

    def of_state(self, logits: Float[Tensor, "row d_vocab"]) -> Float[Tensor, "row"]:
        """Measure the logits of one circuit."""
        values = self.function(logits, self.dataset)
        if not isinstance(values, Tensor) or values.shape != logits.shape[:1]:
            got = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"{self.name} must return a tensor of one number per scored position, shape ({len(logits)},), and "
                f"returned {got}: the mean over them is taken for you"
            )
        return values

    @property
    def name(self) -> str:
        """Return the function's name in messages."""
        return f"metric {getattr(self.function, '__name__', type(self.function).__name__)}"


class KLDivergence:
    """Compute KL(model || circuit) over the vocabulary, in nats (Conmy et al. 2023, section 3; acdc_utils.py:34)."""

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        self.model_logprobs = model_logits.log_softmax(-1)
        self.model_probs = self.model_logprobs.exp()

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return (self.model_probs * (self.model_logprobs - logits.log_softmax(-1))).sum(-1)


class LogitDifference:
    """Compute the incorrect answer's logit minus the correct one's (the paper's logit difference, negated).

    The unit is logits. The dataset's targets ``correct`` and ``incorrect`` are Int[prompt] or, for several answers,
    Int[prompt answer]. The logits of several answers are averaged (as in auto-circuit).
    """

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        sides = [answers(dataset.targets, name)[dataset.scored_rows[0]] for name in ("correct", "incorrect")]
        self.columns = torch.cat(sides, 1).clamp(min=0).to(model_logits.device)
        self.share: Float[Tensor, "row column"] | None = None
        if self.columns.shape[1] > 2:
            given = [(side != NO_ANSWER).to(model_logits) for side in sides]
            correct, incorrect = (one / one.sum(1, keepdim=True) for one in given)
            self.share = torch.cat([-correct, incorrect], 1)

    def __call__(self, logits: Float[Tensor, "... row column"]) -> Float[Tensor, "... row"]:
        if self.share is None:
            return logits[..., 1] - logits[..., 0]
        return (logits * self.share).sum(-1)


class MaxLogitDifference:
    """Compute the largest logit among the incorrect answers minus the correct answer's logit.

    The unit is logits. The task docstring uses it (the original's ``raw_docstring_metric``). The target ``correct`` is
    Int[prompt], ``incorrect`` Int[prompt answer].
    """

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        both = torch.cat([dataset.targets["correct"][:, None], dataset.targets["incorrect"]], 1)
        self.columns = both[dataset.scored_rows[0]].to(model_logits.device)

    def __call__(self, logits: Float[Tensor, "... row column"]) -> Float[Tensor, "... row"]:
        return logits[..., 1:].amax(-1) - logits[..., 0]


class ProbabilityDifference:
    """Compute the total probability of the wrong answers minus that of the right ones.

    The task greater_than uses it (the original's ``greaterthan_metric``). The dataset's target ``answers`` is
    Int[prompt answer]; ``right`` is Bool[prompt answer] and says which are right.
    """

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        prompt, device = dataset.scored_rows[0], model_logits.device
        self.answers = dataset.targets["answers"][prompt].to(device)
        self.sign = (1.0 - 2.0 * dataset.targets["right"][prompt]).to(device, model_logits.dtype)

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        probabilities = logits.softmax(-1).gather(-1, self.answers.expand(*logits.shape[:-1], -1))
        return (probabilities * self.sign).sum(-1)


class NegativeLogLikelihood:
    """Compute minus the log probability of the right next token, in nats. The target ``next`` is Int[prompt pos]."""

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        self.next = dataset.targets["next"][dataset.scored, None].to(model_logits.device)

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return -logits.log_softmax(-1).gather(-1, self.next.expand(*logits.shape[:-1], -1))[..., 0]


class L2:
    """Compute the squared difference to the whole model's logits, averaged over the vocabulary.

    It suits models whose logits are numbers and not log-probabilities (tracr: the original's tracr_task/utils.py).
    """

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        self.model_logits = model_logits

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return (logits - self.model_logits).square().mean(-1)


class OutputDifference:
    """Compute minus the share of the way that the logits go from the corrupted prompt's right output to the clean one.

    It takes the place of the logit difference for models whose logits are numbers: it is -1 at the clean prompt's
    output, and 0 at the corrupted prompt's. It is linear in the logits, so its gradient at the whole model is not zero
    as that of ``L2`` is. It is 0 at positions where both outputs are the same, whatever the logits.

    The dataset's targets ``outputs`` and ``corrupted_outputs`` are Float[prompt pos d_vocab].
    """

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        clean, self.corrupted = (
            dataset.targets[name][dataset.scored].to(model_logits) for name in ("outputs", "corrupted_outputs")
        )
        way = clean - self.corrupted
        # No division by 0: where both outputs are the same, the share is 0.
        self.share = way / way.square().sum(-1, keepdim=True).clamp(min=torch.finfo(way.dtype).tiny)

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return -((logits - self.corrupted) * self.share).sum(-1)
