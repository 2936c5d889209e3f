"""Schedules: one function each, returning a transform-dialect module, and the rules that pick among them."""
