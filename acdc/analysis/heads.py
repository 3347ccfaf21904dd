"""Measure every attention head: where it attends, which tokens it copies, and its direct effect on the answer.

A table has a row per head of the model, so that those of a circuit can be judged against all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.analysis import attention
from acdc.analysis.attention import OfHeads, on_random_tokens, random_tokens, runs_of
from acdc.data import NO_ANSWER, Dataset, answers
from acdc.engine import layers
from acdc.engine.model import Engine
from acdc.engine.runs import Rows, Run, final_norm, project
from acdc.engine.weights import Weights
from acdc.found import Found
from acdc.graph import Graph, Node

TOP = 5
"""A head copies a token if it is among this many top logits of the head's output (Wang et al. 2022, section 3.1)."""
MOST_TOKENS = 50
"""The largest number of tokens on which copying is measured."""
SHOWN = 3
"""The number of a head's receivers that its row names."""
CORRUPTED = "_corrupted"
"""The suffix of columns of measures on corrupted prompts."""


def heads_of(graph: Graph) -> list[Node]:
    """Return all heads of a model, in topological order."""
    return [node for node in graph.senders if node.component == "head"]


# Direct effects.


def answer_direction(weights: Weights, data: Dataset) -> Float[Tensor, "scored d_model"] | None:
    """Return the direction in the residual stream whose projection is the logit difference: Float[scored d_model].

    It is the unembedding of the correct answer minus that of the incorrect one; the mean, for several answers. None if
    the prompts have no such answers.
    """
    targets = data.targets
    if {"correct", "incorrect"} <= targets.keys():
        sides = [(answers(targets, name), answers(targets, name) != NO_ANSWER) for name in ("correct", "incorrect")]
    elif {"answers", "right"} <= targets.keys():
        sides = [(targets["answers"], targets["right"]), (targets["answers"], ~targets["right"])]
    else:
        return None
    prompt = data.scored_rows[0]
    right, wrong = (mean_unembedding(weights, tokens[prompt], given[prompt]) for tokens, given in sides)
    return right - wrong


def mean_unembedding(
    weights: Weights, tokens: Int[Tensor, "scored answer"], given: Tensor
) -> Float[Tensor, "scored d_model"]:
    """Return the mean unembedding of the given tokens: Float[scored d_model]."""
    share = (given / given.sum(1, keepdim=True)).to(weights.unembed)
    columns = weights.unembed.T[tokens.clamp(min=0).to(weights.unembed.device)]  # [scored answer d_model]
    return torch.einsum("sad,sa->sd", columns, share)


def through_final_norm(
    weights: Weights, x: Float[Tensor, "... scored d_model"], final: Float[Tensor, "scored d_model"]
) -> Float[Tensor, "... scored d_model"]:
    """Apply the final norm to parts of the final residual stream, with the scale of the whole."""
    architecture = weights.architecture
    if architecture.norm == "none":
        return x
    if architecture.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
        scale = (final.var(-1, unbiased=False, keepdim=True) + architecture.eps).rsqrt()
    else:
        scale = layers.rms_scale(architecture, final)
    return x * scale if weights.ln_final_w is None else x * scale * weights.ln_final_w


def direct_effects(
    weights: Weights, of: Run, rows: Rows, direction: Float[Tensor, "scored d_model"]
) -> Float[Tensor, "head prompt"]:
    """Return the direct effect of each head on the logit difference (direct logit attribution): Float[head prompt].

    It is averaged over a prompt's scored positions. Soft caps of logits are left out.
    """
    graph = weights.architecture.graph()
    which = [graph.sender_index[node] for node in heads_of(graph)]
    written = through_final_norm(weights, of.sender[which][:, rows.scored], of.state["final", 0, 0][rows.scored])
    values = (written * direction).sum(-1)  # [head scored]
    total = values.new_zeros(len(values), rows.n_prompts).index_add_(1, rows.scored_prompt, values)
    return total / torch.bincount(rows.scored_prompt, minlength=rows.n_prompts)


# Copying.


def copied_tokens(data: Dataset) -> Int[Tensor, "token"]:
    """Return the tokens on which copying is measured: the answers or, without answers, the prompts' tokens."""
    names = [name for name in ("correct", "incorrect", "answers") if name in data.targets]
    given = torch.cat([data.targets[name].flatten() for name in names] or [data.clean.flatten()]).unique()
    return given[given != NO_ANSWER][:MOST_TOKENS]


