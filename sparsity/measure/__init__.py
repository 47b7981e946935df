"""Measuring: latency, memory, the machine. Knows callables and modules, never pruning."""
