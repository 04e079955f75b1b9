#!/usr/bin/env python3
"""identity_main_test.py BOXRUN: who the target is, and whose its files are (DESIGN 12a).

Registered three times: as whoever runs the tests, as an ordinary user, and with namespaces,
capabilities and new privileges taken away. What needs root is tested where the test is root.
"""

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

BOXRUN = None
BOUND = 60
ROOT = os.geteuid() == 0
SOMEBODY = 1234  # a user that nobody has to know
NOBODY = 65534

# What a container's root has: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP
# NET_BIND_SERVICE SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP (capabilities(7)).
ROOT_CAPABILITIES = sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31))


def may_change_owners():
    """Whether this process could give a file away: root that has kept CAP_CHOWN."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & 1)
    return False


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="boxrun-identity-")
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, True)

    def boxed(self, *words, env=None):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
        environment.update(env or {})
        return subprocess.run([BOXRUN, "--report-on", "never", *words], cwd=self.folder, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOUND)

    def told(self, *words, env=None):
        run = self.boxed(*words, env=env)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout.split()


class Own(Case):
    def test_the_target_is_whoever_started_it(self):
        me = [str(os.geteuid()), str(os.getegid())]
        self.assertEqual(self.told("sh", "-c", "id -u; id -g"), me)
        self.assertEqual(self.told("sh", "-c", "id -ru; id -rg"), me)
        groups = {int(word) for word in self.told("id", "-G")}
        self.assertEqual(groups, set(os.getgroups()) | {os.getegid()})

    def test_an_ordinary_user_has_no_capabilities_and_root_has_few(self):
        words = self.told("sed", "-n", "s/^Cap\\(Prm\\|Eff\\|Inh\\|Amb\\):/\\1/p", "/proc/self/status")
        sets = {words[i]: int(words[i + 1], 16) for i in range(0, len(words), 2)}
        wanted = ROOT_CAPABILITIES if ROOT else 0
        self.assertEqual(sets, {"Inh": 0, "Prm": wanted, "Eff": wanted, "Amb": 0})

    def test_system_files_belong_to_root(self):
        # In a user namespace of one id the host shows them as 65534 (user_namespaces(7)).
        self.assertEqual(self.told("stat", "-c", "%u %g", "/usr", "/etc/hostname", "/"), ["0", "0"] * 3)

    def test_own_files_are_owned(self):
        pathlib.Path(self.folder, "mine").write_text("x", encoding="ascii")
        me = [str(os.geteuid()), str(os.getegid())]
        self.assertEqual(self.told("stat", "-c", "%u %g", "mine", "."), me + me)
        self.assertEqual(self.told("sh", "-c", "chmod 600 mine; touch new; stat -c '%a %u' mine new"),
                         ["600", me[0], "644", me[0]])

    def test_files_written_through_are_owned_outside(self):
        self.told("--rw", ".", "sh", "-c", "echo x >new; mkdir dir; ln -s new link; chmod 640 new")
        for name in ("new", "dir", "link"):
            status = os.lstat(os.path.join(self.folder, name))
            self.assertEqual((status.st_uid, status.st_gid), (os.geteuid(), os.getegid()), name)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.folder, "new")).st_mode), 0o640)

    @unittest.skipIf(ROOT, "root may")
    def test_an_ordinary_user_gives_nothing_away(self):
        run = self.boxed("--rw", ".", "sh", "-c", "echo x >new; chown 0 new || chgrp 0 new")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("not permitted", run.stderr)
        self.assertEqual(os.stat(os.path.join(self.folder, "new")).st_uid, os.geteuid())

    @unittest.skipIf(ROOT, "root may")
    def test_only_root_may_be_somebody_else(self):
        run = self.boxed("--user", "root", "true")
        self.assertEqual(run.returncode, 125)
        self.assertIn("only root", run.stderr)
        # In an ordinary user's environment SUDO_UID means nothing.
        self.assertEqual(self.told("id", "-u", env={"SUDO_UID": "0"}), [str(os.geteuid())])


@unittest.skipUnless(ROOT, "needs root")
class Other(Case):
    def test_user_picks_another(self):
        self.assertEqual(self.told("--user", str(SOMEBODY), "sh", "-c", "id -u; id -g"), [str(SOMEBODY)] * 2)
        self.assertEqual(self.told("--user", "nobody", "id", "-u"), ["65534"])
        run = self.boxed("--user", "no-such-user", "true")
        self.assertEqual(run.returncode, 125)

    def test_another_user_has_no_capabilities(self):
        words = self.told("--user", str(SOMEBODY), "sed", "-n", "s/^Cap\\(Prm\\|Eff\\):/\\1/p", "/proc/self/status")
        self.assertEqual({int(word, 16) for word in words[1::2]}, {0})

    def test_sudo_acts_for_the_user_behind_it(self):
        # 65534 is the one ordinary user that every system knows.
        self.assertEqual(self.told("id", "-u", env={"SUDO_UID": "65534"}), ["65534"])
        self.assertEqual(self.told("--user", "root", "id", "-u", env={"SUDO_UID": "65534"}), ["0"])
        self.assertEqual(self.told("id", "-u", env={"SUDO_UID": "0"}), ["0"])

    @unittest.skipUnless(may_change_owners(), "needs CAP_CHOWN")
    def test_files_are_owned_by_the_guests_user(self):
        os.chown(self.folder, SOMEBODY, SOMEBODY)
        self.told("--user", str(SOMEBODY), "--rw", ".", "sh", "-c", "echo x >new; mkdir dir")
        for name in ("new", "dir"):
            status = os.stat(os.path.join(self.folder, name))
            self.assertEqual((status.st_uid, status.st_gid), (SOMEBODY, SOMEBODY), name)

    @unittest.skipUnless(may_change_owners(), "needs CAP_CHOWN")
    def test_root_gives_files_away(self):
        self.told("--rw", ".", "sh", "-c", f"echo x >new; chown {SOMEBODY}:{SOMEBODY} new")
        self.assertEqual(os.stat(os.path.join(self.folder, "new")).st_uid, SOMEBODY)

    @unittest.skipUnless(may_change_owners(), "needs CAP_CHOWN")
    def test_nobody_owns_his_files(self):
        # His number is also what stands for owners without one; as another's caller and as the caller himself.
        os.chown(self.folder, NOBODY, NOBODY)
        path = os.path.join(self.folder, "mine")
        pathlib.Path(path).write_text("x", encoding="ascii")
        os.chmod(path, 0o600)
        os.chown(path, NOBODY, NOBODY)
        script = "cat mine >new && chmod 640 new && stat -c '%u %g' mine new . "
        wanted = ["65534"] * 6
        self.assertEqual(self.told("--user", str(NOBODY), "sh", "-c", script + "&& stat -c %u /usr"), wanted + ["0"])
        for group, groups in ((NOBODY, wanted), (SOMEBODY, ["65534", "0", "65534", str(SOMEBODY), "65534", "0"])):
            run = subprocess.run([BOXRUN, "--report-on", "never", "sh", "-c", script], cwd=self.folder,
                                 env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"}, user=NOBODY, group=group,
                                 extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                 timeout=BOUND)
            self.assertEqual((run.returncode, run.stderr, run.stdout.split()), (0, "", groups))

    def test_another_user_is_held_to_permissions(self):
        secret = os.path.join(self.folder, "secret")
        pathlib.Path(secret).write_text("x", encoding="ascii")
        os.chmod(secret, 0o600)
        run = self.boxed("--user", str(SOMEBODY), "cat", "secret")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("Permission denied", run.stderr)

    def test_setuid_bits_of_mounted_files_are_ignored(self):
        # A real program of the host: root's, and setuid.
        program = os.path.join(self.folder, "id")
        shutil.copy("/usr/bin/id", program)
        os.chmod(program, 0o6755)
        self.assertEqual(self.told("stat", "-c", "%a", "id"), ["6755"])
        self.assertEqual(self.told("--user", str(SOMEBODY), "sh", "-c", "./id -u; ./id -g"), [str(SOMEBODY)] * 2)
        self.assertEqual(self.told("--user", str(SOMEBODY), "--ro", f"{self.folder}:/mnt", "/mnt/id", "-u"), [str(SOMEBODY)])


if __name__ == "__main__":
    # As execvp has it, a folder of PATH that cannot be searched makes a missing command a forbidden one.
    os.environ["PATH"] = "/usr/bin:/bin"
    os.umask(0o022)
    BOXRUN = os.path.abspath(sys.argv.pop(1))
    unittest.main()
