"""Hold a model's weights in the form that the engine computes with, and store them in files of that form."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from acdc.engine.linear import Linear
from acdc.errors import InputError, reading
from acdc.files import whole, write_text
from acdc.models.architecture import Architecture

TENSORS, ARCHITECTURE = "engine.safetensors", "architecture.json"
"""The files in a model's folder that ``Weights.save`` writes."""


def rotary_tables(
    architecture: Architecture,
) -> tuple[Float[Tensor, "1 n_ctx rotary_dim"], Float[Tensor, "1 n_ctx rotary_dim"]]:
    """Return the cosine and sine of every position's rotation (Su et al. 2021), in the architecture's pairs."""
    dim, base = architecture.rotary_dim, architecture.rotary_base
    assert dim is not None and base is not None  # rotary architectures have both
    frequency = 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.outer(torch.arange(architecture.n_ctx, dtype=torch.float32), frequency)
    angle = angle.repeat_interleave(2, -1) if architecture.rotary_adjacent else torch.cat([angle, angle], -1)
    return angle.cos()[None], angle.sin()[None]


@dataclass
class Block:
    """Hold the weights of one layer.

    Ports are the q heads, then k, then v, in the order of ``Graph.receivers``. The weights of a norm are None if there
    is no norm or they are ones. ``qk_norm_w`` are the weights of the norms of q and k; ``ln1_post_w`` and
    ``ln2_post_w`` those of the norms after heads and MLP. A bias of None is zero. ``w_gate`` is None in ungated MLPs,
    and an attention-only layer has no weights of an MLP. ``black_box`` is the model's own module, for an MLP of any
    other form.
    """

    ln1_w: Float[Tensor, "d_model"] | None
    ln1_b: Float[Tensor, "d_model"] | None
    w_port: Float[Tensor, "port d_model d_head"]
    b_port: Float[Tensor, "port d_head"]
    w_o: Float[Tensor, "head d_head d_model"]
    b_o: Float[Tensor, "d_model"]
    ln2_w: Float[Tensor, "d_model"] | None = None
    ln2_b: Float[Tensor, "d_model"] | None = None
    w_gate: Float[Tensor, "d_model d_mlp"] | None = None
    w_in: Float[Tensor, "d_model d_mlp"] | None = None
    b_in: Float[Tensor, "d_mlp"] | None = None
    w_out: Float[Tensor, "d_mlp d_model"] | None = None
    b_out: Float[Tensor, "d_model"] | None = None
    b_gate: Float[Tensor, "d_mlp"] | None = None
    qk_norm_w: Float[Tensor, "qk_port d_head"] | None = None
    ln1_post_w: Float[Tensor, "d_model"] | None = None
    ln2_post_w: Float[Tensor, "d_model"] | None = None
    black_box: torch.nn.Module | None = None

    @cached_property
    def ports(self) -> list[Linear]:
        """Return the projection of each port."""
        return [Linear(w, b) for w, b in zip(self.w_port, self.b_port, strict=True)]

    @cached_property
    def ports_after_scale(self) -> list[Linear]:
        """Return the projection of each port without its bias, with the weight of the norm before it.

        If ``Architecture.scales_after``, the numbers of a head are divided by the norm's scale, not those of the whole
        residual stream.
        """
        return [Linear(w) for w in self.w_after_scale]

    @cached_property
    def w_after_scale(self) -> Float[Tensor, "port d_model d_head"]:
        """Return the weights of ``ports_after_scale``: Float[port d_model d_head]."""
        return self.w_port if self.ln1_w is None else self.ln1_w[:, None] * self.w_port

    @cached_property
    def all_ports(self) -> Linear:
        """Return the projections of all ports side by side."""
        return Linear(self.w_port.transpose(0, 1).flatten(1), self.b_port.flatten())

    @cached_property
    def all_outputs(self) -> Linear:
        """Return the projection of all heads together back to the residual stream, with the bias that they share."""
        return Linear(self.w_o.flatten(0, 1), self.b_o)

    @cached_property
    def outputs(self) -> list[Linear]:
        """Return each head's projection back to the residual stream, without the bias that all heads share.

        The weight of a norm after the heads is multiplied in; the norm's scale is not, see ``runs.scale_after``.
        """
        return [Linear(w) for w in self.w_written]

    @cached_property
    def w_written(self) -> Float[Tensor, "head d_head d_model"]:
        """Return the weights of ``outputs``: Float[head d_head d_model]."""
        return self.w_o if self.ln1_post_w is None else self.w_o * self.ln1_post_w

    @cached_property
    def gate(self) -> Linear:
        """Return the MLP's gate projection."""
        assert self.w_gate is not None  # only called for gated MLPs
        return Linear(self.w_gate, self.b_gate)

    @cached_property
    def up(self) -> Linear:
        """Return the MLP's projection to its hidden layer."""
        assert self.w_in is not None  # not called for attention-only layers
        return Linear(self.w_in, self.b_in)

    @cached_property
    def down(self) -> Linear:
        """Return the MLP's projection back to the residual stream."""
        assert self.w_out is not None  # not called for attention-only layers
        return Linear(self.w_out, self.b_out)


