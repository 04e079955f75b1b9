"""A small program with honest work and three things a sandbox should stop.

Run it natively and under boxrun: the work gives the same result, the three attempts do not.
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading


def count_primes(limit, totals, index):
    totals[index] = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, limit))


def work():
    totals = [0] * 4
    threads = [threading.Thread(target=count_primes, args=(2000 * (i + 1), totals, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"threads:    primes below 2000, 4000, 6000, 8000: {totals}")

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "numbers.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{n}\n" for n in range(1000, 0, -1))
        with open(path, encoding="utf-8") as file:
            numbers = sorted(int(line) for line in file)
        print(f"files:      sorted {len(numbers)} lines, first {numbers[0]}, last {numbers[-1]}")

    script = "import sys; print(sum(map(int, sys.stdin)))"
    child = subprocess.run([sys.executable, "-c", script], input="1\n2\n3\n", capture_output=True, text=True, check=True)
    print(f"subprocess: a child python added up to {child.stdout.strip()}")


def attempt(what, action):
    try:
        result = action()
    except OSError as error:
        result = errno.errorcode.get(error.errno, str(error)) if error.errno else "timed out"
    print(f"attempt:    {what}: {result}")


def read_passwords():
    with open("/etc/shadow", "rb"):
        return "could be read"


def call_home():
    # 203.0.113.0/24 is set aside for documentation (RFC 5737): nobody answers there.
    with socket.create_connection(("203.0.113.9", 443), timeout=0.5):
        return "connected"


def load_bpf():
    libc = ctypes.CDLL(None, use_errno=True)
    bpf = 321  # x86-64; command 0 without attributes is an error for everybody
    if libc.syscall(bpf, 0, None, 0) < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return "allowed"


if __name__ == "__main__":
    work()
    attempt("read /etc/shadow", read_passwords)
    attempt("connect to 203.0.113.9:443", call_home)
    attempt("call bpf(2)", load_bpf)
