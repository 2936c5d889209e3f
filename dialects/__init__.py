"""Typed helpers to author transform-dialect scripts."""

from __future__ import annotations

from dlas.dialects.transform_script import SCHEDULED_OPS, Handle, TransformScript

__all__ = ["SCHEDULED_OPS", "Handle", "TransformScript"]
