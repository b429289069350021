"""The virtual tape library: drives, cartridges, slots and a robot, kept in a directory and as slow as real ones."""
