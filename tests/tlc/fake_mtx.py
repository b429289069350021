"""A program that behaves as mtx does, in front of a library that is a file: what `mtx status` prints.

fake_mtx.py DIR -f CHANGER COMMAND [ARGUMENT...]

DIR holds status.txt. Every call is added to calls.txt. A file named after a command (DIR/load) says how it fails:
its first line is the exit status, or "hang", or "die"; what follows is printed on the standard error. If the first
line ends with "once", that happens once.
"""

import os
import re
import sys
import time
from pathlib import Path

ELEMENT = re.compile(r"(\s*(?:Data Transfer|Storage) Element (\d+)(?: IMPORT/EXPORT)?:)(Full|Empty)(.*)")
LABEL = re.compile(r":VolumeTag ?= ?(\S+)")


def main(directory: Path, command: str, *arguments: str) -> int:
    with (directory / "calls.txt").open("a") as calls:
        calls.write(" ".join((command, *arguments)) + "\n")
    fault = directory / command
    if fault.exists():
        how, _, text = fault.read_text().partition("\n")
        if how.endswith("once"):
            fault.unlink()
        sys.stderr.write(text)
        sys.stderr.flush()
        if how.startswith("hang"):
            (directory / "hanging").write_text(str(os.getpid()))
            time.sleep(3600)
        if how.startswith("die"):
            os.abort()
        return int(how.split()[0])
    if command in ("load", "unload", "transfer") and (directory / "slow-moves").exists():
        (directory / "moving").touch()
        while (directory / "slow-moves").exists():
            time.sleep(0.01)
    status = directory / "status.txt"
    match command:
        case "status":
            sys.stdout.write(status.read_text())
        case "inquiry":
            sys.stdout.write("Product Type: Medium Changer\nVendor ID: 'FAKE    '\n")
        case "load":
            return move(status, ("Storage", arguments[0]), ("Data Transfer", arguments[1]))
        case "unload":
            return move(status, ("Data Transfer", arguments[1]), ("Storage", arguments[0]))
        case "transfer":
            return move(status, ("Storage", arguments[0]), ("Storage", arguments[1]))
    return 0


def move(status: Path, source: tuple[str, str], target: tuple[str, str]) -> int:
    lines = status.read_text().splitlines()
    at = {name: number for number, line in enumerate(lines) if (name := name_of(line))}
    taken, put = ELEMENT.match(lines[at[source]]), ELEMENT.match(lines[at[target]])
    if taken is None or taken[3] != "Full":
        sys.stderr.write(f"source Element Address {source[1]} is Empty\n")
        return 1
    if put is None or put[3] != "Empty":
        sys.stderr.write(f"destination Element Address {target[1]} is Already Full\n")
        return 1
    label = LABEL.search(taken[4])
    origin = f" (Storage Element {source[1]} Loaded)" if target[0] == "Data Transfer" else " "
    equals = " = " if target[0] == "Data Transfer" else "="
    lines[at[source]] = taken[1] + "Empty"
    lines[at[target]] = put[1] + "Full" + origin + (f":VolumeTag{equals}{label[1]}" if label else "")
    fresh = status.with_suffix(".new")
    fresh.write_text("\n".join(lines) + "\n")
    fresh.replace(status)
    sys.stdout.write(f"Moving media from {' Element '.join(source)} to {' Element '.join(target)}...done\n")
    return 0


def name_of(line: str) -> tuple[str, str] | None:
    found = ELEMENT.match(line)
    return (found[1].split(" Element")[0].strip(), found[2]) if found else None


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[4:]))
