"""Figures of a real daemon: this package, its `point` and `compare`; long runs: `soak`, `restarts`, `idle`."""
