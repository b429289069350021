"""What is Phobos's own: its configuration, and how that becomes our settings."""
