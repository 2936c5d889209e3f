"""Targets: one declarative TOML file per device, and :class:`Target`, the checked value it becomes."""

from __future__ import annotations

from dlas.compiler.targets.target import Target, list_targets, load_target

__all__ = ["Target", "list_targets", "load_target"]
