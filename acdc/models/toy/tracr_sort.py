"""Build a compiled model that sorts a string without repetitions (Weiss et al. 2021, section 4); not in the paper."""

import operator

from acdc.models.toy.rasp import Aggregate, Indices, Select, Tokens, Width
from acdc.models.toy.rasp.compiler import Program

n_smaller = Width(Select(Tokens(), Tokens(), operator.lt))
in_order = Aggregate(Select(n_smaller, Indices(), operator.eq), Tokens())
PROGRAM = Program(in_order, vocabulary={1, 2, 3, 4, 5}, max_length=4)
build = PROGRAM.build
