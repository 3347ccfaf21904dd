"""Settings of all tests: one thread, for tiny tensors are no faster on several; the same random cases every time."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("acdc", deadline=None, derandomize=True, max_examples=8)
settings.load_profile("acdc")
