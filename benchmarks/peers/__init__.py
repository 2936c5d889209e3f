"""The registry of peers: one line per engine."""

from __future__ import annotations

from .base import Peer
from .compilers import Dlas, Iree, Tvm
from .engines import LiteRt, OnnxRuntime, OpenVino
from .pytorch import TorchCompile, TorchEager

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Dlas, TorchEager, TorchCompile, OnnxRuntime, OpenVino, Iree, Tvm, LiteRt)
}

__all__ = ["PEERS", "Peer"]
