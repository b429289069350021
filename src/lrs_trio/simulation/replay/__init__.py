"""Recorded workloads, played against the simulated daemon."""
