"""Run the whole model without patches, and keep the activations that patched forward passes start from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc.ablation import Ablation, Written
from acdc.data import Dataset
from acdc.engine import layers
from acdc.engine.route import Plan
from acdc.engine.weights import Weights
from acdc.graph import Graph
from acdc.models.architecture import Architecture


@dataclass
class Rows:
    """Index every position of every prompt of a dataset along one flat axis, ``row``, prompt by prompt.

    Attributes:
        pos: Int[row], the position of each row.
        scored: Int[scored], the rows of scored positions.
        scored_prompt: Int[scored], the prompts of the scored rows.
        live: Int[live], the rows where two circuits can differ and the difference can matter. These are all rows until
            ``find_live`` has seen the activations.
        scored_in_live: Int[scored], the indices of the scored rows in ``live``.
        one_per_prompt: whether every prompt has exactly one scored position.
        causal: whether a position attends only to itself and to earlier ones.
        weight: Float64[scored], the weight of each scored position in a metric's mean, see ``Dataset.weight``.
        masks, positions: the cached results of ``hidden`` and ``pos_at``.
    """

    n_prompts: int
    n_pos: int
    pos: Int[Tensor, "row"]
    scored: Int[Tensor, "scored"]
    scored_prompt: Int[Tensor, "scored"]
    one_per_prompt: bool
    causal: bool
    weight: Float[Tensor, "scored"]
    live: Int[Tensor, "live"]
    scored_in_live: Int[Tensor, "scored"]
    masks: dict[tuple[int, bool], Tensor] = field(default_factory=dict)
    positions: dict[bool, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, device: torch.device, causal: bool = True) -> Rows:
        """Return the rows of a dataset; all of them count as live."""
        n_prompts, n_pos = dataset.clean.shape
        prompt, pos = (t.to(device) for t in dataset.scored_rows)
        per_prompt = dataset.scored.sum(1).to(device)
        scored = prompt * n_pos + pos
        return cls(
            n_prompts,
            n_pos,
            pos=torch.arange(n_pos, device=device).repeat(n_prompts),
            scored=scored,
            scored_prompt=prompt,
            one_per_prompt=bool((per_prompt == 1).all()),
            causal=causal,
            weight=dataset.weight.to(device),
            live=torch.arange(n_prompts * n_pos, device=device),
            scored_in_live=scored,
        )

    @cached_property
    def distance(self) -> Int[Tensor, "pos pos"]:
        """Return the distance from each query back to each key, negative for later keys: Int[pos pos]."""
        pos = torch.arange(self.n_pos, device=self.pos.device)
        return pos[:, None] - pos

    def hidden(self, window: int, at_scored: bool = False) -> Bool[Tensor, "... query pos"]:
        """Return which keys each query does not see, because they are later or outside the window.

        Args:
            window: the number of positions that a query sees, itself among them; 0 for no window.
            at_scored: whether the queries are those of scored rows, Bool[scored 1 pos]; else of all positions.
        """
        if (window, at_scored) not in self.masks:
            sees = self.distance >= 0 if self.causal else torch.ones_like(self.distance, dtype=torch.bool)
            sees = sees & (self.distance < window) if window else sees
            self.masks[window, at_scored] = ~(sees[self.pos[self.scored], None] if at_scored else sees)
        return self.masks[window, at_scored]

    def at(self, all_live: bool) -> Int[Tensor, "row"]:
        """Return all live rows, or the scored rows."""
        return self.live if all_live else self.scored

    def pos_at(self, all_live: bool) -> Int[Tensor, "row"]:
        """Return the positions of all live rows, or of the scored rows."""
        if all_live not in self.positions:
            self.positions[all_live] = self.pos[self.at(all_live)]
        return self.positions[all_live]

    def find_live(self, delta: Float[Tensor, "sender row d_model"]) -> None:
        """Set ``live`` from the differences between the clean and the ablated run.

        Where attention is causal, no circuit differs before a prompt's first difference, and no position after its last
        scored one matters.
        """
        is_scored = torch.zeros(self.n, dtype=torch.bool, device=delta.device)
        is_scored[self.scored] = True
        grid = is_scored.view(self.n_prompts, self.n_pos)
        differs = (delta != 0).any(2).any(0).view(self.n_prompts, self.n_pos)
        if self.causal:
            after_first = differs.int().cummax(1).values.bool()
            before_last = grid.int().flip(1).cummax(1).values.flip(1).bool()
            live = after_first & before_last
        else:
            live = differs.any(1, keepdim=True).expand_as(differs)
        live = (live | grid).flatten()
        self.live, self.positions = live.nonzero().flatten(), {}
        self.scored_in_live = live.cumsum(0)[self.scored] - 1

    @property
    def n(self) -> int:
        """Return the number of rows."""
        return self.n_prompts * self.n_pos


Where = slice | list[int] | Int[Tensor, "_chosen"]
"""An index along a tensor's first dimension; on a GPU better a slice or a tensor there, since a list makes it wait."""


