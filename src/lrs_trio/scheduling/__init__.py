"""The family task and its pure decisions: which medium, which device, which order."""
