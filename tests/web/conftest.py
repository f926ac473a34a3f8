import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.extend(str(TESTS / name) for name in ("http", "e2e"))  # fake_process.py, live_server.py
