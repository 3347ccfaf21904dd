"""Plain forward passes that keep what the patched ones start from: the clean and the corrupted run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc.ablation import shuffled_positions
from acdc.data import Dataset
from acdc.engine import layers
from acdc.models.architecture import Weights


@dataclass
class Rows:
    """Every (prompt, position) of a dataset as one flat axis, ``row``, prompt by prompt.

    Attributes:
        pos: Int[row], the position of each row.
        scored: Int[scored], the rows that the metric reads.
        scored_prompt: Int[scored], their prompts.
        live: Int[live], the rows where some circuit can differ from another and still matter: in each prompt
            from the first position whose clean and ablated activations differ to the last scored one.
            All rows until ``narrow_to`` has seen the activations.
        scored_in_live: Int[scored], where in ``live`` the scored rows are.
        one_per_prompt: every prompt has exactly one scored position.
        visible: Bool[pos pos], which keys a query sees; ``scored_visible``: the same for scored rows.
        weight: Float64[scored]; a metric's value is this weighted sum, the mean over prompts of the mean
            over a prompt's scored positions.
    """

    n_prompts: int
    n_pos: int
    pos: Int[Tensor, "row"]
    scored: Int[Tensor, "scored"]
    scored_prompt: Int[Tensor, "scored"]
    one_per_prompt: bool
    visible: Bool[Tensor, "pos pos"]
    scored_visible: Bool[Tensor, "scored pos"]
    weight: Float[Tensor, "scored"]
    live: Int[Tensor, "live"]
    scored_in_live: Int[Tensor, "scored"]

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device) -> Rows:
        n_prompts, n_pos = dataset.clean.shape
        prompt, pos = (t.to(device) for t in dataset.scored_rows)
        per_prompt = dataset.scored.sum(1).to(device)
        visible = torch.ones(n_pos, n_pos, dtype=torch.bool, device=device).tril()
        scored = prompt * n_pos + pos
        return cls(
            n_prompts,
            n_pos,
            pos=torch.arange(n_pos, device=device).repeat(n_prompts),
            scored=scored,
            scored_prompt=prompt,
            one_per_prompt=bool((per_prompt == 1).all()),
            visible=visible,
            scored_visible=visible[pos],
            weight=1.0 / (per_prompt[prompt].double() * n_prompts),
            live=torch.arange(n_prompts * n_pos, device=device),
            scored_in_live=scored,
        )

    def at(self, wide: bool) -> Int[Tensor, "row"]:
        """The rows at which something is computed: ``live`` where it is wide, else ``scored``."""
        return self.live if wide else self.scored

    def narrow_to(self, delta: Float[Tensor, "sender row d_model"]) -> None:
        """Set ``live`` from the differences between the clean and the ablated run.

        Attention is causal: where a prompt's first rows have no difference in any sender, no circuit has any.
        """
        is_scored = torch.zeros(self.n, dtype=torch.bool, device=delta.device)
        is_scored[self.scored] = True
        grid = is_scored.view(self.n_prompts, self.n_pos)
        differs = (delta != 0).any(2).any(0).view(self.n_prompts, self.n_pos)
        after_first = differs.int().cummax(1).values.bool()
        before_last = grid.int().flip(1).cummax(1).values.flip(1).bool()
        live = ((after_first & before_last) | grid).flatten()
        self.live = live.nonzero().flatten()
        self.scored_in_live = live.cumsum(0)[self.scored] - 1

    @property
    def n(self) -> int:
        return self.n_prompts * self.n_pos


@dataclass
class State:
    """Activations that a patched forward pass reads and, where they are its own, overwrites; by layer.

    ``port`` is q, k or v after its projection and rotation. ``final`` is the residual stream that the
    logits are read from, at scored rows only.
    """

    port_in: list[Float[Tensor, "port row d_model"]]
    port: list[Float[Tensor, "port row d_head"]]
    z: list[Float[Tensor, "head row d_head"]]
    mlp_in: list[Float[Tensor, "row d_model"]]
    mlp_out: list[Float[Tensor, "row d_model"]]
    final: Float[Tensor, "scored d_model"]

    def copy(self) -> State:
        """A copy that shares its tensors until ``take_over`` replaces them."""
        fields = {k: list(v) if isinstance(v, list) else v.clone() for k, v in vars(self).items()}
        return State(**fields)

    def take_over(self, other: State, layer: int) -> None:
        """Make this layer's activations a private copy of ``other``'s."""
        for name in ("port_in", "port", "z", "mlp_in", "mlp_out"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if theirs:
                mine[layer] = theirs[layer].clone()


@dataclass
class Run:
    """One plain forward pass: what every sender wrote, and the activations behind it."""

    sender: Float[Tensor, "sender row d_model"]
    state: State


@torch.no_grad()
def run(
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    rows: Rows,
    *,
    split_embed: bool = False,
    zero: bool = False,
    position_order: Int[Tensor, "pos"] | None = None,
) -> Run:
    """One forward pass of the whole model.

    Args:
        split_embed: token and position embeddings are recorded as two senders.
        zero: every sender writes zero instead; biases still act.
        position_order: position embeddings are permuted by it (shuffle_tensor in the original).
    """
    senders: list[Tensor] = []

    def write(out: Float[Tensor, "... row d_model"]) -> Float[Tensor, "row d_model"]:
        out = torch.zeros_like(out) if zero else out
        senders.extend(out if out.ndim == 3 else [out])
        return out.sum(0) if out.ndim == 3 else out

    token, position = embeddings(weights, tokens, position_order)
    resid = write(torch.stack([token, position])) if split_embed else write(token + position)
    state = State([], [], [], [], [], final=resid)
    for layer, block in enumerate(weights.blocks):
        n_ports = len(block.w_port)
        state.port_in.append(resid.expand(n_ports, -1, -1))
        state.port.append(project(weights, layer, slice(None), resid.expand(n_ports, -1, -1), rows.pos))
        z = full_attention(weights, state.port[-1], rows)
        state.z.append(torch.zeros_like(z) if zero else z)
        resid = resid + write(state.z[-1] @ block.w_o) + block.b_o
        if block.w_in is not None:
            state.mlp_in.append(resid)
            state.mlp_out.append(write(layers.mlp(weights.architecture, block, resid)))
            resid = resid + state.mlp_out[-1]
    state.final = resid[rows.scored]
    return Run(torch.stack(senders), state)


def ablated_run(weights: Weights, dataset: Dataset, rows: Rows, ablation: str, split_embed: bool) -> Run:
    """The run whose activations stand in for removed edges, see ``acdc.ablation``."""
    if ablation == "zero":
        return run(weights, dataset.clean, rows, split_embed=split_embed, zero=True)
    order = shuffled_positions(dataset.clean.shape[1]) if split_embed else None
    return run(weights, dataset.corrupted, rows, split_embed=split_embed, position_order=order)


def embeddings(
    weights: Weights, tokens: Int[Tensor, "prompt pos"], position_order: Int[Tensor, "pos"] | None = None
) -> tuple[Float[Tensor, "row d_model"], Float[Tensor, "row d_model"] | float]:
    """Token and position embeddings of every row; the latter is 0.0 where positions are rotary."""
    token = weights.embed[tokens].flatten(0, 1)
    if weights.pos_embed is None:
        return token, 0.0
    n_prompts, n_pos = tokens.shape
    position = weights.pos_embed[:n_pos]
    if position_order is not None:
        position = position[position_order]
    return token, position.repeat(n_prompts, 1)


def project(
    weights: Weights,
    layer: int,
    ports: slice | Int[Tensor, "port"],
    x: Float[Tensor, "port ... row d_model"],
    pos: Int[Tensor, "row"],
) -> Float[Tensor, "port ... row d_head"]:
    """Inputs of some ports of a layer to their q, k or v: norm, projection and, for q and k, rotation."""
    architecture, block = weights.architecture, weights.blocks[layer]
    x = layers.norm(architecture, x, block.ln1_w, block.ln1_b)
    w, b = block.w_port[ports], block.b_port[ports]
    out = torch.baddbmm(b[:, None], x.flatten(1, -2), w).unflatten(1, x.shape[1:-1])
    if architecture.positions != "rotary":
        return out
    cos, sin = weights.rotary_cos[pos], weights.rotary_sin[pos]
    rotated = layers.rotate(out, cos, sin, architecture.rotary_adjacent)
    is_value = torch.arange(len(block.w_port), device=x.device)[ports] >= len(block.w_port) - architecture.n_kv_heads
    return torch.where(is_value.view(-1, *[1] * (out.ndim - 1)), out, rotated)


def full_attention(
    weights: Weights, port: Float[Tensor, "port row d_head"], rows: Rows
) -> Float[Tensor, "head row d_head"]:
    """Attention of every head at every position: ``z``."""
    n_heads, n_kv = weights.architecture.n_heads, weights.architecture.n_kv_heads
    q, k, v = port.unflatten(1, (rows.n_prompts, rows.n_pos)).split([n_heads, n_kv, n_kv])
    k, v = (x.repeat_interleave(n_heads // n_kv, 0) for x in (k, v))
    return layers.attend(q, k, v, rows.visible).flatten(1, 2)
