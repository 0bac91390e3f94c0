"""What surrounds a session: what it is fed, its provider and options, where nodes ran, a process to run it in."""
