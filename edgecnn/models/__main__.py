"""Write `edgecnn/models/index.json` anew from the files in this folder: `python -m edgecnn.models`."""

from edgecnn.zoo import INDEX, index_text
from runtimes.files import write_atomic

if __name__ == "__main__":
    write_atomic(INDEX, index_text().encode())
