"""Run the authors' trainer and write vectors.json. README.md says in which environment.

cd Edge-Pruning && PYTHONPATH=.:src/prune:THIS_REPOSITORY python THIS_REPOSITORY/tests/vectors/edge_pruning/make.py
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from typing import Any

import fpt2_ioi
import l0
import torch
from modeling_fpt2 import FPT2LMHeadModel
from transformers import Seq2SeqTrainingArguments, default_data_collator

from tests import edge_pruning, mib
from tests.vector_files import write_vectors

Slot = tuple[torch.nn.Parameter, str, Any]
real_sample = l0.sample_z_from_u


def made() -> FPT2LMHeadModel:
    """Return the model of tests.mib in the authors' class, in float64."""
    source = mib.model("gpt2")
    source.config._attn_implementation = "eager"
    model = FPT2LMHeadModel(source.config, with_embedding_nodes=True)
    missing, unexpected = model.load_state_dict(source.state_dict(), strict=False)
    assert not unexpected and all(re.search("log_alpha|sparsity_lambda|mask", name) for name in missing)
    return model.double()


def slots(model: FPT2LMHeadModel) -> Iterator[Slot]:
    """Yield every tensor of masks, in the order in which a forward pass draws them, with its place in all of them."""
    inner, n_heads = model.transformer, model.config.n_head
    yield inner.token_write_log_alpha, "nodes", slice(0, 1)
    yield inner.pos_write_log_alpha, "nodes", slice(1, 2)
    for layer, block in enumerate(inner.h):
        sender, receiver = 2 + layer * (n_heads + 1), layer * (3 * n_heads + 1)
        for i, port in enumerate("qkv"):
            first = receiver + i * n_heads
            parameter = getattr(block, f"{port}_read_log_alphas")
            yield parameter, "edges", (slice(None), slice(first, first + n_heads))
        yield block.attn_write_log_alphas, "nodes", slice(sender, sender + n_heads)
        yield block.mlp_read_log_alphas, "edges", (slice(None), receiver + 3 * n_heads)
        yield block.mlp_write_log_alphas, "nodes", slice(sender + n_heads, sender + n_heads + 1)
    yield inner.final_read_log_alphas, "edges", (slice(None), edge_pruning.SHAPE[1] - 1)


class Draws:
    """Give what is drawn to the authors' function of a uniform number, in place of what they drew."""

    def __init__(self, model: FPT2LMHeadModel) -> None:
        self.slots, self.n = list(slots(model)), 0

    def __call__(self, u: torch.Tensor, log_alpha: torch.Tensor) -> torch.Tensor:
        step, i = divmod(self.n, len(self.slots))
        self.n += 1
        parameter, kind, where = self.slots[i]
        assert parameter is log_alpha
        given = edge_pruning.uniform(step)[kind == "nodes"][where]
        assert given.shape == u.shape
        return real_sample(torch.tensor(given), log_alpha)


def joined(model: FPT2LMHeadModel, values: list[torch.Tensor]) -> dict[str, Any]:
    """Return the values of all tensors of masks as one matrix of edges and one list of nodes."""
    whole = {"edges": torch.zeros(edge_pruning.SHAPE).double(), "nodes": torch.zeros(edge_pruning.SHAPE[0]).double()}
    for (_, kind, where), value in zip(slots(model), values, strict=True):
        whole[kind][where] = value.detach().reshape(whole[kind][where].shape)
    return {kind: value.tolist() for kind, value in whole.items()}


class Recorder(fpt2_ioi.FPT2InfoTrainer):
    """Train as the authors do, and keep what each step's loss is made of."""

    rows: list[dict[str, float]]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **how: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **how)
        names = {"metric": "kl_loss", "sparsity": "model_edge_sparsity", "target": "target_edge_sparsity"}
        row = {name: outputs[theirs].item() for name, theirs in names.items()} | {"loss": loss.item()}
        lambdas = (model.transformer.sparsity_lambda_edges_1, model.transformer.sparsity_lambda_edges_2)
        self.rows.append(row | {"multipliers": [value.item() for value in lambdas]})
        return (loss, outputs) if return_outputs else loss


