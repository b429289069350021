"""lrs-trio: a Local Resource Scheduler for the storage hosts of an object store."""

__version__ = "0.1.0"
