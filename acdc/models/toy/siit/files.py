"""Store trained models in the package: weights, the log of their training, and digests of both."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc.errors import InputError, reading
from acdc.files import whole
from acdc.fingerprint import of_file
from acdc.models.files import trained_names, trained_weights
from acdc.tables import write_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from acdc.models.toy.siit.network import Network
    from acdc.models.toy.siit.program import Program, Tokens

Row = dict[str, Any]
DIGESTS = "sha256.txt"
N_COMPARED = 1000
AS_GOOD = 0.03
"""The largest difference in a measure between a model and the same one trained again, since rounding differs."""


@dataclass(frozen=True)
class Trained:
    """Describe a model that was trained for the package, and how to train it again.

    Attributes:
        name: the model's name.
        config: a function that returns the config of the TransformerLens native model.
        train: a function that trains a model, and yields it with rows of its log.
        measure: a function that returns the measures of a model by name.
        prompts: a function of a number and a seed that draws prompts to compare two models on.
        tokenizer: a function that returns the tokenizer; None for models that read numbers.
    """

    name: str
    config: Callable[[], dict[str, Any]]
    train: Callable[[], Iterator[tuple[Network, Row]]]
    measure: Callable[[Network], Row]
    prompts: Callable[[int, int], Tokens]
    tokenizer: Callable[[], PreTrainedTokenizerFast | None]

    def build(self, folder: Path) -> None:
        """Write the model to ``folder``, for ``acdc.models.sources``."""
        from acdc.models.bridge import boot_native, save_native  # tasks import this module, and no TransformerLens

        bridge = boot_native(self.config())
        bridge.load_state_dict(dict(self.network().tensors))
        save_native(bridge, self.config(), folder)
        if tokenizer := self.tokenizer():
            tokenizer.save_pretrained(folder)

    def network(self) -> Network:
        """Return the model with the weights in the package; raise InputError if they are damaged."""
        from safetensors.torch import load_file

        from acdc.models.toy.siit.network import Network

        path = trained_weights(self.name)
        check_digest(path)
        with reading(path, "install acdc again"):
            return Network(self.config(), load_file(path))


def check_digest(path: Path) -> None:
    """Check that a file of the assets has the digest that is listed beside it; raise InputError if not."""
    lines = path.with_name(DIGESTS).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    if listed.get(path.name) != of_file(path):
        raise InputError(f"{path} is not the file whose digest {DIGESTS} lists: install acdc again, or check it out")


def of_program(program: Program) -> Trained:
    """Return the description of the model that is trained to follow a program."""
    from acdc.models.toy.siit import training

    return Trained(
        name=program.name,
        config=partial(training.config, program),
        train=partial(training.train, program),
        measure=lambda network: asdict(training.measure(program, network)),
        prompts=partial(training.prompts, program),
        tokenizer=lambda: program.tokenizer,
    )


def train_again(trained: Trained, weights: Path, log: Path) -> Network:
    """Train a model, write its weights and the log of its training, and return it."""
    from safetensors.torch import save_file

    steps = list(trained.train())  # the network is one, whose weights change
    network = steps[-1][0]
    with whole(weights) as partial_file:
        save_file({name: tensor.detach() for name, tensor in network.tensors.items()}, partial_file)
    write_table([row for _, row in steps], log)
    return network


def compared(trained: Trained, network: Network) -> list[Row]:
    """Compare the measures of the package's model and of another one, and return whether the other is as good."""
    ours = trained.network()
    before, after = trained.measure(ours), trained.measure(network)
    prompts = trained.prompts(N_COMPARED, 0)
    alike = (ours.answers(prompts) == network.answers(prompts)).double().mean().item()
    pairs = [*((name, before[name], after[name]) for name in before), ("same_answers", 1.0, alike)]
    return [
        {"model": trained.name, "measure": name, "committed": one, "retrained": other}
        | {"as_good": abs(one - other) <= AS_GOOD}
        for name, one, other in pairs
    ]


def load(name: str) -> Trained:
    """Return the trained model of that name.

    Raises:
        InputError: there is no trained model of that name.
    """
    if name not in trained_names():
        raise InputError(f"no model {name!r} was trained here: choose one of {', '.join(trained_names())}")
    found: Trained = importlib.import_module(f"acdc.models.toy.{name}").TRAINED
    return found
