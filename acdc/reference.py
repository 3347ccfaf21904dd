"""Run the edge-patched forward pass through TransformerLens hooks, slowly and plainly, as the oracle of tests.

It takes one full forward pass per circuit. Every hook is at a point that all TransformerLens bridges have. Not all of
them expose heads' inputs and outputs: these are computed from neighbouring points with the bridge's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc.ablation import Ablation, Written, named
from acdc.data import Dataset
from acdc.graph import PORTS, Circuit, Component, Node, Port
from acdc.models.bridge import SHORTFORMER, hugging_face_config
from acdc.models.convert import architecture_of

Hook = tuple[str | Callable[..., Any], Callable[..., Any]]
"""A hook point's name and the function that is called there, as TransformerLens takes them."""


def keep(cache: dict[str, Tensor], name: str, x: Tensor, hook: Any) -> None:
    """Store an activation under its hook point's name, as a hook that changes nothing."""
    cache[name] = x.clone()


def give(value: Tensor, x: Tensor, hook: Any) -> Tensor:
    """Replace the activation of every prompt by the same value, as a hook."""
    return value.expand_as(x).contiguous()


class Reference:
    """Compute circuits as ``acdc.engine.model.Engine`` does, but from a TransformerBridge."""

    def __init__(
        self,
        bridge: TransformerBridge,
        dataset: Dataset,
        *,
        ablation: Ablation | str,
        split_embed: bool = False,
    ) -> None:
        self.bridge, self.dataset, self.split_embed = bridge, dataset, split_embed
        self.architecture = architecture_of(bridge)
        self.graph = self.architecture.graph(split_embed)
        self.ablated = self.ablated_run(named(ablation))

    @torch.no_grad()
    def logits(self, circuit: Circuit) -> Float[Tensor, "scored d_vocab"]:
        """Compute the logits of a circuit on the clean prompts, at the scored positions: Float[scored d_vocab]."""
        current: dict[Node, Tensor] = {}
        hooks = [*self.recording(current), *self.patching(circuit, current)]
        return self.bridge.run_with_hooks(self.dataset.clean, fwd_hooks=hooks)[self.dataset.scored]

    @torch.no_grad()
    def ablated_run(self, ablation: Ablation) -> dict[str, Tensor]:
        """Return the activations, by hook point, of the ablated run, which replace those of removed edges."""
        layers = range(self.bridge.cfg.n_layers)
        outputs = ablation.outputs(self)
        self.is_fixed = outputs is not None
        hooks = [] if outputs is None else self.fixing(outputs)
        order = ablation.position_order(self.dataset.clean.shape[1])
        if order is not None:
            hooks.append(("hook_pos_embed", lambda x, hook: x[:, order]))
        cache: dict[str, Tensor] = {}
        ports = [f"blocks.{layer}.attn.hook_{port}" for layer in layers for port in PORTS]
        names = (*self.output_hooks, *self.residual_hooks(), *ports)
        hooks += [(name, partial(keep, cache, name)) for name in names]
        self.bridge.run_with_hooks(self.dataset.corrupted, fwd_hooks=hooks)
        return cache

    @cached_property
    def output_hooks(self) -> list[str]:
        """Return the hook points of all senders' outputs: embeddings, every layer's z, MLPs."""
        layers = range(self.bridge.cfg.n_layers)
        # A rotary model has a hook point for position embeddings too, and never calls it.
        names = ["hook_embed", "hook_pos_embed"] if self.architecture.embeds_positions else ["hook_embed"]
        names += [f"blocks.{layer}.attn.hook_z" for layer in layers]
        return names + [f"blocks.{layer}.hook_mlp_out" for layer in layers if not self.bridge.cfg.attn_only]

    def zeros(self) -> Written:
        """Return zeros for every sender, a layer's heads in one tensor; see ``acdc.ablation.Senders``."""
        return [torch.zeros_like(x[0]) for x in next(self.on_corrupted())]

    def on_corrupted(self) -> Iterator[Written]:
        """Yield every sender's output on all corrupted prompts at once, see ``acdc.ablation.Senders``."""
        cache: dict[str, Tensor] = {}
        hooks: list[Hook] = [(name, partial(keep, cache, name)) for name in self.output_hooks]
        self.bridge.run_with_hooks(self.dataset.pool, fwd_hooks=hooks)
        for layer, block in enumerate(self.bridge.blocks):
            if getattr(block, "ln1_post", None) is not None:
                z = cache[f"blocks.{layer}.attn.hook_z"]
                z /= self.root_mean_square(layer, z)[:, :, None]
        yield [cache[name] for name in self.output_hooks]

    def fixing(self, outputs: Written) -> list[Hook]:
        """Return hooks that set every sender's output to the same value on every prompt."""
        hooks: list[Hook] = []
        for name, value in zip(self.output_hooks, outputs, strict=True):
            hooks.append((name, partial(give, value)))
            if name.endswith("hook_z") and (weight := self.weight_after(layer := int(name.split(".")[1]))) is not None:
                # The norm after the heads would take what they write, and it is given after that norm.
                together = torch.einsum("shd,hdm->sm", value, self.bridge.blocks[layer].attn.W_O)
                hooks.append((f"blocks.{layer}.hook_attn_out", partial(give, together * weight)))
        return hooks

    def weight_after(self, layer: int) -> Float[Tensor, "d_model"] | None:
        """Return the weight of the norm after a layer's heads, Float[d_model]; None without such a norm."""
        norm = getattr(self.bridge.blocks[layer], "ln1_post", None)
        offset = 1.0 if getattr(self.bridge.cfg, "rmsnorm_uses_offset", False) else 0.0
        return None if norm is None else norm.weight + offset

    def root_mean_square(self, layer: int, z: Float[Tensor, "prompt pos head d_head"]) -> Float[Tensor, "prompt pos 1"]:
        """Return the root mean square by which the norm after a layer's heads divides their sum."""
        together = torch.einsum("pshd,hdm->psm", z, self.bridge.blocks[layer].attn.W_O)
        return (together.square().mean(-1, keepdim=True) + self.bridge.cfg.eps).sqrt()

    def residual_hooks(self) -> list[str]:
        """Return the hook points where receivers read the residual stream."""
        layers = range(self.bridge.cfg.n_layers)
        receivers = [Node(layer, "head", 0, "q") for layer in layers]
        receivers += [Node(layer, "mlp") for layer in layers if not self.bridge.cfg.attn_only]
        # The heads and the MLP of a parallel block read at one point.
        return list(dict.fromkeys(map(self.residual_hook, [*receivers, Node(len(layers), "logits")])))

    def recording(self, current: dict[Node, Tensor]) -> list[Hook]:
        """Return hooks that store every sender's output: Float[prompt pos d_model]."""
        embeds: tuple[Component, ...] = ("tok_embed", "pos_embed") if self.split_embed else ("embed",)
        hooks: list[Hook] = []
        for name in embeds:
            node = Node(-1, name)
            hooks.append((node.sender_hook, partial(self.record, current, node)))
        for layer in range(self.bridge.cfg.n_layers):
            hooks.append((f"blocks.{layer}.attn.hook_z", partial(self.record_heads, current, layer)))
            if not self.bridge.cfg.attn_only:
                node = Node(layer, "mlp")
                hooks.append((node.sender_hook, partial(self.record, current, node)))
        return hooks

    def record(
        self, current: dict[Node, Tensor], node: Node, x: Float[Tensor, "prompt pos d_model"], hook: Any
    ) -> None:
        """Store a sender's output, as a hook."""
        current[node] = x

    def record_heads(
        self, current: dict[Node, Tensor], layer: int, z: Float[Tensor, "prompt pos head d_head"], hook: Any
    ) -> None:
        """Store the output of every head in a layer, as a hook."""
        for head in range(z.shape[2]):
            current[Node(layer, "head", head)] = self.written(layer, head, z)

    def written(
        self, layer: int, head: int, z: Float[Tensor, "prompt pos head d_head"], is_scaled: bool = False
    ) -> Float[Tensor, "prompt pos d_model"]:
        """Return the output of a head: Float[prompt pos d_model].

        Where a norm follows the sum of all heads, a head's output is its own result times the norm's weight, divided by
        the root mean square of that sum (see ``acdc.engine.runs.scale_after``).

        Args:
            is_scaled: whether ``z`` is divided by the root mean square already.
        """
        result = z[:, :, head] @ self.bridge.blocks[layer].attn.W_O[head]
        weight = self.weight_after(layer)
        if weight is None:
            return result
        return result * weight if is_scaled else result * weight / self.root_mean_square(layer, z)

    def patching(self, circuit: Circuit, current: dict[Node, Tensor]) -> list[Hook]:
        """Return hooks that compute every receiver's input from the circuit's edges."""
        hooks: list[Hook] = []
        for layer in range(self.bridge.cfg.n_layers):
            for port in PORTS:
                patch = partial(self.patch_port, circuit, current, layer, port)
                hooks.append((f"blocks.{layer}.attn.hook_{port}", patch))
            if not self.bridge.cfg.attn_only:
                hooks.append((f"blocks.{layer}.mlp.hook_in", partial(self.patch_mlp, circuit, current, layer)))
        logits = circuit.graph.receivers[-1]
        return [*hooks, (logits.receiver_hook, lambda x, hook: self.receive(circuit, current, logits))]

    def receive(self, circuit: Circuit, current: dict[Node, Tensor], receiver: Node) -> Tensor:
        """Compute a receiver's input, the ablated run's plus changes along present edges: Float[prompt pos d_model]."""
        graph = circuit.graph
        x = self.ablated[self.residual_hook(receiver)].clone()
        for s in circuit.present[:, graph.receiver_index[receiver]].nonzero()[0]:
            sender = graph.senders[s]
            x += self.share(sender) * (current[sender] - self.ablated_output(sender))
        return x

    def share(self, sender: Node) -> float:
        """Return the factor of a head's output before it is added (Granite); hook points of MLPs include theirs."""
        if sender.component != "head":
            return 1.0
        return getattr(hugging_face_config(self.bridge), "residual_multiplier", 1.0)

    def residual_hook(self, receiver: Node) -> str:
        """Return the hook point of the residual stream that a receiver reads."""
        if receiver.component == "logits":
            return receiver.receiver_hook
        after_heads = receiver.component == "mlp" and not self.bridge.cfg.parallel_attn_mlp
        return f"blocks.{receiver.layer}.hook_resid_{'mid' if after_heads else 'pre'}"

    def ablated_output(self, sender: Node) -> Tensor:
        """Return a sender's output in the ablated run: Float[prompt pos d_model]."""
        if sender.component != "head":
            return self.ablated[sender.sender_hook]
        z = self.ablated[f"blocks.{sender.layer}.attn.hook_z"]
        return self.written(sender.layer, sender.head_index, z, self.is_fixed)

    def patch_port(
        self,
        circuit: Circuit,
        current: dict[Node, Tensor],
        layer: int,
        port: Port,
        x: Float[Tensor, "prompt pos head d_head"],
        hook: Any,
    ) -> Float[Tensor, "prompt pos head d_head"]:
        """Compute q, k or v of every head from its own input, or take it from the ablated run, as a hook."""
        block = self.bridge.blocks[layer]
        w, b = getattr(block.attn, f"W_{port.upper()}"), getattr(block.attn, f"b_{port.upper()}", None)
        out = self.ablated[f"blocks.{layer}.attn.hook_{port}"].clone()
        for head in range(x.shape[2]):
            node = Node(layer, "head", head, port)
            if circuit.direct[circuit.graph.receiver_index[node]]:
                read = self.norm(block, "ln1", self.receive(circuit, current, node)) + self.late_positions(port)
                out[:, :, head] = read @ w[head] + (0 if b is None else b[head])
        return out

    def late_positions(self, port: Port) -> Float[Tensor, "pos d_model"] | float:
        """Return the positions that a Shortformer adds to the normed inputs of q and k, which no circuit ablates."""
        if port == "v" or self.bridge.cfg.positional_embedding_type != SHORTFORMER:
            return 0.0
        return self.bridge.pos_embed.W_pos[: self.dataset.clean.shape[1]]

    def patch_mlp(
        self,
        circuit: Circuit,
        current: dict[Node, Tensor],
        layer: int,
        x: Float[Tensor, "prompt pos d_model"],
        hook: Any,
    ) -> Float[Tensor, "prompt pos d_model"]:
        """Compute the normed input of an MLP from its own edges, as a hook."""
        block, read = self.bridge.blocks[layer], self.receive(circuit, current, Node(layer, "mlp"))
        # Parallel blocks may have one norm for their heads and their MLP.
        return self.norm(block, "ln1" if getattr(block, "ln2", None) is None else "ln2", read)

    def norm(
        self, block: Any, name: str, x: Float[Tensor, "prompt pos d_model"]
    ) -> Float[Tensor, "prompt pos d_model"]:
        """Apply the block's norm of that name without its hooks; return the input if the block has none."""
        norm = getattr(block, name, None)
        return x if norm is None else norm.original_component(x)
