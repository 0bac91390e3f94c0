"""float16 where it is enough."""
