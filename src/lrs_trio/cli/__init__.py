"""The commands: `lrs` for people and scripts, `lrsd` for the daemon."""
