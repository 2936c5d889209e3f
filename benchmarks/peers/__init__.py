"""The registry of peers: one line per engine."""

from __future__ import annotations

from .base import Peer
from .compilers import Dlas, Iree, Tvm
from .engines import DeepSparse, LiteRt, Ncnn, OnnxRuntime, OpenVino
from .pytorch import AotInductor, TorchCompile, TorchEager

_KINDS = (Dlas, TorchEager, TorchCompile, AotInductor, OnnxRuntime, OpenVino, Iree, Tvm, LiteRt, Ncnn, DeepSparse)

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in _KINDS}

DENSE_PEERS = tuple(name for name in PEERS if name not in (AotInductor.name, DeepSparse.name))
"""All but Inductor's code once more, and the engine for pruned weights, which needs an environment of its own."""

__all__ = ["DENSE_PEERS", "PEERS", "Peer"]
