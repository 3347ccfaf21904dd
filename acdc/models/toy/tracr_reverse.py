"""Build the compiled model of the paper's tracr task ``reverse``, which reverses a string (Conmy et al. 2023)."""

import operator

from acdc.models.toy.rasp import Aggregate, Indices, Map, Select, Tokens, Width, Zip
from acdc.models.toy.rasp.compiler import Program

length = Width(Select(Tokens(), Tokens(), lambda key, query: True))
distance = Zip(operator.sub, length, Indices())
opposite = Map(lambda n: n - 1, distance)
reverse = Aggregate(Select(Indices(), opposite, operator.eq), Tokens())
PROGRAM = Program(reverse, vocabulary={1, 2, 3}, max_length=5)
build = PROGRAM.build
