"""Write docs/architectures.md: which architectures the engine computes, tried on a random model of each.

    python -m docs.architectures

Tried are the decoders of TransformerLens's list that Transformers has, as models of a few thousand weights.
"""

from __future__ import annotations

import traceback
from pathlib import Path

import torch
import transformers
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
from transformers import PreTrainedConfig, PreTrainedModel

from acdc.data import Dataset
from acdc.engine.memory import held, of_weights
from acdc.engine.model import Engine
from acdc.errors import InputError, first_line
from acdc.models.bridge import of_hugging_face
from acdc.models.convert import weights_of
from acdc.reference import Reference
from benchmarks.acdc_speed import GPT2
from benchmarks.acdc_speed import random_prompts as random_prompts_of_shape
from benchmarks.gpu_report import GIB, LARGE
from tests.small_models import random_circuit

PAGE = Path(__file__).parent / "architectures.md"
FLOAT_ERROR, MOST_WEIGHTS = 1e-4, 10**6
N_VOCAB, N_POS, N_CIRCUITS = 50, 16, 20
ABLATIONS = ("corrupted", "zero", "mean")
SIZES = {
    "vocab_size": N_VOCAB,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "word_embed_proj_dim": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "n_inner": 48,
    "ffn_hidden_size": 48,
    "num_hidden_layers": 4,
    "num_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    "sliding_window": 5,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 16,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "state_size": 8,
    "ssm_state_size": 8,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "max_seq_len": 64,
    "n_ctx": 64,
    "initializer_range": 0.3,
    "init_std": 0.3,
    "moe_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Names that configs have for the same few sizes."""
BY_ARCHITECTURE = {
    "GPTNeoForCausalLM": {
        "attention_types": [[["global", "local"], 2]],
        "attention_layers": ["global", "local"] * 2,
        "window_size": 5,
    },
    "FalconForCausalLM": {"alibi": False},
    "GraniteMoeForCausalLM": {"initializer_range": 0.1},
    "NemotronForCausalLM": {"initializer_range": 0.1},
    "Gemma2ForCausalLM": {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    "Gemma3ForCausalLM": {"layer_types": ["sliding_attention", "full_attention"] * 2},
}
COMPUTED = {"FalconForCausalLM": ("head_dim",)}
"""Sizes that no config of an architecture takes, because it computes them from others."""


class NotTriedError(Exception):
    """No small model of an architecture could be made."""


def small_config(model: type[PreTrainedModel]) -> PreTrainedConfig:
    """Return a config of a small model: the default one, with the sizes that it has made small."""
    default = model.config_class()
    computed = COMPUTED.get(model.__name__, ())
    own = {name: size for name, size in SIZES.items() if hasattr(default, name) and name not in computed}
    return model.config_class(**own | BY_ARCHITECTURE.get(model.__name__, {}))


def small_model(name: str) -> PreTrainedModel:
    """Return a random model of an architecture. Raises NotTriedError where there is none."""
    kind = getattr(transformers, name)
    try:
        config = small_config(kind)
        with torch.device("meta"):
            n_weights = sum(p.numel() for p in kind(config).parameters())
    except Exception as error:
        raise NotTriedError(f"Transformers makes no model of a small config: {reason(error)}") from error
    if n_weights > MOST_WEIGHTS:
        raise NotTriedError(f"its config does not make a small model ({n_weights:,} weights)")
    torch.manual_seed(0)
    model = kind(config).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    return model


def reason(error: Exception) -> str:
    """Return the beginning of an error's message, for a cell of a table."""
    return first_line(error).replace("|", "/")[:160]


def random_prompts() -> Dataset:
    """Return two random pairs of prompts, scored at every position."""
    clean, corrupted = torch.randint(3, N_VOCAB, (2, 2, N_POS), generator=torch.Generator().manual_seed(0))
    return Dataset(clean, corrupted, torch.ones_like(clean, dtype=torch.bool), {})


def errors(name: str) -> tuple[float, float]:
    """Return the largest differences in a logit: of the model to Transformers, of circuits to the hooked forward pass.

    Raises:
        InputError: the engine does not cover the model.
    """
    model, data = small_model(name), random_prompts()
    bridge = of_hugging_face(model, None)
    weights = weights_of(bridge)
    whole = Engine(weights, data, ablation="corrupted").model_logits - model(data.clean).logits.flatten(0, 1)
    of_circuits = max(error_of_circuits(Engine(weights, data, ablation=a), bridge, a) for a in ABLATIONS)
    return whole.abs().max().item(), of_circuits


def error_of_circuits(engine: Engine, bridge, ablation: str) -> float:
    """Return the largest difference of random circuits' logits to the hooked forward pass."""
    oracle = Reference(bridge, engine.dataset, ablation=ablation)
    circuits = (random_circuit(engine.graph, seed, 0.7, 0.9) for seed in range(N_CIRCUITS))
    return max((engine.circuit_logits(c) - oracle.logits(c)).abs().max().item() for c in circuits)


@torch.no_grad()
def row(name: str) -> tuple[str, str, str]:
    """Return an architecture's row: its name, what became of it, and why."""
    try:
        whole, circuits = errors(name)
    except InputError as error:
        return name, "refused", reason(error)
    except NotTriedError as error:
        return name, "not tried", reason(error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        by = "TransformerLens" if "transformer_lens" in where.filename else Path(where.filename).name
        return name, "refused", f"{type(error).__name__} of {by}: {reason(error)}"
    if whole < FLOAT_ERROR and circuits < FLOAT_ERROR:
        return name, "works", f"{whole:.0e} and {circuits:.0e}"
    return name, "refused", f"the comparison before a search refuses it: off by {whole:.1g}, circuits by {circuits:.1g}"


MEMORY = """
## Memory

By the formulas of `acdc/engine/memory.py`, in GiB, float32, for 20 prompts of 15 tokens: the weights, and what a
search holds beside them.
"""


def memory_table() -> str:
    """Return what models of real sizes need, as a table."""
    lines = ["| model's shape | edges | weights | a search |", "|---|---|---|---|"]
    for name, shape in {"GPT-2 small": GPT2, **LARGE}.items():
        graph, itemsize = shape.graph(), torch.float32.itemsize
        search = held(shape, graph, random_prompts_of_shape(20, 15, d_vocab=shape.d_vocab), itemsize)
        sizes = (of_weights(shape, itemsize) / GIB, search / GIB)
        lines.append(f"| {name} | {graph.n_edges:,} | {sizes[0]:.1f} | {sizes[1]:.1f} |")
    return "\n".join(lines)


def page(rows: list[tuple[str, str, str]]) -> str:
    """Return the page's text."""
    lines = ["# Architectures", ""]
    counts = {kind: sum(result == kind for _, result, _ in rows) for kind in ("works", "refused", "not tried")}
    lines.append(
        "Made by `python -m docs.architectures` with TransformerLens's list of decoders, Transformers"
        f" {transformers.__version__} and torch {torch.__version__}, from one random model of four layers each, with"
        f" windows of {SIZES['sliding_window']} positions and prompts of {N_POS}. **Works** means two things: the"
        f" engine's logits are Transformers's, and the logits of {N_CIRCUITS} random circuits under each of the"
        f" ablations {', '.join(ABLATIONS)} are those of a forward pass through TransformerLens's hooks, to"
        f" {FLOAT_ERROR:g}. The largest differences are given. A model that has more than its small config, such as"
        " LFM2 with convolutions, may be refused. [models.md](models.md) says what norms, experts and precision mean"
        " for circuits."
    )
    lines += ["", f"{counts['works']} work, {counts['refused']} are refused, {counts['not tried']} could not be tried."]
    for kind, header in (("works", "differences"), ("refused", "reason"), ("not tried", "reason")):
        lines += ["", f"## {kind.capitalize()}", "", f"| architecture | {header} |", "|---|---|"]
        lines += [f"| {name} | {why} |" for name, result, why in rows if result == kind]
    return "\n".join([*lines, MEMORY, memory_table()]) + "\n"


def main() -> None:
    torch.set_num_threads(1)
    names = sorted(n for n in SUPPORTED_ARCHITECTURES if n.endswith(("CausalLM", "LMHeadModel")))
    PAGE.write_text(page([row(name) for name in names if hasattr(transformers, name)]))


if __name__ == "__main__":
    main()
