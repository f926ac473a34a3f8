import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "http"))  # fake_process.py
