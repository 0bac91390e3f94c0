"""The page of a bundle: what `edgecnn report` writes, one section a file, HTML without scripts, fonts or a network.

    manifest.json --facts.py--> records --summary, race, layers, samples ...--> sections --write.py--> page

`html.py` is the only way from text to HTML and escapes all of it.
"""
