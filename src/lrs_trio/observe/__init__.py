"""What can be seen of the daemon from outside: it watches events and changes nothing."""
