"""Pretend to be a GPU: compute on the CPU, refuse what a GPU refuses, and count what the host waits for.

Inside ``with PretendDevice() as device`` tensors can be made on and moved to ``pretend``. An operation that mixes its
tensors with the CPU's raises ``MixedDevicesError``. ``device.counts`` says how many kernels they would launch, and
how often the host would wait: for an upload that is not ``non_blocking``, for a download, for a size that only the
device knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "pretend"


class Backend(_DummyBackendModule):
    """Answer what torch asks of a device, in tests without the device too: it draws nothing at random."""

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        pass


_setup_privateuseone_for_python_backend(NAME, Backend())
DEVICE = torch.device(NAME, 0)

NO_KERNEL = {
    *(
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "expand",
        "permute",
        "transpose",
        "t",
        "as_strided",
        "alias",
    ),
    *("select", "slice", "split", "split_with_sizes", "unbind", "unsqueeze", "squeeze", "diagonal", "unfold", "detach"),
    *("lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense"),
}
"""Operations that only make a view or take memory, and the one that is a download and nothing else."""
TWO_KERNELS = {"baddbmm", "index_copy", "cumsum", "embedding_dense_backward"}
"""Operations that launch at least two: a copy of what they start from, and what they are for."""
WAITS = {"nonzero", "masked_select", "_unique2", "equal", "repeat_interleave", "is_nonzero", "_local_scalar_dense"}
"""Operations whose result, or its size, the host needs."""
TAKES_INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operations that accept an index on the CPU: they upload it, and wait."""


class MixedDevicesError(RuntimeError):
    """An operation got tensors of the pretended device and of the CPU."""


class PretendTensor(torch.Tensor):
    """Hold a CPU tensor as ``inner``, and say that it is on the pretended device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, real: Tensor) -> PretendTensor:
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=DEVICE,
        )
        self.inner = real
        return self

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        device = PretendDevice.current
        assert device is not None, "the pretended device is gone"
        return device.run(function, args, kwargs or {})

    def __repr__(self) -> str:
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"

    def __getitem__(self, index):
        return super().__getitem__(uploaded(index))

    def __setitem__(self, index, value):
        value = value if isinstance(value, Tensor) else torch.tensor(value, dtype=self.dtype)
        return super().__setitem__(uploaded(index), value)

    def __reduce_ex__(self, protocol):
        """Save it as a CPU tensor, which the reader of a checkpoint makes of it by ``map_location``."""
        return self.inner.__reduce_ex__(protocol)

    def tolist(self):
        """Return its numbers, by one download. torch knows no tolist of tensors that are wrapped."""
        assert PretendDevice.current is not None
        PretendDevice.current.counts["downloads"] += 1
        return self.inner.detach().tolist()


def uploaded(index: Any) -> Any:
    """Return as tensors the lists and arrays that index a tensor, for torch uploads them and waits."""
    if isinstance(index, tuple):
        return tuple(map(uploaded, index))
    return torch.as_tensor(index, dtype=torch.long) if isinstance(index, (list, np.ndarray)) else index


class PretendDevice(TorchDispatchMode):
    """Run operations on the pretended device. One at a time can be entered.

    Attributes:
        counts: ``kernels``, ``uploads`` that the host awaits, ``free uploads`` that it does not, and ``downloads``,
            each of which it awaits.
        kernels: how often each operation launched a kernel.
    """

    current: PretendDevice | None = None

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()

    def __enter__(self) -> PretendDevice:
        PretendDevice.current = self
        return super().__enter__()

    def __exit__(self, *error) -> None:
        PretendDevice.current = None
        super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return self.run(function, args, kwargs or {})

    def run(self, function, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run one operation where its tensors are, and count what it costs."""
        name, tensors = name_of(function), list(tensors_in((*args, *kwargs.values())))
        ours = any(isinstance(x, PretendTensor) for x in tensors)
        asked = kwargs.get("device")
        if name == "_to_copy":
            return self.move(function, args, kwargs, ours)
        if not ours and not is_ours(asked):
            return function(*args, **kwargs)
        if name == "copy_":
            self.count_move(isinstance(args[0], PretendTensor), isinstance(args[1], PretendTensor), args[2:] == (True,))
        else:
            self.check(name, args, tensors)
            self.count(name, args)
        result = function(*map(real, args), **{key: real(x) for key, x in kwargs.items()})
        return result if name == "_local_scalar_dense" else as_given(function, args, kwargs, result)

    def move(self, function, args: tuple, kwargs: dict[str, Any], is_here: bool) -> Tensor:
        """Copy a tensor, to another device or not."""
        goes_here = is_ours(kwargs["device"]) if kwargs.get("device") is not None else is_here
        self.count_move(goes_here, is_here, kwargs.get("non_blocking", False))
        result = function(*map(real, args), **{key: real(x) for key, x in kwargs.items()})
        return PretendTensor(result) if goes_here else result

    def count_move(self, goes_here: bool, is_here: bool, is_free: bool) -> None:
        if goes_here and is_here:
            self.counts["kernels"] += 1
            self.kernels["copy_"] += 1
        elif goes_here:
            self.counts["free uploads" if is_free else "uploads"] += 1
        elif is_here:
            self.counts["downloads"] += 1

    def check(self, name: str, args: tuple, tensors: list[Tensor]) -> None:
        """Refuse what a GPU refuses: only numbers, which have no dimension, may come from the CPU, and indexes."""
        foreign = [x for x in tensors if not isinstance(x, PretendTensor) and x.dim()]
        if name in TAKES_INDEXES and isinstance(args[0], PretendTensor):
            indexes = [x for x in tensors_in(args[1]) if not isinstance(x, PretendTensor)]
            self.counts["uploads"] += len(indexes)
            foreign = [x for x in foreign if not any(x is index for index in indexes)]
        if foreign:
            raise MixedDevicesError(
                f"{name} got tensors of the pretended device and a CPU tensor {tuple(foreign[0].shape)}"
            )

    def count(self, name: str, args: tuple) -> None:
        masks = name in TAKES_INDEXES and any(x.dtype == torch.bool for x in tensors_in(args[1]))
        self.counts["downloads"] += name in WAITS or masks
        if name not in NO_KERNEL:
            n = 2 if name in TWO_KERNELS else 1
            self.counts["kernels"] += n
            self.kernels[name] += n


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among values and in lists of values, at any depth."""
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from tensors_in(x)


@cache
def name_of(function) -> str:
    return function.overloadpacket.__name__


@cache
def written_by(function) -> list[tuple[int, str]]:
    """Return places and names of the arguments that an operation writes into."""
    arguments = enumerate(function._schema.arguments)
    return [(i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write]


def is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def real(x: Any) -> Any:
    """Return what the CPU computes with in place of ``x``."""
    if isinstance(x, PretendTensor):
        return x.inner
    if isinstance(x, (list, tuple)):
        return [real(each) for each in x]
    return torch.device("cpu") if isinstance(x, torch.device) and is_ours(x) else x


def as_given(function, args: tuple, kwargs: dict[str, Any], result: Any) -> Any:
    """Wrap what an operation returns; an argument that it wrote into comes back as it was given."""
    written = [args[i] if i < len(args) else kwargs[name] for i, name in written_by(function)]
    if written:
        return written[0] if len(written) == 1 else tuple(written)
    return wrapped(result)


def wrapped(result: Any) -> Any:
    if isinstance(result, Tensor):
        return PretendTensor(result)
    return type(result)(map(wrapped, result)) if isinstance(result, (list, tuple)) else result
