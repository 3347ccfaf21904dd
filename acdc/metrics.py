"""Metrics of a circuit: logits in, one number per scored position out, and lower is better.

A metric is built once per dataset from what stays fixed, then called on a circuit's logits. Its
``columns`` name the tokens whose logits it reads, so that nothing computes the others; None is all.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.data import Dataset


class Metric(Protocol):
    columns: Int[Tensor, "row column"] | None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        """``model_logits``: the whole model's, on the clean prompts at the scored positions."""

    def __call__(self, logits: Float[Tensor, "... row column"]) -> Float[Tensor, "... row"]: ...


class KLDivergence:
    """KL(model || circuit) over the vocabulary, in nats (Conmy et al. 2023, section 3; acdc_utils.py:34)."""

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        self.model_logprobs = model_logits.log_softmax(-1)
        self.model_probs = self.model_logprobs.exp()

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return (self.model_probs * (self.model_logprobs - logits.log_softmax(-1))).sum(-1)


class LogitDifference:
    """Logit of the incorrect answer minus that of the correct one (the paper's logit difference, negated).

    The dataset's targets ``correct`` and ``incorrect`` are Int[prompt], one token each.
    """

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        answers = torch.stack([dataset.targets["correct"], dataset.targets["incorrect"]], -1)
        self.columns = answers[dataset.scored_rows[0]].to(model_logits.device)

    def __call__(self, logits: Float[Tensor, "... row 2"]) -> Float[Tensor, "... row"]:
        return logits[..., 1] - logits[..., 0]


class MaxLogitDifference:
    """Largest logit among incorrect answers minus that of the correct one (docstring; the original's
    ``raw_docstring_metric``).

    The dataset's target ``correct`` is Int[prompt], ``incorrect`` Int[prompt answer].
    """

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        answers = torch.cat([dataset.targets["correct"][:, None], dataset.targets["incorrect"]], 1)
        self.columns = answers[dataset.scored_rows[0]].to(model_logits.device)

    def __call__(self, logits: Float[Tensor, "... row column"]) -> Float[Tensor, "... row"]:
        return logits[..., 1:].amax(-1) - logits[..., 0]


class ProbabilityDifference:
    """Probability of wrong answers minus that of right ones (greater-than; the original's ``greaterthan_metric``).

    The dataset's target ``answers`` is Int[prompt answer]; ``right`` Bool[prompt answer] says which are right.
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
    """Of the right next token, in nats. The dataset's target ``next`` is Int[prompt pos]."""

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        self.next = dataset.targets["next"][dataset.scored, None].to(model_logits.device)

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return -logits.log_softmax(-1).gather(-1, self.next.expand(*logits.shape[:-1], -1))[..., 0]


class L2:
    """Squared difference to the whole model's logits, mean over the vocabulary.

    For models whose logits are numbers and not log-probabilities (tracr: the original's tracr_task/utils.py).
    """

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        self.model_logits = model_logits

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return (logits - self.model_logits).square().mean(-1)


class OutputDifference:
    """Minus the share that the output has gone of the way from the corrupted prompt's right output to the clean one's.

    What the logit difference is for models whose logits are numbers: -1 at the right output, 0 at the corrupted
    prompt's, linear in the logits, so that it has a slope where ``L2`` has none, at the whole model's output. 0 at
    positions where both outputs are the same, whatever the logits.

    The dataset's targets ``outputs`` and ``corrupted_outputs`` are Float[prompt pos d_vocab].
    """

    columns = None

    def __init__(self, dataset: Dataset, model_logits: Float[Tensor, "row d_vocab"]) -> None:
        clean, self.corrupted = (
            dataset.targets[name][dataset.scored].to(model_logits) for name in ("outputs", "corrupted_outputs")
        )
        way = clean - self.corrupted
        # A way of no length is divided by anything but 0, and stays one of no length.
        self.share = way / way.square().sum(-1, keepdim=True).clamp(min=torch.finfo(way.dtype).tiny)

    def __call__(self, logits: Float[Tensor, "... row d_vocab"]) -> Float[Tensor, "... row"]:
        return -((logits - self.corrupted) * self.share).sum(-1)
