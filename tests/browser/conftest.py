import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
# fake_process.py, live_server.py, node_scripts.py
sys.path.extend(str(TESTS / name) for name in ("http", "e2e", "web"))
