"""The registry of peers: one line per engine."""

from __future__ import annotations

from .base import Peer
from .compilers import Dlas, Iree, Tvm
from .engines import DeepSparse, LiteRt, OnnxRuntime, OpenVino
from .pytorch import TorchCompile, TorchEager

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Dlas, TorchEager, TorchCompile, OnnxRuntime, OpenVino, Iree, Tvm, LiteRt, DeepSparse)
}

DENSE_PEERS = tuple(name for name in PEERS if name != DeepSparse.name)
"""All but the engine for pruned weights, which needs an environment of its own."""

__all__ = ["DENSE_PEERS", "PEERS", "Peer"]
