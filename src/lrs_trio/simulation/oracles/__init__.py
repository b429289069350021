"""What must hold all the time: at the protocol, inside the daemon, and in the books."""
