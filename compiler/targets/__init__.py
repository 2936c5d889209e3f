"""Targets: one declarative TOML file per device, and the checked value it becomes.

That is a :class:`Target` for a CPU and a :class:`GpuTarget` for a GPU. Both have a name and a description, the flags
and the device that a compiler session needs, ``check`` and ``to_dict``.
"""

from __future__ import annotations

from dlas.compiler.targets.gpu import GpuTarget
from dlas.compiler.targets.target import AnyTarget, Target, list_targets, load_target

__all__ = ["AnyTarget", "GpuTarget", "Target", "list_targets", "load_target"]
