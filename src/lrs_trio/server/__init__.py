"""The Unix socket and its connections: a reader task each, and one task that sends for all."""
