#!/usr/bin/env python3
"""The first process of a machine of `world.py`: a network, mounts and processes of its own, which all end with it.

It takes JSON lines on stdin and answers on stdout, by `id`:

    {"id": 1, "do": "start", "name": "edgecore", "argv": [...], "log": "...", "environment": {...}}
    {"id": 2, "do": "signal", "name": "edgecore", "signal": 9}
    {"id": 3, "do": "run", "argv": [...], "input": "..."}       runs to its end: code, out, err
    {"id": 4, "do": "http", "port": 6081, "path": "/metrics"}   code and body, from the machine's own loopback

When a started process ends, it says so without being asked: {"ended": "edgecore", "pid": 7, "status": -9}.
"""
import http.client
import json
import os
import subprocess
import sys
import threading
import time

speaking = threading.Lock()
changed = threading.Condition()
ended = {}  # status by pid
started = {}  # (name, pid) of daemons


def say(message):
    with speaking:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def reap():
    """Everything that is orphaned here becomes this process's child."""
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.02)
            continue
        with changed:
            ended[pid] = os.waitstatus_to_exitcode(status)
            name = next((name for name, known in started.items() if known == pid), None)
            if name:
                del started[name]
                say({"ended": name, "pid": pid, "status": ended[pid]})
            changed.notify_all()


def spawn(argv, **options):
    return subprocess.Popen(argv, start_new_session=True, **options)


def start(command):
    environment = dict(os.environ, **command.get("environment", {}))
    with open(command["log"], "ab") as log, changed:
        child = spawn(command["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        started[command["name"]] = child.pid
    return {"pid": child.pid}


def run(command):
    child = spawn(
        command["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = {}
    threads = [
        threading.Thread(target=lambda name=name, pipe=pipe: out.__setitem__(name, pipe.read()))
        for name, pipe in (("out", child.stdout), ("err", child.stderr))]
    for thread in threads:
        thread.start()
    try:
        child.stdin.write(command.get("input", ""))
        child.stdin.close()
    except OSError:
        pass
    for thread in threads:
        thread.join()
    with changed:
        changed.wait_for(lambda: child.pid in ended)
        return {"code": ended.pop(child.pid), **out}


def http_get(command):
    connection = http.client.HTTPConnection("127.0.0.1", command["port"], timeout=10)
    try:
        connection.request("GET", command["path"])
        answer = connection.getresponse()
        return {"code": answer.status, "body": answer.read().decode()}
    finally:
        connection.close()


def send_signal(command):
    with changed:
        pid = started.get(command["name"])
        if pid is None:
            return {"sent": False}
        os.kill(pid, command["signal"])
        return {"sent": True, "pid": pid}


def handle(command):
    actions = {"start": start, "signal": send_signal, "run": run, "http": http_get}
    try:
        answer = actions[command["do"]](command)
    except Exception as error:  # whatever went wrong is the asker's to judge
        answer = {"error": f"{type(error).__name__}: {error}"}
    say({"id": command["id"], **answer})


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def prepare():
    """What a booted machine has fresh: /run, shared memory, and a /sys that shows its own network."""
    mount("-t", "tmpfs", "tmpfs", "/dev/shm")
    mount("-t", "tmpfs", "tmpfs", "/run")
    os.mkdir("/run/cgroups")
    mount("--rbind", "/sys/fs/cgroup", "/run/cgroups")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("--rbind", "/run/cgroups", "/sys/fs/cgroup")
    subprocess.run(["umount", "-R", "-l", "/run/cgroups"], check=True)
    os.rmdir("/run/cgroups")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def main():
    prepare()
    threading.Thread(target=reap, daemon=True).start()
    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] in ("run", "http"):
            threading.Thread(target=handle, args=(command,), daemon=True).start()
        else:
            handle(command)
    os._exit(0)


if __name__ == "__main__":
    main()
