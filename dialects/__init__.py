"""Typed helpers to author transform-dialect scripts."""

from __future__ import annotations

from dlas.dialects.transform_script import Handle, TransformScript

__all__ = ["Handle", "TransformScript"]