class State(dict[tuple[str, int, int], Tensor]):
    """Hold the activations that a patched forward pass starts from, by (kind, layer, index).

    No tensor in it is written to.

    ``port_in`` and ``mlp_in`` are inputs, Float[row d_model]; ``mlp_out`` has the same shape. ``z`` is a head's
    attention output, Float[row d_head]. ``scale``, if a norm follows the heads of a layer, is the factor of all their
    outputs, Float[row 1]; its index is 0. The rows of these are all live rows or, if only those matter, the scored
    rows.
    ``port`` is q, k or v after projection and rotation, Float[row d_head]: at every row, or q at the scored rows. If
    one norm takes all heads' q together, q and k are those before the norm.
    ``final`` is the final residual stream, Float[scored d_model]; its layer and index are 0.

    Attributes:
        stacks: for each kind and layer, the stacks of which activations are views, by the indices of the activations.
    """

    def __init__(self, activations: Mapping[tuple[str, int, int], Tensor] = MappingProxyType({})) -> None:
        super().__init__(activations)
        self.stacks: dict[tuple[str, int], dict[tuple[int, ...], Tensor]] = {}

    def __setitem__(self, key: tuple[str, int, int], value: Tensor) -> None:
        self.release(key[0], key[1], (key[2],))
        super().__setitem__(key, value)

    def copy(self) -> State:
        """Return a state of the same tensors."""
        return State(self)

    def ports(self, layer: int, n_ports: int) -> Float[Tensor, "port row d_head"]:
        """Stack q, k and v of all ports in a layer, if the state has them at every row: Float[port row d_head]."""
        return torch.stack([self["port", layer, port] for port in range(n_ports)])

    def scaled(self, layer: int, z: Float[Tensor, "... row d_head"]) -> Float[Tensor, "... row d_head"]:
        """Return heads' ``z`` times the layer's scale; return ``z`` unchanged if no norm follows the heads."""
        scale = self.get(("scale", layer, 0))
        return z if scale is None else z * scale

    def stack(self, kind: str, layer: int, nodes: tuple[int, ...]) -> Float[Tensor, "node row d"]:
        """Stack activations of one kind and layer, and keep the stack: the activations become views of it."""
        of_layer = self.stacks.setdefault((kind, layer), {})
        if nodes not in of_layer:
            first, *others = (self[kind, layer, i] for i in nodes)
            is_shared = all(value is first for value in others)
            self.put(
                kind, layer, nodes, first.expand(len(nodes), -1, -1) if is_shared else torch.stack([first, *others])
            )
        return of_layer[nodes]

    def put(self, kind: str, layer: int, nodes: tuple[int, ...], stack: Float[Tensor, "node row d"]) -> None:
        """Replace activations of one kind and layer by views of a stack."""
        of_layer = self.stacks.setdefault((kind, layer), {})
        if nodes not in of_layer:  # no two stacks are of one activation
            self.release(kind, layer, nodes)
        of_layer[nodes] = stack
        keys = ((kind, layer, i) for i in nodes)
        self.update(zip(keys, stack.unbind(), strict=True))

    def release(self, kind: str, layer: int, leaving: Collection[int]) -> None:
        """Delete the stacks of activations that are replaced, and stack the other activations of these stacks anew.

        Otherwise one view would keep the memory of the whole old stack.
        """
        of_layer = self.stacks.get((kind, layer), {})
        for nodes in [nodes for nodes in of_layer if not set(nodes).isdisjoint(leaving)]:
            del of_layer[nodes]
            rest = tuple(i for i in nodes if i not in leaving)
            if rest:
                self.put(kind, layer, rest, torch.stack([self[kind, layer, i] for i in rest]))

    def take_over(self, other: State, layer: int) -> None:
        """Replace a layer's activations by those of another state."""
        for key, value in other.items():
            if key[1] == layer and key[0] != "final":
                self[key] = value

    def drop_rows(self, plan: Plan, rows: Rows) -> None:
        """Drop all but the scored rows of activations that matter only there."""
        n_scored, n_heads = len(rows.scored), plan.graph.n_heads
        dropped: dict[tuple[str, int], dict[tuple[str, int, int], Tensor]] = {}
        for (kind, layer, i), value in self.items():
            if kind == "final" or len(value) == n_scored:
                continue
            is_key = kind == "port" and i >= n_heads
            all_live = plan.mlp_at_all_live(layer) if kind.startswith("mlp") else plan.port_at_all_live(layer, i)
            if not (all_live or is_key):
                at_scored = value[rows.scored if kind == "port" else rows.scored_in_live]
                dropped.setdefault((kind, layer), {})[kind, layer, i] = at_scored
        for (kind, layer), activations in dropped.items():
            self.release(kind, layer, [i for _, _, i in activations])
            self.update(activations)

    def at_live(self, rows: Rows) -> State:
        """Return this state, which has every row, with only the rows at which each activation is kept."""
        whole = slice(None)
        rows_of: dict[str, slice | Tensor] = {"port": whole, "final": rows.scored}
        live = whole if len(rows.live) == rows.n else rows.live
        # The ports of a layer share one tensor, and still do so afterwards.
        at: dict[int, Tensor] = {}
        for (kind, _, _), value in self.items():
            if id(value) not in at:
                at[id(value)] = value[rows_of.get(kind, live)]
        return State({key: at[id(value)] for key, value in self.items()})