@dataclass
class Weights:
    """Hold a model's weights.

    ``pos_embed`` is None if the model adds no position embeddings. ``rotary_cos`` and ``rotary_sin`` are None if
    nothing is rotated. ``slopes`` are those of ALiBi, by which a head's attention scores fall with distance; None
    without ALiBi.
    """

    architecture: Architecture
    embed: Float[Tensor, "d_vocab d_model"]
    pos_embed: Float[Tensor, "n_ctx d_model"] | None
    blocks: list[Block]
    ln_final_w: Float[Tensor, "d_model"] | None
    ln_final_b: Float[Tensor, "d_model"] | None
    unembed: Float[Tensor, "d_model d_vocab_out"]
    b_unembed: Float[Tensor, "d_vocab_out"] | None
    rotary_cos: Float[Tensor, "table n_ctx rotary_dim"] | None = None
    rotary_sin: Float[Tensor, "table n_ctx rotary_dim"] | None = None
    slopes: Float[Tensor, "head"] | None = None

    @cached_property
    def readout(self) -> Linear:
        """Return the unembedding."""
        return Linear(self.unembed, self.b_unembed)

    def position(self, pos: Int[Tensor, "row"]) -> Float[Tensor, "row d_model"]:
        """Return the position embeddings at some positions."""
        assert self.pos_embed is not None  # not called for rotary models
        return self.pos_embed[pos]

    def rotation(
        self, table: int, pos: Int[Tensor, "row"]
    ) -> tuple[Float[Tensor, "row dim"], Float[Tensor, "row dim"]]:
        """Return the cosine and sine of the rotations at some positions."""
        assert self.rotary_cos is not None and self.rotary_sin is not None  # only called for rotary models
        return self.rotary_cos[table][pos], self.rotary_sin[table][pos]

    def save(self, folder: Path) -> None:
        """Write the weights to ``engine.safetensors`` and ``architecture.json`` in a folder."""
        tensors: dict[str, Tensor] = {}
        stored = set()
        for name, tensor in self.named():
            own = tensor.detach().contiguous()
            # The format keeps no tensor twice: a norm that heads and MLP share is copied, and so are tied embeddings.
            tensors[name] = own.clone() if own.untyped_storage().data_ptr() in stored else own
            stored.add(tensors[name].untyped_storage().data_ptr())
        with whole(folder / TENSORS) as partial:
            save_file(tensors, partial)
        text = json.dumps(asdict(self.architecture), indent=1, sort_keys=True) + "\n"
        write_text(text, folder / ARCHITECTURE)

    @classmethod
    def load(cls, folder: Path) -> Weights:
        """Read the weights that ``save`` wrote; tensors are mapped from the file, so that processes share one copy.

        Black boxes are left out: ``acdc.models.black_box.load_weights`` reads them too.

        Raises:
            InputError: the folder has no such files, they are damaged, or another version wrote them.
        """
        if not (folder / ARCHITECTURE).exists() or not (folder / TENSORS).exists():
            raise InputError(f"model folder {folder} has no {TENSORS}: make it by `acdc model`, which converts models")
        with reading(folder / ARCHITECTURE, "make the model again by `acdc model`"):
            described = json.loads((folder / ARCHITECTURE).read_text(encoding="utf-8"))
        try:
            architecture = Architecture.from_json(described)
        except (TypeError, AttributeError) as error:
            raise InputError(f"model folder {folder} is another version's ({error}): make it again") from error
        with reading(folder / TENSORS, "make the model again by `acdc model`"):
            tensors = load_file(folder / TENSORS)

        def record(kind: type[Block] | type[Weights], prefix: str) -> dict[str, Any]:
            if lacking := [name for name in REQUIRED[kind] if prefix + name not in tensors]:
                raise InputError(f"{folder / TENSORS} lacks {prefix}{lacking[0]}: make the model again by `acdc model`")
            return {field.name: tensors.get(prefix + field.name) for field in fields(kind)}

        blocks = [Block(**record(Block, f"blocks.{i}.")) for i in range(architecture.n_layers)]
        return cls(**{**record(cls, ""), "architecture": architecture, "blocks": blocks})

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor by its name: a field of this object, or of a block after ``blocks.LAYER.``."""
        records: list[tuple[str, Weights | Block]] = [
            ("", self),
            *((f"blocks.{i}.", block) for i, block in enumerate(self.blocks)),
        ]
        for prefix, record in records:
            values = ((field.name, getattr(record, field.name)) for field in fields(record))
            yield from ((prefix + name, value) for name, value in values if isinstance(value, Tensor))

    def per_query_head(self) -> Weights:
        """Return the weights with a key and a value head for each query head, by repeating those that several share."""
        a = self.architecture
        group = a.n_heads // a.n_kv_heads
        port = torch.arange(a.n_heads + 2 * a.n_kv_heads)
        q, k, v = port.split([a.n_heads, a.n_kv_heads, a.n_kv_heads])
        own = torch.cat([q, k.repeat_interleave(group), v.repeat_interleave(group)]).to(self.embed.device)

        def repeated(block: Block) -> Block:
            norm = None if block.qk_norm_w is None else block.qk_norm_w[own[: 2 * a.n_heads]]
            return replace(block, w_port=block.w_port[own], b_port=block.b_port[own], qk_norm_w=norm)

        return replace(
            self,
            architecture=a.per_query_head(),
            blocks=[repeated(block) for block in self.blocks],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Weights:
        """Return a copy with every tensor on ``device`` in ``dtype``."""

        def move(record: Block | Weights) -> dict[str, Any]:
            values = {field.name: getattr(record, field.name) for field in fields(record)}
            moved = {k: v.to(device, dtype) if isinstance(v, Tensor) else v for k, v in values.items()}
            if values.get("black_box") is not None:  # a module is moved in place
                moved["black_box"] = copy.deepcopy(values["black_box"]).to(device, dtype)
            return moved

        return Weights(**{**move(self), "blocks": [Block(**move(block)) for block in self.blocks]})


REQUIRED = {Block: ("w_port", "b_port", "w_o", "b_o"), Weights: ("embed", "unembed")}
"""Weights that every model has."""
