"""Rewrites of the module: one pass per file, registered by name in :mod:`dlas.passes.registry`."""