@dataclass
class Run:
    """Hold one plain forward pass: every sender's output, and the other activations."""

    sender: Float[Tensor, "sender row d_model"]
    state: State

    def outputs(self, graph: Graph) -> Written:
        """Return every sender's output: a head's z times its layer's scale, and the output of any other sender."""
        return [
            self.state.scaled(node.layer, self.state["z", node.layer, node.head_index])
            if node.component == "head"
            else written
            for node, written in zip(graph.senders, self.sender, strict=True)
        ]


@torch.no_grad()
def run(
    weights: Weights,
    tokens: Int[Tensor, "prompt pos"],
    rows: Rows,
    *,
    split_embed: bool = False,
    fixed: Written | None = None,
    position_order: Int[Tensor, "pos"] | None = None,
) -> Run:
    """Run the whole model once, and record its activations at every row.

    Args:
        split_embed: whether token and position embeddings are recorded as two senders.
        fixed: outputs that replace those of every sender at each position; biases still act. None for no replacement.
        position_order: the order in which positions take their embeddings (shuffle_tensor in the original).
    """
    graph = weights.architecture.graph(split_embed)
    sender = weights.embed.new_zeros(len(graph.senders), rows.n, weights.architecture.d_model)
    free, given, state = iter(sender), iter(fixed or ()), State()

    def output(computed: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
        return computed if fixed is None else next(given).repeat(rows.n_prompts, 1)

    def write(out: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
        next(free).copy_(out)
        return out

    token, position = embeddings(weights, tokens, position_order)
    if split_embed:
        assert isinstance(position, Tensor)  # the graph checks that
        resid = write(output(token)) + write(output(position))
    else:
        resid = write(output(token + position))
    for layer, block in enumerate(weights.blocks):
        before = resid
        for p in range(len(block.w_port)):
            state["port_in", layer, p] = resid
            state["port", layer, p] = project(weights, layer, p, resid, rows.pos)
        z = [output(of_head) for of_head in full_attention(weights, layer, state.ports(layer, graph.n_ports), rows)]
        state.update({("z", layer, head): of_head for head, of_head in enumerate(z)})
        if weights.architecture.norm_after:
            # The fixed outputs are scaled already.
            scale = torch.ones_like(z[0][:, :1]) if fixed else scale_after(weights, layer, torch.stack(z))
            state["scale", layer, 0] = scale
        for of_head, project_out in zip(z, block.outputs, strict=True):
            resid = resid + write(project_out(state.scaled(layer, of_head)))
        resid = resid + block.b_o
        if graph.has_mlp:
            state["mlp_in", layer, 0] = before if weights.architecture.parallel else resid
            state["mlp_out", layer, 0] = output(layers.mlp(weights.architecture, block, state["mlp_in", layer, 0]))
            resid = resid + write(state["mlp_out", layer, 0])
    state["final", 0, 0] = resid
    return Run(sender, state)


def ablated_run(
    weights: Weights, dataset: Dataset, rows: Rows, ablation: Ablation, split_embed: bool, fixed: Written | None
) -> Run:
    """Run the corrupted prompts as the ablation says, for the activations that replace removed edges.

    Args:
        fixed: the outputs that ``fixed_outputs`` returns.
    """
    order = ablation.position_order(dataset.clean.shape[1])
    return run(weights, dataset.corrupted, rows, split_embed=split_embed, fixed=fixed, position_order=order)


def fixed_outputs(
    weights: Weights, dataset: Dataset, ablation: Ablation, split_embed: bool, n_prompts: int
) -> Written | None:
    """Return every sender's output in the ablated run, Float[pos d], if all prompts share it; otherwise None.

    Args:
        n_prompts: the number of prompts that are computed at once.
    """
    return ablation.outputs(EngineSenders(weights, dataset, split_embed, n_prompts))


@dataclass
class EngineSenders:
    """Give an ablation the outputs of the engine's senders, see ``acdc.ablation.Senders``."""

    weights: Weights
    dataset: Dataset
    split_embed: bool
    n_prompts: int

    @property
    def graph(self) -> Graph:
        """Return the computational graph of the model."""
        return self.weights.architecture.graph(self.split_embed)

    def zeros(self) -> Written:
        """Return zeros in the shape of every sender's output: Float[pos d]."""
        architecture, n_pos = self.weights.architecture, self.dataset.clean.shape[1]
        sizes = (architecture.d_head if n.component == "head" else architecture.d_model for n in self.graph.senders)
        return [self.weights.embed.new_zeros(n_pos, size) for size in sizes]

    def on_corrupted(self) -> Iterator[Written]:
        """Yield every sender's output on ``n_prompts`` corrupted prompts at a time: Float[prompt pos d]."""
        for tokens in self.dataset.pool.split(self.n_prompts):
            part = Dataset(tokens, tokens, torch.ones_like(tokens, dtype=torch.bool), {})
            rows = Rows.of(part, self.weights.embed.device, self.weights.architecture.causal)
            outputs = run(self.weights, tokens, rows, split_embed=self.split_embed).outputs(self.graph)
            yield [x.unflatten(0, tokens.shape) for x in outputs]


def embeddings(
    weights: Weights, tokens: Int[Tensor, "prompt pos"], position_order: Int[Tensor, "pos"] | None = None
) -> tuple[Float[Tensor, "row d_model"], Float[Tensor, "row d_model"] | float]:
    """Return the token and position embeddings of every row; 0.0 for positions if the residual stream has none."""
    token = weights.embed[tokens.to(weights.embed.device)].flatten(0, 1)
    if weights.architecture.positions != "learned":
        return token, 0.0
    n_prompts, n_pos = tokens.shape
    assert weights.pos_embed is not None  # learned positions
    position = weights.pos_embed[:n_pos]
    if position_order is not None:
        position = position[position_order.to(position.device)]
    return token, position.repeat(n_prompts, 1)


def project(
    weights: Weights, layer: int, port: int, x: Float[Tensor, "... row d_model"], pos: Int[Tensor, "row"]
) -> Float[Tensor, "... row d_head"]:
    """Compute a port's q, k or v from its input: norm, projection and, for q and k, the steps of ``place``.

    If a norm takes all heads' q or k together, ``place_together`` does these steps when all heads are known.
    """
    architecture, block = weights.architecture, weights.blocks[layer]
    is_value = port >= architecture.n_heads + architecture.n_kv_heads
    if not architecture.norm_before:
        out = block.ports[port](x)
    elif architecture.scales_after:
        out = torch.addcmul(block.b_port[port], block.ports_after_scale[port](x), layers.rms_scale(architecture, x))
    else:
        x = layers.norm(architecture, x, block.ln1_w, block.ln1_b)
        if architecture.positions == "shortformer" and not is_value:
            x = x + weights.position(pos)
        out = block.ports[port](x)
    if is_value:
        return clipped(architecture, out)
    if architecture.query_key_norm == "all heads":
        return out
    return place(weights, layer, out, None if block.qk_norm_w is None else block.qk_norm_w[port], pos)


def clipped(architecture: Architecture, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Clip q, k or v if the architecture does."""
    return x if architecture.clip is None else x.clamp(-architecture.clip, architecture.clip)


def place(
    weights: Weights,
    layer: int,
    x: Float[Tensor, "... row d_head"],
    norm: Float[Tensor, "... d_head"] | None,
    pos: Int[Tensor, "row"],
) -> Float[Tensor, "... row d_head"]:
    """Apply the steps after the projection of q or k: its own norm, clipping, and the rotation by its position.

    Args:
        norm: the weights of the norm; None without one.
    """
    architecture, table = weights.architecture, weights.architecture.rotation(layer)
    is_late = architecture.query_key_norm == "each head, rotated"
    if norm is not None and not is_late:
        x = layers.norm(architecture, x, None, None) * norm
    x = clipped(architecture, x)
    if table is not None:
        x = layers.rotate(x, *weights.rotation(table, pos), architecture.rotary_adjacent)
    return layers.norm(architecture, x, None, None) * norm if norm is not None and is_late else x


def place_together(
    weights: Weights, layer: int, x: Float[Tensor, "port ... row d_head"], first: int, pos: Int[Tensor, "row"]
) -> Float[Tensor, "port ... row d_head"]:
    """Apply the steps of ``place``, with a norm that takes the q, or k, of all heads together (OLMo 2).

    Args:
        first: the first of these ports.
    """
    norm = weights.blocks[layer].qk_norm_w
    assert norm is not None  # as the architecture says
    together = x.movedim(0, -2).flatten(-2)
    together = layers.norm(weights.architecture, together, norm[first : first + len(x)].flatten(), None)
    return place(weights, layer, together.unflatten(-1, (len(x), -1)).movedim(-2, 0), None, pos)


def scale_after(weights: Weights, layer: int, z: Float[Tensor, "head ... row d_head"]) -> Float[Tensor, "... row 1"]:
    """Return the factor of every head's output where a norm follows the heads of a layer (Gemma 2, OLMo 2).

    The norm takes the sum of all heads. The output of a head is its own result times the norm's weight and this factor,
    which is one over the root mean square of that sum in the same run. So the senders sum to the residual stream
    exactly: all edges give the model's logits, and no edges the ablated run's. A change of one head changes the outputs
    of the others.
    """
    total = weights.blocks[layer].all_outputs(z.movedim(0, -2).flatten(-2))
    return layers.rms_scale(weights.architecture, total)


def project_many(
    weights: Weights,
    layer: int,
    ports: Where,
    placed: Where,
    x: Float[Tensor, "port state row d_model"],
    pos: Int[Tensor, "row"],
) -> Float[Tensor, "port state row d_head"]:
    """Compute q, k and v of several ports in ascending order, each from its own input, see ``project``.

    Args:
        placed: the q and k among the ports; they come first.
    """
    return place_many(weights, layer, placed, project_unplaced(weights, layer, ports, placed, x, pos), pos)


def project_unplaced(
    weights: Weights,
    layer: int,
    ports: Where,
    placed: Where,
    x: Float[Tensor, "port state row d_model"],
    pos: Int[Tensor, "row"],
) -> Float[Tensor, "port state row d_head"]:
    """Compute the projections of ``project_many``, before the steps of ``place_many``.

    Args:
        placed: the q and k among the ports; they come first.
    """
    architecture, block = weights.architecture, weights.blocks[layer]
    bias, n_placed = block.b_port[ports][:, None], len(block.b_port[placed])
    if architecture.scales_after:
        rows = x.flatten(1, 2)
        scaled = torch.bmm(rows, block.w_after_scale[ports])
        out = torch.addcmul(bias, scaled, layers.rms_scale(architecture, rows))
    else:
        x = layers.norm(architecture, x, block.ln1_w, block.ln1_b) if architecture.norm_before else x
        if architecture.positions == "shortformer":
            x = torch.cat([x[:n_placed] + weights.position(pos), x[n_placed:]])
        out = torch.baddbmm(bias, x.flatten(1, 2), block.w_port[ports])
    return out.unflatten(1, x.shape[1:3])


def place_many(
    weights: Weights,
    layer: int,
    placed: Where,
    x: Float[Tensor, "port state row d_head"],
    pos: Int[Tensor, "row"],
) -> Float[Tensor, "port state row d_head"]:
    """Apply the steps after the projections of several ports, see ``place``.

    Args:
        placed: the q and k among the ports; they come first.
    """
    architecture, block = weights.architecture, weights.blocks[layer]
    n_placed = len(block.b_port[placed])
    parts = before = x.tensor_split([n_placed])
    if architecture.query_key_norm != "all heads" and n_placed:
        norm = None if block.qk_norm_w is None else block.qk_norm_w[placed][:, None, None]
        parts = place(weights, layer, parts[0], norm, pos), parts[1]
    parts = parts[0], clipped(architecture, parts[1])
    return x if parts[0] is before[0] and parts[1] is before[1] else torch.cat(parts)


def project_all(
    weights: Weights, layer: int, resid: Float[Tensor, "row d_model"], pos: Int[Tensor, "row"]
) -> Float[Tensor, "port row d_head"]:
    """Compute q, k and v of every port in a layer from one residual stream, see ``project``."""
    architecture, block = weights.architecture, weights.blocks[layer]
    n_placed = architecture.n_heads + architecture.n_kv_heads  # q and k; a value has no position
    x = layers.norm(architecture, resid, block.ln1_w, block.ln1_b) if architecture.norm_before else resid
    placed, values = block.all_ports(x).unflatten(1, (-1, architecture.d_head)).transpose(0, 1).tensor_split([n_placed])
    if architecture.positions == "shortformer":
        both = block.all_ports(x + weights.position(pos))
        placed = both.unflatten(1, (-1, architecture.d_head)).transpose(0, 1)[:n_placed]
    if architecture.query_key_norm != "all heads":
        placed = place(weights, layer, placed, None if block.qk_norm_w is None else block.qk_norm_w[:, None], pos)
    return torch.cat([placed, clipped(architecture, values)])


def full_attention(
    weights: Weights, layer: int, ports: Float[Tensor, "port row d_head"], rows: Rows
) -> Float[Tensor, "head row d_head"]:
    """Compute the attention output ``z`` of every head in a layer at every row."""
    q, k, v = of_heads(weights, layer, ports, rows)
    return attend(weights, layer, slice(None), q, k, v, rows).flatten(1, 2)


def full_pattern(
    weights: Weights, layer: int, ports: Float[Tensor, "port row d_head"], rows: Rows
) -> Float[Tensor, "head prompt query key"]:
    """Compute the attention pattern of every head in a layer at every row."""
    q, k, _ = of_heads(weights, layer, ports, rows)
    return layers.pattern(q, k, *scoring(weights, layer, slice(None), q, rows))


def of_heads(
    weights: Weights, layer: int, ports: Float[Tensor, "port row d_head"], rows: Rows
) -> list[Float[Tensor, "head prompt pos d_head"]]:
    """Return q, k and v of every head in a layer, after a norm that takes all heads together."""
    n_heads, n_kv = weights.architecture.n_heads, weights.architecture.n_kv_heads
    q, k, v = ports.split([n_heads, n_kv, n_kv])
    if weights.architecture.query_key_norm == "all heads":
        q = place_together(weights, layer, q, 0, rows.pos)
        k = place_together(weights, layer, k, n_heads, rows.pos)
    k, v = (x.repeat_interleave(n_heads // n_kv, 0) for x in (k, v))
    return [x.unflatten(1, (rows.n_prompts, rows.n_pos)) for x in (q, k, v)]


def attend(
    weights: Weights,
    layer: int,
    heads: Where,
    q: Float[Tensor, "head ... query d_head"],
    k: Float[Tensor, "head ... key d_head"],
    v: Float[Tensor, "head ... key d_head"],
    rows: Rows,
    at_scored: bool = False,
) -> Float[Tensor, "head ... query d_head"]:
    """Compute the attention of some heads in a layer.

    Args:
        at_scored: whether there is one query for each entry of the third dimension from the end, at its scored
            position; otherwise there are queries at every position.
    """
    return layers.attend(q, k, v, *scoring(weights, layer, heads, q, rows, at_scored))


def scoring(
    weights: Weights,
    layer: int,
    heads: Where,
    q: Float[Tensor, "head ... query d_head"],
    rows: Rows,
    at_scored: bool = False,
) -> tuple[Bool[Tensor, "... query key"], Float[Tensor, "..."] | None, float | None]:
    """Return the hidden keys, the bias and the cap of attention scores, see ``attend``."""
    architecture, bias = weights.architecture, None
    if weights.slopes is not None:
        distance = rows.distance[rows.pos[rows.scored], None] if at_scored else rows.distance
        bias = -weights.slopes[heads].view(-1, *[1] * (q.dim() - 1)) * distance
    return rows.hidden(architecture.window(layer), at_scored), bias, architecture.attention_cap


def final_norm(weights: Weights, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
    """Apply the norm before the unembedding."""
    return layers.norm(weights.architecture, x, weights.ln_final_w, weights.ln_final_b)
