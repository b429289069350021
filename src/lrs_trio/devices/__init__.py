"""One task per device: its queue, its counts, its to-sync set, its physical operations in order."""
