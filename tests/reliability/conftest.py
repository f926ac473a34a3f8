import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))  # fake_process.py, and the server that it runs