@torch.no_grad()
def copying(weights: Weights, tokens: Int[Tensor, "token"]) -> dict[str, Float[Tensor, "head"]]:
    """Return each head's share of tokens that are among the top logits of its output when it reads them: Float[head].

    A head reads a token's embedding plus the first MLP's output on it. Its output goes through the last norm and the
    unembedding (Wang et al. 2022, section 3.1). ``anti_copying`` is the same for minus its output. Both are nan for a
    model whose output vocabulary is not its input vocabulary.
    """
    a, tokens = weights.architecture, tokens.to(weights.embed.device)
    if weights.unembed.shape[1] != len(weights.embed):
        return dict.fromkeys(("copying", "anti_copying"), weights.embed.new_full((a.n_layers * a.n_heads,), torch.nan))
    x = weights.embed[tokens]
    x = x + layers.mlp(a, weights.blocks[0], x) if a.d_mlp else x
    offset = weights.readout(final_norm(weights, torch.zeros_like(x[:1])))
    top, none = max(1, min(TOP, a.d_vocab // 10)), torch.zeros_like(tokens)
    found: dict[str, list[Tensor]] = {"copying": [], "anti_copying": []}
    for layer, block in enumerate(weights.blocks):
        for head in range(a.n_heads):
            value = project(weights, layer, int(a.graph().ports_of_heads[2, head]), x, none)
            written = value @ block.w_written[head]
            logits = weights.readout(final_norm(weights, written)) - offset
            for name, signed in (("copying", logits), ("anti_copying", -logits)):
                whole = signed + offset
                # Ties do not count as copying: a head's output may leave all logits equal.
                rank = (whole >= whole.gather(1, tokens[:, None])).sum(1)
                found[name].append((rank <= top).float().mean())
    return {name: torch.stack(shares) for name, shares in found.items()}


# The table of measurements.


def measured(engine: Engine, side: int) -> OfHeads:
    """Measure every head's attention and direct effect on the clean (0) or corrupted (1) prompts."""
    parts: list[OfHeads] = []
    for part in engine.parts:
        data = part.to(engine.device)
        of, rows = runs_of(engine.weights, data, (data.clean, data.corrupted)[side])
        one = attention.attention(engine.weights, data, side, of, rows)
        direction = answer_direction(engine.weights, data)
        if direction is not None:
            one["direct_effect"] = direct_effects(engine.weights, of, rows, direction)
        parts.append(one)
    names = dict.fromkeys(name for one in parts for name in one)
    missing = {id(one): next(iter(one.values())) * torch.nan for one in parts}
    return {name: torch.cat([one.get(name, missing[id(one)]) for one in parts], 1) for name in names}


def first_token(data: Dataset) -> int | None:
    """Return the beginning-of-sequence token of a dataset's prompts; None if they have none."""
    return int(data.clean[0, 0]) if data.about.get("bos") else None


def head_frame(engine: Engine, seed: int = 0) -> pd.DataFrame:
    """Measure every head of a model, and return a table with a row per head.

    Returns:
        ``head``; the measurements of ``measured``, averaged over the clean prompts and, in columns that end in
        ``CORRUPTED``, over the corrupted prompts; ``random_previous_token``, ``random_duplicate_token`` and
        ``random_induction`` on repeated random tokens; ``copying`` and ``anti_copying``.
    """
    weights, data = engine.weights, engine.dataset
    columns: dict[str, Any] = {"head": [node.name for node in heads_of(engine.graph)]}
    for side, suffix in enumerate(("", CORRUPTED)):
        columns |= {f"{name}{suffix}": of.nanmean(1).tolist() for name, of in measured(engine, side).items()}
    on_random = on_random_tokens(weights, random_tokens(weights, seed, first_token(data)).to(engine.device))
    columns |= {f"random_{name}": values.tolist() for name, values in on_random.items()}
    columns |= {name: values.tolist() for name, values in copying(weights, copied_tokens(data)).items()}
    return pd.DataFrame(columns)


def receivers_of(found: Sequence[Found], head: str) -> str:
    """Return as a text a head's receivers of largest effect, in the largest circuit that has the head."""
    having = [one for one in found if any(node.name == head for node in one.circuit.nodes)]
    if not having:
        return ""
    largest = max(having, key=lambda one: one.circuit.n_edges)
    effects = {
        edge.receiver.name: largest.importance.get((edge.receiver.name, head, "addition"))
        for edge in largest.circuit.edges
        if edge.kind == "addition" and edge.sender.name == head
    }
    strongest = sorted(effects.items(), key=lambda entry: -abs(entry[1] or 0.0))[:SHOWN]
    return "; ".join(name if effect is None else f"{name} {effect:.3g}" for name, effect in strongest)


def in_circuits(found: Sequence[Found], frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield for every head the number of circuits that have it, and its receivers of largest effect."""
    nodes = [{node.name for node in one.circuit.nodes} for one in found]
    for head in frame["head"]:
        yield {"circuits": sum(head in names for names in nodes), "receivers": receivers_of(found, head)}
