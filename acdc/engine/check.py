"""Compare the logits of an engine with those of Transformers and TransformerLens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc.data import Dataset
from acdc.engine.model import Engine
from acdc.errors import InputError, first_line, reading
from acdc.graph import Circuit
from acdc.tensor_files import read_tensors, write_tensors

TOLERANCE = 1e-3
"""The largest allowed difference in a logit between engine and program. In trained models rounding stays below 1e-4."""
ROUNDINGS = 4
"""The multiple of the engine's own rounding below which a larger difference still counts as rounding."""
N_WHOLE = 2
"""The number of prompts that are compared at every position."""
MOST_BYTES = 2**26
"""The largest size of compared logits in bytes. If there are more rows, evenly spaced ones are compared."""
AT_ONCE = 8
"""The number of prompts that a program computes at once, since the logits of all prompts may not fit into memory."""

Program = Callable[[Int[Tensor, "prompt pos"]], Float[Tensor, "prompt pos d_vocab"]]
"""Compute a model's logits without the engine, as Transformers and TransformerLens do."""


@dataclass
class Logits:
    """Hold logits that programs compute on a dataset's clean and corrupted prompts.

    Attributes:
        rows: Int[row], indices of the dataset's scored positions, in the order of ``Dataset.scored_rows``.
        clean, corrupted: the logits of each program, Float[row d_vocab].
    """

    rows: Int[Tensor, "row"]
    clean: dict[str, Float[Tensor, "row d_vocab"]] = field(default_factory=dict)
    corrupted: dict[str, Float[Tensor, "row d_vocab"]] = field(default_factory=dict)

    def add(self, name: str, program: Program, data: Dataset) -> None:
        """Run a program on a dataset, and store its logits."""
        if not len(self.rows):
            n_bytes = program(data.clean[:1])[0, 0].nbytes
            self.rows = evenly_spaced(int(data.scored.sum()), MOST_BYTES // n_bytes)
        self.clean[name] = logits_at(program, data, data.clean, self.rows)
        self.corrupted[name] = logits_at(program, data, data.corrupted, self.rows)


@dataclass
class Expected:
    """Hold the logits that an engine on a dataset must have.

    Attributes:
        dataset_sha256: the SHA-256 of the dataset.
        scored: logits at the scored positions or, if these are more than ``MOST_BYTES``, at some of the positions.
        whole: logits at every position of the first prompts, see ``every_position``, or at some of the positions.
    """

    dataset_sha256: str
    scored: Logits
    whole: Logits

    @classmethod
    def of(cls, programs: Mapping[str, Callable[[], Program]], *datasets: Dataset) -> list[Expected]:
        """Run programs on the clean and corrupted prompts of datasets.

        Args:
            programs: functions that load the programs, by the program's name. One at a time is in memory.

        Raises:
            InputError: a program fails.
        """
        none = torch.zeros(0, dtype=torch.long)
        made = [cls(data.sha256, Logits(none), Logits(none)) for data in datasets]
        for name, load in programs.items():
            program = load()
            for one, data in zip(made, datasets, strict=True):
                try:
                    one.scored.add(name, program, data)
                    one.whole.add(name, program, every_position(data))
                except Exception as error:  # any error of a library that cannot run the model
                    raise InputError(f"{name} cannot run this model: {first_line(error)}") from error
            del program
        return made

    def save(self, path: Path) -> None:
        """Write the logits to a safetensors file."""
        tensors = {}
        for part in ("scored", "whole"):
            logits: Logits = getattr(self, part)
            tensors[f"{part}.rows"] = logits.rows
            for prompts in ("clean", "corrupted"):
                tensors |= {f"{part}.{prompts}.{name}": t for name, t in getattr(logits, prompts).items()}
        write_tensors(tensors, path, "expected", {"dataset_sha256": self.dataset_sha256})

    @classmethod
    def load(cls, path: Path) -> Expected:
        """Read the logits that ``save`` wrote; raise InputError if the file is damaged."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}

        def logits(part: str) -> Logits:
            return Logits(tensors[f"{part}.rows"], under(f"{part}.clean."), under(f"{part}.corrupted."))

        with reading(path, "make it again by `acdc behaviour`"):
            tensors, said = read_tensors(path, "expected")
            return cls(said["dataset_sha256"], logits("scored"), logits("whole"))


@torch.no_grad()
def logits_at(
    program: Program, data: Dataset, tokens: Int[Tensor, "prompt pos"], rows: Int[Tensor, "row"]
) -> Float[Tensor, "row d_vocab"]:
    """Return a program's logits at some of a dataset's scored positions, computed a few prompts at a time.

    Args:
        tokens: the dataset's clean or its corrupted prompts.
    """
    prompt, pos = (index[rows] for index in data.scored_rows)
    kept = torch.zeros_like(data.scored)
    kept[prompt, pos] = True
    pairs = zip(tokens.split(AT_ONCE), kept.split(AT_ONCE), strict=True)
    return torch.cat([program(part)[at] for part, at in pairs])


def every_position(data: Dataset) -> Dataset:
    """Return the first prompts of a dataset, scored at every position."""
    first = data.select(slice(N_WHOLE))
    return Dataset(first.clean, first.corrupted, torch.ones_like(first.scored), {})


def evenly_spaced(n: int, most: int) -> Int[Tensor, "row"]:
    """Return at most ``most`` evenly spaced numbers below ``n``, with the first and the last."""
    return torch.linspace(0, n - 1, min(n, max(2, most)), dtype=torch.float64).round().long()


def check_engine(engine: Engine, expected: Expected) -> None:
    """Check that the circuit of all edges has the model's logits, and the circuit of no edges the corrupted run's.

    At every position of a few prompts both are compared, whichever ablation the engine has. At the scored positions the
    circuit of no edges is compared only if the ablated run is a plain run on the corrupted prompts.

    Raises:
        InputError: the logits differ, so the engine computes another model than the programs, or they are of another
            dataset.
    """
    if engine.dataset.sha256 != expected.dataset_sha256:
        raise InputError("the stored logits are of another dataset: make them again by `acdc behaviour`")
    compare(engine, expected.scored)
    plain = Engine(engine.weights, every_position(engine.dataset), ablation="corrupted", memory=engine.memory)
    compare(plain, expected.whole)


def compare(engine: Engine, expected: Logits) -> None:
    """Compare the logits of an engine with those of programs, see ``check_engine``."""
    circuits = {"all": (Circuit.full(engine.graph), expected.clean)}
    if engine.ablation.is_plain:
        circuits["no"] = Circuit.empty(engine.graph), expected.corrupted
    for which, (circuit, by_program) in circuits.items():
        finals = torch.cat(engine.finals(circuit), 1)[0, expected.rows.to(engine.device)]
        logits = engine.logits(finals)
        differences = {name: (logits - of.to(logits)).abs().max().item() for name, of in by_program.items()}
        if not all(difference < TOLERANCE for difference in differences.values()):
            check_rounding(engine, circuit, which, differences)


def check_rounding(engine: Engine, circuit: Circuit, which: str, differences: dict[str, float]) -> None:
    """Check that a circuit's logits differ from programs' by rounding at most; raise InputError if not."""
    bound = max(TOLERANCE, ROUNDINGS * rounding_of_logits(engine, circuit))
    if all(difference < bound for difference in differences.values()):
        return
    by = " and ".join(f"from {name}'s by {difference:.2g}" for name, difference in differences.items())
    right = " and ".join(name for name, difference in differences.items() if difference < bound)
    wrong = " and ".join(name for name, difference in differences.items() if not difference < bound)
    verdict = f"it agrees with {right}, but {wrong} computes another model" if right else "it does not cover this model"
    raise InputError(f"with {which} edges the engine's logits differ {by} (at most {bound:.2g} is rounding): {verdict}")


def rounding_of_logits(engine: Engine, circuit: Circuit) -> float:
    """Return the largest difference between a circuit's logits in float32 and in float64."""
    dtype = torch.float64 if engine.weights.embed.dtype == torch.float32 else torch.float32
    other = Engine(
        engine.weights.to(engine.device, dtype),
        engine.dataset,
        ablation=engine.ablation,
        split_embed=engine.graph.split_embed,
        memory=engine.memory,
    )
    return (other.circuit_logits(circuit) - engine.circuit_logits(circuit)).abs().max().item()
