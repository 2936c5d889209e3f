"""Models of every supported kind, imported to linalg on tensors.

``import_model(model, example_inputs)`` gives an :class:`ImportedModel`; ``canonicalise(imported)`` brings it into the
form of :mod:`dlas.passes.canonical`.
"""

from __future__ import annotations

from .importer import import_model
from .model import ImportedModel, canonicalise, without_sparse_types

__all__ = ["ImportedModel", "canonicalise", "import_model", "without_sparse_types"]
