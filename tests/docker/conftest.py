import sys
from pathlib import Path

DOCKER = Path(__file__).parents[2] / "docker"
sys.path.insert(0, str(DOCKER))  # its programs import each other as they do in the build
