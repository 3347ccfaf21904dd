"""Build a model whose heads are written by hand: each does what one of the names of Wang et al. 2022 says.

Prompts are "X Y Z END": X and Y are names, Z is one of them, and the answer is the other. A duplicate token head at Z
writes where Z stood first. An S-inhibition head brings that to END, where it keeps the queries of two movers from that
position, so that they attend to the other name. One writes it, the other lowers it. Beside them is an induction pair.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.engine.weights import Block, Weights
from acdc.models.architecture import Architecture

N_VOCAB, N_CTX, D_HEAD, SHARP = 24, 41, 72, 40.0
END = N_VOCAB - 1
SIZES = {"token": N_VOCAB, "before": N_VOCAB, "pos": N_CTX, "first": N_CTX, "avoid": N_CTX, "out": N_VOCAB}
"""The dimensions of the residual stream's parts: the token, the token before, the position, the first position of the
same token, the position to avoid, and the model's answer."""
D_MODEL = sum(SIZES.values())
NAMES = {
    "a0.h0": "previous token",
    "a0.h1": "duplicate token",
    "a1.h0": "induction",
    "a1.h1": "S-inhibition",
    "a2.h0": "name mover",
    "a2.h1": "negative name mover",
}


def part(name: str) -> slice:
    start = sum(size for key, size in SIZES.items() if list(SIZES).index(key) < list(SIZES).index(name))
    return slice(start, start + SIZES[name])


def reading(*parts: tuple[str, Tensor | float]) -> Tensor:
    """Return a projection that lays scaled parts of the residual stream side by side: Float[d_model d_head]."""
    w, column = torch.zeros(D_MODEL, D_HEAD), 0
    for name, by in parts:
        matrix = by if isinstance(by, Tensor) else by * torch.eye(SIZES[name])
        w[part(name), column : column + matrix.shape[1]] = matrix
        column += matrix.shape[1]
    return w


def writing(name: str, by: float = 1.0) -> Tensor:
    w = torch.zeros(D_HEAD, D_MODEL)
    w[: SIZES[name], part(name)] = by * torch.eye(SIZES[name])
    return w


def layer(*heads: tuple[Tensor, Tensor, Tensor, Tensor]) -> Block:
    """Return a layer of these heads, each given by its q, k, v and output, and of one head that does nothing."""
    nothing = (*[torch.zeros(D_MODEL, D_HEAD)] * 3, torch.zeros(D_HEAD, D_MODEL))
    q, k, v, o = zip(*heads, nothing, strict=True)
    ports = torch.stack([*q, *k, *v])
    return Block(None, None, ports, torch.zeros(len(ports), D_HEAD), torch.stack(o), torch.zeros(D_MODEL))


def sharp(value: float = 1.0) -> float:
    return SHARP * D_HEAD**0.5 * value


def at_end(positions: dict[int, float]) -> Tensor:
    """Return what the query of the token END makes of positions: Float[token pos]."""
    matrix = torch.zeros(N_VOCAB, N_CTX)
    for position, by in positions.items():
        matrix[END, position] = sharp(by)
    return matrix


def planted_weights(inhibited: bool = True) -> Weights:
    """Return the model's weights. Its movers always attend to the first name where nothing inhibits them."""
    next_one = torch.eye(N_CTX).roll(1, 1)
    before = reading(("pos", sharp())), reading(("pos", next_one)), reading(("token", 1.0)), writing("before")
    same = (
        reading(("token", sharp()), ("pos", -sharp())),
        reading(("token", 1.0), ("pos", 1.0)),
        reading(("pos", 1.0)),
        writing("first"),
    )
    follow = reading(("token", sharp())), reading(("before", 1.0)), reading(("token", 1.0)), writing("out", 0.1)
    bring = reading(("token", at_end({2: 1.0}))), reading(("pos", 1.0)), reading(("first", 1.0)), writing("avoid")
    query = reading(("token", at_end({0: 1.0, 1: 1.0} if inhibited else {0: 1.0})))
    if inhibited:
        query[part("avoid"), :N_CTX] = -sharp(2.0) * torch.eye(N_CTX)
    move = query, reading(("pos", 1.0)), reading(("token", 1.0))
    unembed = torch.zeros(D_MODEL, N_VOCAB)
    unembed[part("out")] = torch.eye(N_VOCAB)
    embed, pos_embed = torch.zeros(N_VOCAB, D_MODEL), torch.zeros(N_CTX, D_MODEL)
    embed[:, part("token")], pos_embed[:, part("pos")] = torch.eye(N_VOCAB), torch.eye(N_CTX)
    blocks = [layer(before, same), layer(follow, bring), layer((*move, writing("out")), (*move, writing("out", -0.5)))]
    shape = {"n_layers": 3, "d_model": D_MODEL, "n_heads": 3, "n_kv_heads": 3, "d_head": D_HEAD, "d_mlp": 0}
    kind = {"norm": "none", "eps": 0.0, "positions": "learned", "activation": None, "gated": False}
    architecture = Architecture(**shape, d_vocab=N_VOCAB, n_ctx=N_CTX, **kind)
    return Weights(architecture, embed, pos_embed, blocks, None, None, unembed, None)


def planted_prompts(n: int = 12, first_is_answer: bool | None = None) -> Dataset:
    """Return prompts of which half name the answer first; or all, or none."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for i in range(n):
        x, y, *others = torch.randperm(END, generator=generator)[:5].tolist()
        answer_first = i % 2 == 0 if first_is_answer is None else first_is_answer
        rows.append(([x, y, y if answer_first else x, END], [*others, END], x if answer_first else y))
    clean, corrupted = (torch.tensor([row[side] for row in rows]) for side in (0, 1))
    correct = torch.tensor([row[2] for row in rows])
    scored = torch.zeros_like(clean, dtype=torch.bool)
    scored[:, -1] = True
    io = (clean == correct[:, None]).int().argmax(1)
    labels = {name: at[:, None].expand(-1, 2) for name, at in {"IO": io, "S1": 1 - io, "S2": io * 0 + 2}.items()}
    return Dataset(clean, corrupted, scored, {"correct": correct, "incorrect": clean[:, 2]}, {}, labels=labels)


def planted_engine(inhibited: bool = True, first_is_answer: bool | None = None) -> Engine:
    """Return an engine of ``planted_weights`` on ``planted_prompts``."""
    return Engine(planted_weights(inhibited), planted_prompts(first_is_answer=first_is_answer), ablation="corrupted")
