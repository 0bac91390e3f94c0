"""Where the time goes and what to do about it. Behind `profile`."""
