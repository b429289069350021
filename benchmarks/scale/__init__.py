"""How the costs of a family grow: with its devices, its media, those who wait, and connections."""
