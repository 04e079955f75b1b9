# needs: python3
import os, signal, subprocess, sys
print(subprocess.run(["echo", "hello"], capture_output=True, text=True))
print(subprocess.check_output("seq 5 | tac", shell=True))
print(subprocess.run([sys.executable, "-c", "import sys; sys.exit(9)"]).returncode)
p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE); print(len(p.communicate(b"x" * 1000000)[0]), p.returncode)
p = subprocess.Popen(["sleep", "10"]); p.terminate(); print(p.wait())
try: subprocess.run(["sleep", "10"], timeout=0.1)
except subprocess.TimeoutExpired as e: print("timeout", e.cmd)
for bad in (["/no/such/program"], ["/etc/passwd"], ["."]):
    try: subprocess.run(bad)
    except OSError as e: print(type(e).__name__, e.errno)
print(subprocess.run(["sh", "-c", "echo $A; pwd; ls -l /proc/self/fd | wc -l"], env={"A": "b", "PATH": os.environ["PATH"]}, cwd="/", capture_output=True).stdout)
print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL)
r, w = os.pipe(); print(subprocess.run(["sh", "-c", f"echo passed >&{w}"], pass_fds=[w]).returncode, os.read(r, 100))
p = subprocess.Popen(["sh", "-c", "sleep 10 & sleep 10"], start_new_session=True); os.killpg(p.pid, signal.SIGTERM); print(p.wait())
ps = [subprocess.Popen(["sh", "-c", f"exit {i}"]) for i in range(20)]; print([p.wait() for p in ps])
print(os.system("exit 3") >> 8, os.popen("echo popen").read()); pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
