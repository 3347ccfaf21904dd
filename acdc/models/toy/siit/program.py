"""Define programs that small transformers are trained to follow: which node computes which value from which edges.

A program is the causal model of interchange intervention training (Geiger et al. 2021). Each of its values is the
output of one head or MLP, and each of its reads is one edge. So the program also tells the answer where some of its
edges carry another prompt's values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from acdc.graph import Circuit, Graph
from acdc.known import expand
from acdc.models.toy.word_tokenizer import word_tokenizer

Tokens = Int[Tensor, "prompt pos"]
Value = Int[Tensor, "prompt ..."]
UNDEFINED = -1
"""The value where a program has none, such as the position of a name that does not occur."""


@dataclass(frozen=True)
class Step:
    """Compute one value of a program.

    Attributes:
        node: the head or MLP that writes the value, or ``logits``, whose value is the answer.
        reads: pairs of a node and of the port at which its value is read; the port is empty for MLPs and logits. The
            value of ``embed`` is the tokens.
        value: a function that computes the value from the values that are read, in their order.
    """

    node: str
    reads: tuple[tuple[str, str], ...]
    value: Callable[..., Value]

    @property
    def receivers(self) -> list[str]:
        """Return the name of the receiver of each read."""
        return [f"{self.node}.{port}" if port else self.node for _, port in self.reads]


@dataclass(frozen=True)
class Program:
    """Hold a program: prompts, and the steps from a prompt to an answer, one token at the last position.

    Attributes:
        name: the name of the task and of the model.
        words: the words of the vocabulary.
        draw: a function that draws a number of prompts.
        draw_like: a function that draws for each prompt another one whose values can be mixed with its own, such as
            one with the same names; None if values of any two prompts can be mixed.
        steps: the steps in the order of layers; the last one is that of the logits.
        n_layers: the number of layers of the transformer.
        n_steps, seed: the number of steps and the seed of its training. Not every seed ends in a model that follows the
            program.
        is_text: whether prompts are texts, and the model has a tokenizer.
        n_distinct: the number of different prompts that ``draw`` can make.
    """

    name: str
    words: tuple[str, ...]
    draw: Callable[[Program, int, torch.Generator], Tokens]
    steps: tuple[Step, ...]
    n_layers: int
    n_steps: int
    n_distinct: int
    is_text: bool = False
    seed: int = 0
    draw_like: Callable[[Program, Tokens, torch.Generator], Tokens] | None = None

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast | None:
        """Return the tokenizer; None if prompts are no texts."""
        return word_tokenizer(self.words) if self.is_text else None

    @property
    def n_tokens(self) -> int:
        """Return the size of the vocabulary."""
        return len(self.tokenizer) if self.tokenizer else len(self.words)

    @property
    def begin(self) -> int:
        """Return the token that texts begin with: the first word, without a space."""
        assert self.tokenizer is not None  # only called for texts
        return int(self.tokenizer.convert_tokens_to_ids(self.words[0]))

    def ids(self, words: str) -> Int[Tensor, "word"]:
        """Return the tokens of words separated by spaces; in texts, each with the space before it."""
        if self.tokenizer:
            return torch.tensor(self.tokenizer.convert_tokens_to_ids([f" {word}" for word in words.split()]))
        return torch.tensor([self.words.index(word) for word in words.split()])

    def text(self, tokens: Int[Tensor, "pos"]) -> str:
        """Return the text of tokens."""
        if self.tokenizer:
            return "".join(self.tokenizer.convert_ids_to_tokens(tokens.tolist()))
        return " ".join(self.words[token] for token in tokens)

    def circuit(self, graph: Graph) -> Circuit:
        """Return the circuit of the program: an edge for each read, and the direct edges of the ports they enter."""
        pairs = [
            (sender, to) for step in self.steps for (sender, _), to in zip(step.reads, step.receivers, strict=True)
        ]
        return expand({"connections": [{"from": sender, "to": receiver} for sender, receiver in pairs]}, graph)

    def answers(self, prompts: Tokens) -> Int[Tensor, "prompt"]:
        """Return the answers to prompts."""
        return self.values(prompts)["logits"]

    def values(self, prompts: Tokens) -> dict[str, Value]:
        """Return the values of all steps, by node."""
        values: dict[str, Value] = {"embed": prompts}
        for step in self.steps:
            values[step.node] = step.value(*(values[sender] for sender, _ in step.reads))
        return values

    def mixed(
        self, clean: Tokens, corrupted: Tokens, kept: Bool[Tensor, "prompt sender receiver"], graph: Graph
    ) -> Value:
        """Return the answers where kept edges carry a prompt's values, and others those of the corrupted prompt.

        An answer is ``UNDEFINED`` if values of different prompts cannot be mixed.
        """
        other, values = self.values(corrupted), {"embed": clean}
        for step in self.steps:
            read = []
            for (sender, _), name in zip(step.reads, step.receivers, strict=True):
                own = kept[:, graph.sender_index[graph.node(sender)], graph.receiver_index[graph.node(name)]]
                wide = own.view(-1, *[1] * (values[sender].dim() - 1))
                read.append(torch.where(wide, values[sender], other[sender]))
            values[step.node] = step.value(*read)
        return values["logits"]


def same(value: Value) -> Value:
    """Return a value unchanged, for nodes that only pass it on."""
    return value


def without_repetition(
    words: Int[Tensor, "word"], shape: tuple[int, int], generator: torch.Generator
) -> Int[Tensor, "prompt place"]:
    """Draw words for the places of each prompt, without repetition in one prompt."""
    order = torch.rand(shape[0], len(words), generator=generator).argsort(1)
    return words[order[:, : shape[1]]]


def in_any_order(values: Int[Tensor, "prompt place"], generator: torch.Generator) -> Int[Tensor, "prompt place"]:
    """Put the values of each prompt into a random order."""
    return values.gather(1, torch.rand(values.shape, generator=generator).argsort(1))


def any_of(words: Int[Tensor, "word"], shape: tuple[int, ...], generator: torch.Generator) -> Int[Tensor, "..."]:
    """Draw words with repetition."""
    return words[torch.randint(len(words), shape, generator=generator)]
