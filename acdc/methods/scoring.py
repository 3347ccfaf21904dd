"""The methods that score every edge or node at once, by name."""

from __future__ import annotations

from acdc.engine import Engine
from acdc.evaluation import random_scores
from acdc.graph import Scores
from acdc.methods.eap import eap, eap_ig
from acdc.methods.gradients import over_prompts
from acdc.methods.hisp import hisp
from acdc.metrics import Metric

NAMES = ("eap", "eap_ig", "hisp", "random")


def score(method: str, engine: Engine, kind: type[Metric], ig_steps: int) -> Scores:
    """What a method says of every edge or node, larger in size for what matters more.

    Args:
        ig_steps: of eap_ig, from ablated to clean inputs.

    Raises:
        InputError: see ``acdc.methods.gradients.refuse_distance``.
    """
    if method == "random":
        return random_scores(engine.graph, seed=0)
    if method == "hisp":
        return hisp(engine, kind)
    if method == "eap":
        return over_prompts(engine, lambda model: eap(model, kind))
    return over_prompts(engine, lambda model: eap_ig(model, kind, ig_steps))
