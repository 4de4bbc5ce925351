"""A stand-in for the package `icalfa`: its layout, with tasks and a set-up script of our own."""

from __future__ import annotations

import json
from pathlib import Path

SCRIPT = """\
#!/bin/bash
rm -rf /shop
mkdir -p /shop/back
echo -e 'plum\\npear\\nplum' > /shop/list.txt
echo plum > /shop/back/old.txt
touch -m -t202301312359.59 /shop/back/old.txt
echo odd > "/shop/back/two words.txt"
ln -s list.txt /shop/link
chmod 640 /shop/back/old.txt
tar -czf /shop/pack.tar.gz /shop/list.txt
gzip -c /shop/list.txt > /shop/list.gz
"""
TASKS = {
    "copy the list to /shop/copy.txt": "cp /shop/list.txt /shop/copy.txt",
    "count the lines of the list": "wc -l < /shop/list.txt",
    "which files hold the word plum": "grep -rl plum /shop",
    "which words are in both files": "comm -12 <(sort -u /shop/list.txt) <(sort /shop/back/old.txt)",
    "put a greeting into world.txt": "echo hello > world.txt",
    "print the fruit": "echo $FRUIT",
    "lock the list": "chmod 400 /shop/list.txt",
    "unpack the archive here": "tar -xzf /shop/pack.tar.gz -C /shop/back",
    "what time is it": "date",
    "what is our address": "curl ifconfig.example",
    "what changed today": "find /shop -mtime -1",
    "do nothing": "true",
    "use the frobnicator": "frobnicate-the-shop /shop",
    "roll a die": "echo $RANDOM $RANDOM",
    "own the system": "touch /etc/owned",
    "wait": "sleep 60",
}
LEFT_OUT = {
    8: "clock",
    9: "network",
    10: "lately",
    11: "nothing",
    12: "missing",
    13: "each time",
    14: "rights",
    15: "end",
}


def write_package(folder: Path, tasks: dict[str, str] = TASKS, script: str = SCRIPT) -> None:
    """Write a package of one file system."""
    data, image = folder / "icalfa/assets/datasets", folder / "icalfa/assets/docker"
    data.mkdir(parents=True)
    image.mkdir(parents=True)
    (folder / "icalfa/__init__.py").write_text("raise ImportError('nothing of this package may be imported')")
    rows = [{"query": query, "gold": gold, "gold2": "", "difficulty": 1} for query, gold in tasks.items()]
    (data / "nl2bash_fs_1.json").write_text(json.dumps(rows))
    (image / "setup_nl2b_fs_1.sh").write_text(script)
    (image / "nl2bash1.Dockerfile").write_text('FROM scratch\nENV FRUIT="plum pear"\n')
