"""Define the task ioi_paper: identify the indirect object in the prompts of the paper's code (Conmy et al. 2023).

There is one template, in the order ABBA: "Then, Mary and John went to the store. John gave a drink to" is followed by
" Mary". The corrupted ("baseline") prompt has other names, and different ones for the two mentions of John (ABC).
Names, draws and seeds are those of acdc/ioi/ioi_dataset.py at bc99ace8, so that the first 200 prompts are the paper's
100 + 100.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from acdc.data import Dataset
from acdc.known import from_file, heads_of
from acdc.labels import Span, filled, labelled
from acdc.tasks import Task
from acdc.text import Prompt, to_dataset, words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE = "Then, {first} and {second} went to the {place}. {giver} gave a {object} to"
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station")
OBJECTS = ("ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack")
IO_SEED, SUBJECT_SEED, FIRST_SUBJECT_SEED = ((seed + 345467) % 5432 for seed in (1, 2, 3))
"""The seeds that the original computes from the seeds that its experiments name."""


class Scene(NamedTuple):
    """Hold the names, place and object of a prompt; in a clean prompt ``giver`` is ``second``."""

    first: str
    second: str
    giver: str
    place: str
    object: str

    @property
    def text(self) -> str:
        """Return the scene's prompt."""
        return filled(TEMPLATE, self._asdict())[0]

    @property
    def spans(self) -> dict[str, Span]:
        """Return the span of each of the words in the prompt."""
        return filled(TEMPLATE, self._asdict())[1]


def clean_scenes(n_prompts: int, seed: int, names: list[str]) -> list[Scene]:
    """Draw the scenes of the clean prompts."""
    rng, scenes = random.Random((seed + 987654321) % 123456789), []
    for _ in range(n_prompts):
        rng.choice([TEMPLATE])  # the original draws its one template too
        chosen: list[str] = []
        while len(set(chosen)) < 3:  # and a third name, which it does not use
            chosen = [rng.choice(names) for _ in range(3)]
        io, subject, _ = chosen
        scenes.append(Scene(io, subject, subject, rng.choice(PLACES), rng.choice(OBJECTS)))
    return scenes


def corrupted_scenes(scenes: list[Scene], names: list[str]) -> list[Scene]:
    """Replace the indirect object, then the subject, then the subject's first mention, by other names.

    As in the paper, only the first of these draws avoids the scene's names, so a few prompts keep a name or repeat one.
    """
    rng = np.random.RandomState(IO_SEED)
    others = [another(rng, names, scene) for scene in scenes]
    scenes = [scene._replace(first=name) for scene, name in zip(scenes, others, strict=True)]
    rng = np.random.RandomState(SUBJECT_SEED)
    scenes = [renamed(scene, names[rng.randint(len(names))]) for scene in scenes]
    rng = np.random.RandomState(FIRST_SUBJECT_SEED)
    return [renamed(scene, names[rng.randint(len(names))], once=True) for scene in scenes]


def another(rng: np.random.RandomState, names: list[str], scene: Scene) -> str:
    """Draw a name that is not in the scene."""
    while (name := names[rng.randint(len(names))]) in (scene.first, scene.second):
        pass
    return name


def renamed(scene: Scene, name: str, once: bool = False) -> Scene:
    """Replace the subject's first mention and, unless ``once``, its last one by ``name``.

    The original looks for the first mention of the subject's name. If the indirect object has the same name, it finds
    that mention.
    """
    place = "first" if scene.first == scene.giver else "second"
    scene_after = scene._replace(**{place: name})
    return scene_after if once else scene_after._replace(giver=name)


def make_dataset(tokenizer: PreTrainedTokenizerBase | None, n_prompts: int, seed: int) -> Dataset:
    """Make a dataset of the paper's prompts, whose ``seed`` is 0.

    Returns:
        A dataset whose target ``correct`` is the indirect object, and ``incorrect`` the subject. Labels are those of
        ``acdc.tasks.ioi``.

    Raises:
        InputError: there is no tokenizer, or it is not GPT-2's and splits names.
    """
    names = words("ioi_names")
    scenes = clean_scenes(n_prompts, seed, names)
    prompts = [
        Prompt(
            clean.text,
            other.text,
            correct=f" {clean.first}",
            incorrect=f" {clean.second}",
            labels=labelled({"IO": "first", "S1": "second", "S2": "giver"}, clean.spans, other.spans),
        )
        for clean, other in zip(scenes, corrupted_scenes(scenes, names), strict=True)
    ]
    return to_dataset(tokenizer, prompts, task="ioi_paper", seed=seed)


TASK = Task(
    make_dataset=make_dataset,
    known_circuits={"gpt2": {"published": from_file("ioi")}},
    known_heads={"gpt2": partial(heads_of, "ioi")},
    bos=False,
)
