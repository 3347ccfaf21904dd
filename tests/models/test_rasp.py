"""Test compiled models: they compute what their programs say; the paper's are the real compiler's, node by node."""

from __future__ import annotations

import json
import operator
import random
from functools import cache
from itertools import permutations, product

import pytest
import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from acdc.catalogue import ABLATIONS
from acdc.engine.model import Engine
from acdc.graph import Edge, Graph
from acdc.known import from_file
from acdc.models.bridge import load_bridge
from acdc.models.convert import weights_of
from acdc.models.toy import tracr_proportion, tracr_reverse, tracr_sort
from acdc.models.toy.rasp import Aggregate, Expression, Indices, Map, Select, Tokens, Width, Zip, run
from acdc.models.toy.rasp.compiler import BOS, Program
from acdc.models.toy.rasp.dataset import derangement, make_dataset, outputs
from acdc.models.toy.rasp.wiring import wired_circuit
from tests.originals import vector_bridge
from tests.vector_files import VECTORS

PAPER = {"tracr_reverse": tracr_reverse.PROGRAM, "tracr_proportion": tracr_proportion.PROGRAM}


def always(key, query) -> bool:
    return True


same = Width(Select(Tokens(), Tokens(), operator.eq))
previous = Aggregate(Select(Indices(), Map(lambda i: i - 1, Indices()), operator.eq), Tokens())
is_a = Map(lambda token: 2.5 * (token == "a"), Tokens(), numerical=True)
a_so_far = Aggregate(Select(Indices(), Indices(), operator.le), is_a)
PROGRAMS: dict[str, Expression] = {
    "how often a token occurs": same,
    "the token before": previous,
    "token and index": Zip(lambda token, i: f"{token}{i}", Tokens(), Indices()),
    "two heads of one layer": Zip(lambda n, token: (n, str(token)), same, previous),
    "numbers": a_so_far,
    "nothing selected": Width(Select(Tokens(), Tokens(), lambda key, query: False)),
}


@cache
def built(program: Program, folder) -> TransformerBridge:
    program.build(folder)
    return load_bridge(folder)


def logits(program: Program, strings: list, tmp_path_factory) -> Tensor:
    model = built(program, tmp_path_factory.mktemp("model"))
    with torch.no_grad():
        return model(torch.tensor(program.encode(strings)))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("length", (1, 3))
def test_model_says_what_the_program_says_of_every_string(name, length, tmp_path_factory):
    program = Program(PROGRAMS[name], "abc", max_length=4)
    strings = list(product("abc", repeat=length))
    expected = torch.stack([outputs(program, string) for string in strings])
    torch.testing.assert_close(logits(program, strings, tmp_path_factory), expected, atol=1e-5, rtol=0)
    assert length == 1 or expected[:, 1:].any(), "nothing is said"


@pytest.mark.parametrize(
    ("program", "strings", "expected"),
    [
        (tracr_reverse.PROGRAM, [(1, 2, 3), (3, 3, 1, 2)], [[3, 2, 1], [2, 1, 3, 3]]),
        (tracr_proportion.PROGRAM, ["xwzx"], [[1, 1 / 2, 1 / 3, 1 / 2]]),
        (tracr_sort.PROGRAM, [(4, 1, 5, 2)], [[1, 2, 4, 5]]),
    ],
    ids=("reverse", "proportion", "sort"),
)
def test_programs_say_what_they_are_for(program, strings, expected):
    assert [run(program.expression, string) for string in strings] == expected


@pytest.mark.parametrize(
    ("program", "strings"),
    [
        *((tracr_reverse.PROGRAM, list(product((1, 2, 3), repeat=length))) for length in range(1, 6)),
        *((tracr_proportion.PROGRAM, list(product("wxyz", repeat=length))) for length in range(1, 6)),
        *((tracr_sort.PROGRAM, list(permutations(range(1, 6), length))) for length in range(1, 5)),
    ],
)
def test_models_of_the_tasks_say_it_of_every_string_of_every_length(program, strings, tmp_path_factory):
    expected = torch.stack([outputs(program, string) for string in strings])
    torch.testing.assert_close(logits(program, strings, tmp_path_factory), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", PAPER)
def test_layers_heads_and_widths_are_the_real_compilers(name):
    theirs, ours = json.loads((VECTORS / name / "config.json").read_text()), PAPER[name].config
    same = (
        "n_layers",
        "n_heads",
        "d_model",
        "d_mlp",
        "d_vocab",
        "n_ctx",
        "act_fn",
        "attention_dir",
        "normalization_type",
    )
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}


