"""Define the task numerals_sequence: continue a sequence of numerals from 1 to 12."""

from acdc.known import from_file
from acdc.sequences import Continuation
from acdc.tasks import Task

NUMERALS = [str(i) for i in range(1, 13)]

TASK = Task(
    make_dataset=Continuation("numerals_sequence", NUMERALS, cyclic=False).make_dataset,
    known_circuits={"gpt2": {"published": from_file("numerals_sequence")}},
)
