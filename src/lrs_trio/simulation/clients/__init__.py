"""Who comes to the simulated daemon: honest clients, hostile ones, and the administrator."""
