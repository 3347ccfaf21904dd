"""Compute changes of activations by matrix products in lower precision, with an error proportional to the change.

A GPU multiplies in TF32, and many CPUs in bfloat16, several times as fast as in float32. Both round the factors to 10
or 7 binary digits and sum in float32. If activations were multiplied, their small changes would be lost in that
rounding. So only changes are multiplied: ``w @ new = w @ old + w @ (new - old)``, where ``w @ old`` belongs to the
current circuit, in full precision. Norms, softmax and activation functions are computed in full precision on both
sides.

Activations that are committed are computed by the same formulas in full precision (``acdc.engine.mixed``).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from acdc.engine import layers
from acdc.engine.batched import Batches, LayerPatch
from acdc.engine.linear import multiply_in_full
from acdc.engine.patched import Scratch
from acdc.engine.route import HeadsStep, MlpStep, PortsStep, Read
from acdc.engine.runs import Rows, State, place_many, project_unplaced
from acdc.engine.weights import Block, Weights
from acdc.models.architecture import Architecture


class Full:
    """Multiply in the precision of the numbers."""

    def weight(self, w: Tensor) -> Tensor:
        """Return a weight in the precision to multiply in."""
        return w

    def __call__(self, x: Float[Tensor, "... row d_in"], w: Float[Tensor, "... d_in d_out"]) -> Tensor:
        """Multiply by a weight that ``weight`` has returned."""
        return torch.matmul(x, w)


class Coarse(Full):
    """Multiply in TF32 on a GPU and in bfloat16 elsewhere, with sums in float32.

    Attributes:
        rounded: weights with their rounded copies, by the weight's id; keeping the weight keeps its id unique.
    """

    def __init__(self) -> None:
        self.rounded: dict[int, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def unit(device: torch.device) -> float:
        """Return the largest relative rounding error of a number that is multiplied."""
        return 2**-11 if device.type == "cuda" else 2**-8

    def weight(self, w: Tensor) -> Tensor:
        if w.device.type == "cuda":
            return w
        if id(w) not in self.rounded:
            self.rounded[id(w)] = w, w.bfloat16()
        return self.rounded[id(w)][1]

    def __call__(self, x: Float[Tensor, "... row d_in"], w: Float[Tensor, "... d_in d_out"]) -> Tensor:
        if w.device.type != "cuda":
            return torch.matmul(x.bfloat16(), w.bfloat16()).to(x.dtype)
        torch.set_float32_matmul_precision("high")
        try:
            return torch.matmul(x, w)
        finally:
            multiply_in_full()


class ChangePatch(LayerPatch):
    """Propagate changes as ``LayerPatch`` does, with matrix products of changes only.

    Products of the activations in ``state`` are kept there too, and added if they are missing: ``projected``, the
    ports' projections before ``place_many``; ``mlp_up`` and ``mlp_gate``, an MLP's projections; and ``mlp_down``, an
    MLP's result before a norm.

    Args:
        multiply: the precision of products, ``Full`` or ``Coarse``.
        is_kept: whether ``commit`` may be called; then the new products are stored too.
    """

    def __init__(
        self,
        weights: Weights,
        scratch: Scratch,
        batches: Batches,
        multiply: Full,
        is_kept: bool,
        rows: Rows,
        state: State,
        n_states: int,
    ) -> None:
        super().__init__(weights, scratch, batches, rows, state, n_states)
        self.multiply, self.is_kept = multiply, is_kept

    def sums(self, read: Read) -> Float[Tensor, "receiver state row d_model"]:
        """Sum the changes of receivers' inputs: Float[receiver state row d_model]."""
        terms = self.changes.read_by(read)
        return self.multiply(self.batches.weights[read], terms.flatten(1)).unflatten(1, terms.shape[1:])

    def compute_ports(self, layer: int, step: PortsStep, x: Float[Tensor, "port state row d_model"]) -> None:
        """Compute q, k and v of some ports from their new inputs."""
        batch, before = self.batches.ports[step], self.projected(layer, step)
        weights = self.weights_of_ports(self.weights.blocks[layer])[batch.chosen.where]
        change = self.normed(layer, x) - self.normed(layer, self.state.stack("port_in", layer, step.ports))[:, None]
        new = self.multiply(change.flatten(1, 2), weights).unflatten(1, x.shape[1:3]).add_(before[:, None])
        if self.is_kept:
            self.stacks["projected", layer, step.ports] = new
            self.stacks["port_in", layer, step.ports] = x
        value = place_many(self.weights, layer, batch.placed.where, new, self.rows.pos_at(step.all_live))
        self.stacks["port", layer, step.ports] = self.at_all_rows(layer, step, value)

    def projected(self, layer: int, step: PortsStep) -> Float[Tensor, "port row d_head"]:
        """Return the projections of some ports in ``state``."""
        batch = self.batches.ports[step]
        if any(("projected", layer, port) not in self.state for port in step.ports):
            x, pos = self.state.stack("port_in", layer, step.ports)[:, None], self.rows.pos_at(step.all_live)
            made = project_unplaced(self.weights, layer, batch.chosen.where, batch.placed.where, x, pos)
            self.state.put("projected", layer, step.ports, made[:, 0])
        return self.state.stack("projected", layer, step.ports)

    def normed(self, layer: int, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Apply the norm before the ports; without its weight, if the projection's weight includes it."""
        architecture, block = self.weights.architecture, self.weights.blocks[layer]
        if architecture.scales_after:
            return x * layers.rms_scale(architecture, x)
        return layers.norm(architecture, x, block.ln1_w, block.ln1_b) if architecture.norm_before else x

    def weights_of_ports(self, block: Block) -> Tensor:
        """Return the weights that multiply the result of ``normed``."""
        is_divided = self.weights.architecture.scales_after
        return self.multiply.weight(block.w_after_scale if is_divided else block.w_port)

    def write(self, layer: int, step: HeadsStep, change: Float[Tensor, "head state row d_head"]) -> None:
        """Store the changes of heads' outputs, given the changes of their z."""
        outputs = self.batches.heads[step].sending(self.multiply.weight(self.weights.blocks[layer].w_written))
        written = self.multiply(change.flatten(1, 2), outputs).unflatten(1, change.shape[1:3])
        self.changes.add(step.slot, len(step.sending), lambda out: out.copy_(written))

    def compute_mlp(self, layer: int, step: MlpStep, x: Float[Tensor, "state row d_model"]) -> None:
        """Compute an MLP from its new input, and store the change of its output."""
        architecture, block = self.weights.architecture, self.weights.blocks[layer]
        if block.black_box is not None:
            super().compute_mlp(layer, step, x)
            return
        before, old = self.mlp_products(layer), self.state["mlp_out", layer, 0]
        change = layers.norm_before_mlp(architecture, block, x)
        change = change - layers.norm_before_mlp(architecture, block, self.state["mlp_in", layer, 0])
        new = {kind: before[kind] + self.product(change, w) for kind, w in projections(block).items()}
        hidden = activated(architecture, new) - activated(architecture, before)
        change = self.product(hidden, block.w_out)
        if architecture.norm_after:
            new["mlp_down"] = before["mlp_down"] + change
            change = layers.norm(architecture, new["mlp_down"], block.ln2_post_w, None) - old
        if self.is_kept:
            new |= {"mlp_in": x, "mlp_out": old + change}
            self.new.update({(kind, layer, 0): value for kind, value in new.items()})
        self.changes.add(step.slot, 1, lambda out: out[0].copy_(change))

    def product(self, x: Float[Tensor, "... row d_in"], w: Float[Tensor, "d_in d_out"] | None) -> Tensor:
        """Multiply by one weight."""
        assert w is not None  # only called for MLPs that have this weight
        return self.multiply(x, self.multiply.weight(w))

    def mlp_products(self, layer: int) -> dict[str, Float[Tensor, "row d"]]:
        """Return the projections inside an MLP in ``state``, by kind."""
        architecture, block, state = self.weights.architecture, self.weights.blocks[layer], self.state
        if ("mlp_up", layer, 0) not in state:
            x = layers.norm_before_mlp(architecture, block, state["mlp_in", layer, 0])
            made = {"mlp_up": block.up(x)} | ({"mlp_gate": block.gate(x)} if architecture.gated else {})
            if architecture.norm_after:
                made["mlp_down"] = block.down(activated(architecture, made))
            state.update({(kind, layer, 0): value for kind, value in made.items()})
        return {kind: state[kind, layer, 0] for kind in OF_MLP if (kind, layer, 0) in state}


OF_MLP = ("mlp_up", "mlp_gate", "mlp_down")


def projections(block: Block) -> dict[str, Tensor | None]:
    """Return the weights that project an MLP's input, by the kind of their products."""
    return {"mlp_up": block.w_in} | ({} if block.w_gate is None else {"mlp_gate": block.w_gate})


def activated(architecture: Architecture, products: Mapping[str, Tensor]) -> Float[Tensor, "... d_mlp"]:
    """Compute an MLP's hidden layer from its projections: Float[... d_mlp]."""
    return layers.activated(architecture, products["mlp_up"], products.get("mlp_gate"))
