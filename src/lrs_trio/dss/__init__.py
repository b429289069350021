"""The DSS: the state database, behind one protocol, with its homes."""
