"""Run the authors' code on the models of tests/mib.py and write vectors.json. README.md says in which environment.

    PYTHONPATH=EAP-IG/src:MIB-circuit-track:GIM:. python tests/vectors/mib/make.py
    PYTHONPATH=RelP/TransformerLens:EAP-IG/src:MIB-circuit-track:GIM:. python tests/vectors/mib/make.py

The path has the folders that hold the packages eap, MIB_circuit_track and gim, and this repository. RelP is a version
of TransformerLens: with it in the path, its scores are added to the file.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import eap.attribute
import eap.evaluate
import eap.utils
import gim
import MIB_circuit_track.evaluation as evaluation
import torch
from eap.graph import Graph
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights, convert_llama_weights

from tests import mib
from tests.vector_files import read_vectors, write_vectors

IS_RELP = hasattr(HookedTransformerConfig, "LRP_rules")
SETTINGS = {"EAP": {}, "EAP-IG-inputs": {"ig_steps": 5}, "EAP-IG-activations": {"ig_steps": 5}, "clean-corrupted": {}}
INTERVENTIONS = ("patching", "zero", "mean-positional")
evaluate_graph = eap.evaluate.evaluate_graph


def tokens(model: Any, inputs: list[torch.Tensor], max_length: int | None = None) -> tuple[Any, ...]:
    """Stand in for ``tokenize_plus``: prompts are tokens already, all of one length."""
    prompts = torch.stack(inputs)
    return prompts, torch.ones_like(prompts), torch.full((len(prompts),), prompts.shape[1]), prompts.shape[1]


def logit_difference(logits: Any, clean: Any, lengths: Any, answers: Any, mean: bool = True, loss: bool = True) -> Any:
    right, wrong = logits[:, -1].gather(1, answers).T
    value = wrong - right if loss else right - wrong
    return value.mean() if mean else value


def hooked(name: str) -> HookedTransformer:
    """Return the model in TransformerLens 2, with the hooks that EAP-IG wants."""
    source, of_gpt2 = mib.model(name), name == "gpt2"
    c = source.config
    d_head = c.hidden_size // c.num_attention_heads
    shape = {
        "n_layers": c.num_hidden_layers, "d_model": c.hidden_size, "n_heads": c.num_attention_heads, "d_head": d_head,
        "n_ctx": 16, "d_vocab": mib.N_VOCABULARY, "device": "cpu", "default_prepend_bos": False,
    }  # fmt: skip
    if of_gpt2:
        own = {
            "d_mlp": 4 * c.hidden_size,
            "act_fn": "gelu_new",
            "normalization_type": "LN",
            "eps": c.layer_norm_epsilon,
        }
    else:
        own = {
            "d_mlp": c.intermediate_size, "act_fn": "silu", "normalization_type": "RMS", "eps": c.rms_norm_eps,
            "n_key_value_heads": c.num_key_value_heads, "positional_embedding_type": "rotary", "rotary_dim": d_head,
            "rotary_base": int(c.rope_theta), "rotary_adjacent_pairs": False, "gated_mlp": True, "final_rms": True,
        }  # fmt: skip
    config = HookedTransformerConfig(**shape, **own, **({"use_lrp": True} if IS_RELP else {}))
    weights = (convert_gpt2_weights if of_gpt2 else convert_llama_weights)(source, config)
    made = HookedTransformer(config)
    unprocessed = {"fold_ln": False, "center_writing_weights": False, "center_unembed": False}
    made.load_and_process_state_dict(weights, **unprocessed, fold_value_biases=False)
    with torch.no_grad():
        clean = mib.prompts()["clean"]
        torch.testing.assert_close(made(clean), source(clean).logits, atol=1e-5, rtol=0)
    made.set_use_split_qkv_input(True)
    made.set_use_attn_result(True)
    made.set_use_hook_mlp_in(True)
    if not of_gpt2:
        made.set_ungroup_grouped_query_attention(True)
    return made


def areas(model: Any, graph: Graph, loader: list[Any], absolute: bool) -> dict[str, Any]:
    measure = partial(logit_difference, mean=False, loss=False)
    found = evaluation.evaluate_area_under_curve(model, graph, loader, measure, quiet=True, absolute=absolute)
    counts, cpr, cmd, _, faithfulness = found
    return {"edges_in_circuit": counts, "cpr": cpr, "cmd": cmd, "faithfulness": faithfulness}


def scored(model: Any, loader: list[Any], method: str, **settings: Any) -> Graph:
    graph = Graph.from_model(model)
    eap.attribute.attribute(model, graph, loader, logit_difference, method, quiet=True, **settings)
    return graph


def edges_of(graph: Graph) -> dict[str, float]:
    return {name: edge.score.item() for name, edge in graph.edges.items()}


def results(name: str, model: Any, loader: list[Any]) -> dict[str, Any]:
    """Return all that is compared of one model."""
    if IS_RELP:
        return {**read_vectors("mib")[name], "RelP": {"edges": edges_of(scored(model, loader, "EAP"))}}
    found: dict[str, Any] = {}
    for method, settings in SETTINGS.items():
        graph = scored(model, loader, method, **settings)
        found[method] = {"edges": edges_of(graph)}
        for kind, absolute in (("signed", False), ("absolute", True)):
            found[method][kind] = areas(model, graph, loader, absolute)
    with gim.GIM(model):
        found["GIM"] = {"edges": edges_of(scored(model, loader, "EAP"))}
    graph, found["circuit"] = scored(model, loader, "EAP"), {}
    measure = partial(logit_difference, mean=False, loss=False)
    pool = [(loader[0][1],) * 3]  # the mean is over the corrupted prompts
    for kind in INTERVENTIONS:
        graph.apply_topn(40, True)
        how = {"intervention": kind, "intervention_dataloader": pool if "mean" in kind else None}
        found["circuit"][kind] = evaluate_graph(model, graph, loader, measure, quiet=True, **how).tolist()
    return found


if __name__ == "__main__":
    for module in (eap.utils, eap.attribute, eap.evaluate):
        module.tokenize_plus = tokens
    # MIB's code is of a version of EAP-IG that takes one argument more.
    evaluation.evaluate_graph = lambda *given, optimal_ablation_path=None, **how: evaluate_graph(*given, **how)
    prompts = mib.prompts()
    answers = torch.stack([prompts["correct"], prompts["incorrect"]], 1)
    loader = [(list(prompts["clean"]), list(prompts["corrupted"]), answers)]
    write_vectors("mib", {name: results(name, hooked(name), loader) for name in mib.SHAPES})
