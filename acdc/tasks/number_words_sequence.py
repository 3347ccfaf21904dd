"""Define the task number_words_sequence: continue a sequence of number words from one to twelve."""

from acdc.known import from_file
from acdc.sequences import Continuation
from acdc.tasks import Task

NUMBER_WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

TASK = Task(
    make_dataset=Continuation("number_words_sequence", NUMBER_WORDS, cyclic=False).make_dataset,
    known_circuits={"gpt2": {"published": from_file("number_words_sequence")}},
)
