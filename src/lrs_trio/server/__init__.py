"""The Unix socket and its connections: one reader task and one sender task each."""
