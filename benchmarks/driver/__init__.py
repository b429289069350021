"""Clients that cost little: several processes, each with many connections, and as little Python per answer as can be.

They are for figures. `benchmarks.load` checks everything and is for long runs.
"""
