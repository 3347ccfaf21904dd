"""Build the compiled model of the paper's tracr task ``proportion``: the share of "x" among the tokens so far."""

import operator

from acdc.models.toy.rasp import Aggregate, Indices, Map, Select, Tokens
from acdc.models.toy.rasp.compiler import Program

is_x = Map(lambda token: token == "x", Tokens(), numerical=True)
share_so_far = Aggregate(Select(Indices(), Indices(), operator.le), is_x)
PROGRAM = Program(share_so_far, vocabulary={"w", "x", "y", "z"}, max_length=5)
build = PROGRAM.build
