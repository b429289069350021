"""Adapters to what stores the bytes, behind three small protocols."""