@pytest.mark.parametrize("name", PAPER)
def test_outputs_are_the_real_compilers_on_every_string_of_tokens(name, tmp_path_factory):
    """BOS and PAD may stand anywhere in a string, for the paper's code feeds them to tracr_proportion."""
    program = PAPER[name]
    tokens = torch.tensor(list(product(range(len(program.tokens)), repeat=4)))
    with torch.no_grad():
        ours, theirs = built(program, tmp_path_factory.mktemp(name))(tokens), vector_bridge(name)(tokens)
    torch.testing.assert_close(ours, theirs[..., : ours.shape[-1]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PAPER)
def test_wiring_is_that_of_the_real_compilers_weights(name):
    """The original unembeds as many directions as there are letters: of proportion the output, and three positions."""
    graph = Graph(PAPER[name].config["n_layers"], 1, 1, split_embed=True)
    state = vector_bridge(name).state_dict()
    theirs = {key.replace("_original_component.", ""): tensor for key, tensor in state.items()}
    expected = wired_circuit(theirs, graph)
    if name == "tracr_proportion":
        stray = graph.sender_index[graph.node("pos_embed")]
        assert expected.present[stray, -1]
        expected.present[stray, -1] = False
    assert PAPER[name].circuit(graph).to_json() == expected.to_json()


def test_wiring_differs_from_the_published_circuit_of_reverse_by_what_no_prompt_changes():
    """The first and the last head's queries and keys read which tokens there are and where BOS is."""
    graph = Graph(4, 1, 1, split_embed=True)
    compiled, published = (set(f(graph).edges) for f in (tracr_reverse.PROGRAM.circuit, from_file("tracr_reverse")))
    assert published < compiled
    tokens = graph.node("tok_embed")
    first, last = ([graph.node(f"a{layer}.h0.{port}") for port in "qk"] for layer in (0, 3))
    more = {Edge(tokens, port) for port in (*first, *last)} | {Edge(port, port, "direct") for port in first}
    assert compiled - published == more


def test_wiring_of_proportion_is_the_published_circuit():
    graph = Graph(2, 1, 1, split_embed=True)
    assert tracr_proportion.PROGRAM.circuit(graph).to_json() == from_file("tracr_proportion")(graph).to_json()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_wired_circuit_alone_computes_the_program(name, ablation, tmp_path_factory):
    program, strings = Program(PROGRAMS[name], "abc", max_length=4), list(product("abc", repeat=3))
    weights = weights_of(built(program, tmp_path_factory.mktemp("model")))
    dataset = make_dataset("test", program, strings, len(strings), seed=0)
    engine = Engine(weights, dataset, ablation=ablation, split_embed=True)
    circuit = program.circuit(engine.graph)
    assert 0 < circuit.n_edges < engine.graph.n_edges
    expected = dataset.targets["outputs"][dataset.scored]
    torch.testing.assert_close(engine.circuit_logits(circuit), expected, atol=1e-5, rtol=0)


def test_a_width_is_counted_up_to_the_longest_string(tmp_path_factory):
    program = Program(Width(Select(Tokens(), Tokens(), operator.eq)), "ab", max_length=6)
    strings = list(product("ab", repeat=6))
    expected = torch.stack([outputs(program, string) for string in strings])
    torch.testing.assert_close(logits(program, strings, tmp_path_factory), expected, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="widths up to 7 are too many"):
        Program(Width(Select(Tokens(), Tokens(), always)), "ab", max_length=7)


@pytest.mark.parametrize("nothing", (Tokens(), Indices()))
def test_a_program_that_computes_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="computes nothing"):
        Program(nothing, "ab", max_length=3)


def test_a_mean_of_categories_is_refused():
    with pytest.raises(ValueError, match="has no meaning"):
        run(Aggregate(Select(Tokens(), Tokens(), always), Tokens()), "ab")


def test_tokens_are_sorted_by_their_text_and_strings_begin_with_bos():
    program = tracr_proportion.PROGRAM
    assert program.tokens == ["BOS", "PAD", "w", "x", "y", "z"]
    assert program.encode(["wz"]) == [[program.tokens.index(BOS), 2, 5]]


def test_a_derangement_moves_everything():
    found = {tuple(derangement(random.Random(seed), 4)) for seed in range(200)}
    assert len(found) == 9 and all(i != j for order in found for i, j in enumerate(order))
