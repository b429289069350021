"""The whole daemon in one process under a virtual clock: one seed, one run, and what must hold all the time."""
