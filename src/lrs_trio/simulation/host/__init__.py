"""The simulated storage host: what outlives the daemon, and the machine on which it finds all that."""
