"""Compile models: frontends, the pipeline of named stages, targets, the IREE boundary, and the command line."""
