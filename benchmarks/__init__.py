"""Figures and long runs against a real daemon: `python -m benchmarks`, and its modules `soak`, `restarts`, `idle`."""
