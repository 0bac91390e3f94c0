"""Pictures and arrays on their way to a network and back; Pillow is imported where a picture is read."""
