"""The wire: framing and messages, without I/O."""
