"""Pictures of numbers, one file a picture: each takes a record and gives the bytes of a PNG, SVG or PDF.

`_canvas.py` is the only file that knows matplotlib; it is imported when a picture is asked for, never before.
"""
