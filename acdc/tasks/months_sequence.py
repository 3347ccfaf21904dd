"""Define the task months_sequence: continue a sequence of months, which may pass from December to January."""

from acdc.known import from_file
from acdc.sequences import Continuation
from acdc.tasks import Task
from acdc.tasks.months import MONTHS

TASK = Task(
    make_dataset=Continuation("months_sequence", MONTHS, cyclic=True).make_dataset,
    known_circuits={"gpt2": {"published": from_file("months_sequence")}},
)
