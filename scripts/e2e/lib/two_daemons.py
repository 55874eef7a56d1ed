"""Two daemons on one state root: exactly one serves, by whatever path the other comes, and the loser touches nothing."""

import os
import pathlib
import shutil
import subprocess
import time

import house as h

# What a serving daemon itself writes while the loser is refused; nothing of it is the loser's.
OWN = ("LOCK", "index")
WITHIN = 1.5


def still(daemon):
    """Waits until the winner writes nothing more."""
    time.sleep(0.4)
    return h.tree(daemon.state, without=OWN)


def demand_refused(house, daemon, path):
    """A second daemon by this path is refused quickly and changes nothing."""
    before, lock = still(daemon), (daemon.state / "LOCK").read_bytes()
    began = time.monotonic()
    second = house.launch(house.arguments(state=path), stderr=subprocess.PIPE)
    words = second.communicate(timeout=10)[1].decode()
    took = time.monotonic() - began
    h.demand(second.returncode == 1 and "state_root.locked" in words, f"by {path} it ends {second.returncode}: {words}")
    h.demand(took < WITHIN, f"by {path} the refusal takes {took:.2f} s")
    after = h.tree(daemon.state, without=OWN)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    h.demand(not changed, f"by {path} the loser touched {changed}")
    h.demand((daemon.state / "LOCK").read_bytes() == lock, "the loser changed the words in LOCK")
    h.demand(str(daemon.process.pid) in words, f"the refusal does not name the holder: {words}")
    daemon.create("the winner serves on")
    return took


def race(house):
    rounds = 12
    for _ in range(rounds):
        both = [house.launch(house.arguments(), stderr=subprocess.PIPE) for _ in range(2)]
        began = time.monotonic()
        h.until(10, "one of the two ends", lambda: any(process.poll() is not None for process in both))
        took = time.monotonic() - began
        loser, winner = sorted(both, key=lambda process: process.poll() is None)
        words = loser.stderr.read().decode()
        h.demand(loser.returncode == 1 and "state_root.locked" in words, f"the loser ends {loser.returncode}: {words}")
        h.demand(took < WITHIN, f"the loser takes {took:.2f} s")
        h.until(10, "the winner serves", lambda: str(winner.pid) in read(house.state / "daemon.json"))
        daemon = h.Daemon(winner, __import__("json").loads(read(house.state / "daemon.json"))["address"], house.state)
        daemon.create()
        winner.stderr.close()
        h.demand(daemon.stop()[0] == 0, "the winner does not drain")
    house.demand_valid()
    return f"of two daemons that start at the same instant exactly one serves, {rounds} times of {rounds}"


def read(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def paths(house):
    daemon = house.start()
    (house.path / "link").symlink_to(house.state)
    (house.path / "folder").mkdir()
    (house.path / "folder/link").symlink_to("../state")
    ways = [house.state, house.path / "link", house.path / "folder/link", f"{house.path}/./state/../state/"]
    mounted = house.path / "mounted"
    mounted.mkdir()
    words = "a bind mount"
    if os.geteuid() == 0 and subprocess.run(["mount", "--bind", house.state, mounted], capture_output=True).returncode == 0:
        ways.append(mounted)
    else:
        words = "no bind mount, which is not permitted here (SKIPPED)"
    try:
        slowest = max(demand_refused(house, daemon, way) for way in ways)
    finally:
        if mounted in ways:
            subprocess.run(["umount", mounted], check=True)
    return f"by the same path, symbolic links, another spelling and {words} the second is refused in at most {slowest:.2f} s and changes no byte, name or mode"


def leftovers(house):
    """The lock dies with its process; a copied or stale daemon.json and LOCK stop nobody."""
    daemon = house.start()
    daemon.kill()
    h.demand((house.state / "daemon.json").exists(), "the kill left no stale file, so this proves nothing")
    (house.state / "LOCK").write_text(f"pid {os.getpid()} boot_x\n")
    daemon = house.start()
    daemon.create()
    daemon.stop()
    return "words of a dead process in LOCK and daemon.json stop nobody"


def control(house):
    first = house.start()
    second = house.start(state=house.path / "other")
    h.demand(first.create() and second.create(), "two roots do not serve side by side")
    h.must_fail("two daemons on different roots", lambda: demand_refused_elsewhere(house, first))
    before = still(first)
    first.create("this touches the root")
    h.must_fail("a touched state root", lambda: h.demand(h.tree(first.state, OWN) == before, "the tree differs"))
    return "two daemons on two roots both serve, and the comparison sees a touched root"


def demand_refused_elsewhere(house, daemon):
    shutil.copytree(daemon.state, house.path / "copied")
    pathlib.Path(house.path / "copied/daemon.json").unlink()
    third = house.launch(house.arguments(state=house.path / "copied"), stderr=subprocess.PIPE)
    try:
        third.communicate(timeout=2)
    except subprocess.TimeoutExpired:
        third.terminate()
        third.communicate(timeout=15)
        raise h.Failed("it serves instead of being refused") from None


h.main("two_daemons", [control, race, paths, leftovers])
