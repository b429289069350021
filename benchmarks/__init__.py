"""Figures and long runs against a real daemon: `python -m benchmarks`, `benchmarks.soak`, `benchmarks.idle`."""
