"""Build a small model whose circuit is known by construction.

It continues a repeated token: in "... a b ... a" it finds the token that followed ``a`` the first time, ``b``, and
answers with its successor in the vocabulary. The residual stream has one subspace for each kind of information.
The weights that matter are written by hand:

    a0.h1  (previous token)  reads positions, moves each token's identity one place on, to ``previous``
    a1.h2  (induction)       reads ``token`` as query and ``previous`` as key, copies ``token`` to ``copied``
    m1     (successor)       reads ``copied``, writes the next token of the vocabulary to ``answer``

All other heads and the other MLP are distractors: random weights that read everything, write to a subspace
that nothing reads, and leak a little noise into all the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from acdc.graph import Circuit, Edge, Graph, Node, Port

N_TOKENS, N_POS, N_HEADS, N_JUNK = 12, 8, 4, 16
NOISE = 0.02
PREVIOUS_HEAD, INDUCTION_HEAD, SUCCESSOR_MLP = Node(0, "head", 1), Node(1, "head", 2), Node(1, "mlp")
SHARPNESS = 10.0
"""The scale of attention scores and of the answer's logit, at which a softmax is nearly one-hot."""

SIZES = {"token": N_TOKENS, "position": N_POS, "previous": N_TOKENS, "copied": N_TOKENS, "answer": N_TOKENS}
STARTS = torch.tensor([0, *SIZES.values()]).cumsum(0).tolist()
SUBSPACE = {name: slice(start, start + size) for (name, size), start in zip(SIZES.items(), STARTS, strict=False)}
JUNK = slice(STARTS[-1], STARTS[-1] + N_JUNK)

CONFIG: dict[str, Any] = {
    "n_layers": 2,
    "n_heads": N_HEADS,
    "d_model": JUNK.stop,
    "d_head": N_TOKENS,
    "d_mlp": N_TOKENS,
    "n_ctx": N_POS,
    "d_vocab": N_TOKENS,
    "d_vocab_out": N_TOKENS,
    "act_fn": "relu",
    "normalization_type": None,
    "attention_dir": "causal",
    "attn_only": False,
    "gated_mlp": False,
    "positional_embedding_type": "standard",
    "seed": 0,
}


def build(folder: Path) -> None:
    """Write the model to ``folder``."""
    from acdc.models.bridge import boot_native, save_native  # the task imports this module, and no TransformerLens

    bridge = boot_native(CONFIG)
    generator = torch.Generator().manual_seed(CONFIG["seed"])
    tensors = {name: torch.zeros_like(t) for name, t in bridge.state_dict().items()}
    for name, tensor in tensors.items():
        if "blocks" in name and "weight" in name:
            tensor.normal_(generator=generator).mul_(tensor.shape[1] ** -0.5)
        if name.endswith((".o.weight", ".out.weight")):
            tensor[: JUNK.start] *= NOISE
    write_embeddings(tensors)
    write_previous_token_head(tensors)
    write_induction_head(tensors)
    write_successor_mlp(tensors)
    bridge.load_state_dict(tensors)
    save_native(bridge, CONFIG, folder)


def known_circuit(graph: Graph) -> Circuit:
    """Return the edges that carry differences between clean and corrupted prompts of the task ``planted``.

    Edges into q and k of the previous-token head are not among them, since positions are the same in both.
    """
    embed, logits = graph.senders[0], graph.receivers[-1]

    def port(head: Node, name: Port) -> Node:
        return Node(head.layer, "head", head.head, name)

    carried = [
        (embed, port(PREVIOUS_HEAD, "v")),
        (embed, port(INDUCTION_HEAD, "q")),
        (PREVIOUS_HEAD, port(INDUCTION_HEAD, "k")),
        (embed, port(INDUCTION_HEAD, "v")),
        (INDUCTION_HEAD, SUCCESSOR_MLP),
        (SUCCESSOR_MLP, logits),
    ]
    direct = [Edge(receiver, receiver, "direct") for _, receiver in carried if receiver.port]
    return Circuit.from_edges(graph, [*(Edge(sender, receiver) for sender, receiver in carried), *direct])


def write_embeddings(tensors: dict[str, torch.Tensor]) -> None:
    """Write the weights that embed tokens and positions in their subspaces, and that read logits from the answer's."""
    tensors["embed.weight"][:, SUBSPACE["token"]] = torch.eye(N_TOKENS)
    tensors["pos_embed.weight"][:, SUBSPACE["position"]] = torch.eye(N_POS)
    tensors["unembed.weight"][:, SUBSPACE["answer"]] = SHARPNESS * torch.eye(N_TOKENS)


def write_head(tensors: dict[str, torch.Tensor], head: Node, reads: dict[str, torch.Tensor], writes: str) -> None:
    """Write the weights of a head: q, k and v as in ``reads``, Float[d_head d_model], and an output to ``writes``."""
    d_head = CONFIG["d_head"]
    rows = slice(head.head_index * d_head, (head.head_index + 1) * d_head)
    for name, weight in reads.items():
        tensors[f"blocks.{head.layer}.attn.{name}.weight"][rows] = weight
    out = tensors[f"blocks.{head.layer}.attn.o.weight"]
    out[:, rows] = 0
    out[SUBSPACE[writes], rows] = torch.eye(d_head)


def reader(subspace: str, shift: int = 0, scale: float = 1.0) -> torch.Tensor:
    """Return weights that read direction i of a subspace into dimension ``i + shift``: Float[d_head d_model]."""
    size = SIZES[subspace]
    weight = torch.zeros(CONFIG["d_head"], CONFIG["d_model"])
    index = torch.arange(size - shift)
    weight[index + shift, SUBSPACE[subspace].start + index] = scale
    return weight


def write_previous_token_head(tensors: dict[str, torch.Tensor]) -> None:
    """Write the weights of the head that copies each token to the next position."""
    reads = {"q": reader("position", scale=SHARPNESS), "k": reader("position", 1, SHARPNESS), "v": reader("token")}
    write_head(tensors, PREVIOUS_HEAD, reads, "previous")


def write_induction_head(tensors: dict[str, torch.Tensor]) -> None:
    """Write the weights of the head that attends to the position after an earlier occurrence of the token."""
    reads = {"q": reader("token", scale=SHARPNESS), "k": reader("previous", scale=SHARPNESS), "v": reader("token")}
    write_head(tensors, INDUCTION_HEAD, reads, "copied")


def write_successor_mlp(tensors: dict[str, torch.Tensor]) -> None:
    """Write the weights of the successor MLP: unit i is active if token i was copied, and writes token i + 1."""
    prefix = f"blocks.{SUCCESSOR_MLP.layer}.mlp"
    tensors[f"{prefix}.in.weight"][:] = reader("copied", scale=2.0)
    tensors[f"{prefix}.in.bias"][:] = -1.0
    tensors[f"{prefix}.out.weight"][:] = 0
    tensors[f"{prefix}.out.weight"][SUBSPACE["answer"]] = torch.eye(N_TOKENS).roll(1, 0)
