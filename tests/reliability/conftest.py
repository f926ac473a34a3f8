import sys
from pathlib import Path

# The servers of other tests and what speaks to them; tokenizers, templates, schemas and the graph that is a formula.
sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("http", "text", "engine", "e2e")]