def trained(run: edge_pruning.Run) -> Recorder:
    """Train as src/prune/fpt2_ioi.py does."""
    model, whole = made(), made()
    whole.set_edge_threshold_for_deterministic(0.5)  # without a threshold its masks are 6e-6 less than 1
    whole.set_node_threshold_for_deterministic(0.5)
    fpt2_ioi.freeze_all_except_pruning_params(model)
    for value in (model.transformer.sparsity_lambda_nodes_1, model.transformer.sparsity_lambda_nodes_2):
        value.requires_grad = False  # they are not trained, but would count in the norm of the gradient
    first = dict(zip(("edges", "nodes"), edge_pruning.start(run), strict=True))
    for parameter, kind, where in slots(model):
        parameter.data = torch.tensor(first[kind][where]).reshape(parameter.shape)
    l0.sample_z_from_u = Draws(model)
    optimizers = fpt2_ioi.get_optimizers(
        model,
        edges_lr=run.learning_rate,
        layers_lr=run.learning_rate,
        reg_edges_lr=run.multiplier_learning_rate,
        reg_layers_lr=run.multiplier_learning_rate,
        num_training_steps=run.steps,
        warmup_steps=run.warmup_steps,
        disable_node_loss=True,
    )
    given = mib.prompts()
    at = {"start_idxes": torch.tensor(mib.N_POS - 1), "end_idxes": torch.tensor(mib.N_POS)}
    data = [
        {"input_ids": clean, "corr_input_ids": corrupted, "labels": clean, **at}
        for clean, corrupted in zip(given["clean"], given["corrupted"], strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Recorder(
            model=model,
            gpt2_model=whole.eval(),
            data_collator=default_data_collator,
            args=Seq2SeqTrainingArguments(
                folder,
                max_steps=run.steps,
                per_device_train_batch_size=mib.N_PROMPTS,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                remove_unused_columns=False,
                disable_tqdm=True,
            ),
            train_dataset=data,
            optimizers=optimizers,
            target_edge_sparsity=run.sparsity_target,
            num_sparsity_warmup_steps=run.target_steps,
        )
        trainer.rows = []
        trainer.train()
    return trainer


def node_sparsity(model: FPT2LMHeadModel) -> float:
    """Return the authors' ``get_node_sparsity``, with the position embeddings that it leaves out."""
    return 1 - torch.cat([mask.reshape(-1) for group in model.get_node_masks() for mask in group]).mean().item()


def threshold(model: FPT2LMHeadModel, of: str) -> float:
    """Return the threshold that src/eval/ioi.py searches for."""
    choose = getattr(model, f"set_{of}_threshold_for_deterministic")

    def sparsity() -> float:
        return model.get_edge_sparsity().item() if of == "edge" else node_sparsity(model)

    aim, low, high = sparsity(), 0.0, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        choose(middle)
        low, high = (low, middle) if sparsity() > aim else (middle, high)
    return middle


def results(run: edge_pruning.Run) -> dict[str, Any]:
    """Return all that is compared of one run."""
    trainer = trained(run)
    model = trainer.model.eval()
    scores = [parameter for parameter, *_ in slots(model)]
    found = {"steps": trainer.rows[:: run.every], "scores": joined(model, [score.clone() for score in scores])}
    inner, lambdas = model.transformer, ("sparsity_lambda_edges_1", "sparsity_lambda_edges_2")
    found["multipliers"] = [getattr(inner, name).item() for name in lambdas]
    for block in inner.h:  # masks of no edge would take part otherwise
        for port in "qkv":
            getattr(block, f"{port}_read_log_alphas").data[block.attn_writer_offset :] = 100
        block.mlp_read_log_alphas.data[block.mlp_writer_offset :] = 100
    found["masks"] = joined(model, [l0.deterministic_z_from_log_alpha(score.detach()) for score in scores])
    found["sparsity"] = model.get_edge_sparsity().item()
    found["thresholds"] = {f"{of}s": threshold(model, of) for of in ("edge", "node")}
    names = {"tok_embeds": "tok_embed", "pos_embeds": "pos_embed", "resid_post": "logits"}  # our names by theirs
    edges = [[names.get(name, name) for name in edge] for edge in model.get_edges()]
    found["circuit"] = [" -> ".join(edge) for edge in edges]
    return found


if __name__ == "__main__":
    write_vectors("edge_pruning", {name: results(run) for name, run in edge_pruning.RUNS.items()})
