"""`lrs simulate`: the daemon in simulation, one seed or many."""
