// User and group ids, capabilities, prctl's security switches.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

namespace {

struct Ids {
  uid_t real, effective, saved;
  bool operator==(const Ids&) const = default;
};

Ids uids() {
  Ids ids = {};
  CHECK_OK(getresuid(&ids.real, &ids.effective, &ids.saved));
  return ids;
}

Ids gids() {
  Ids ids = {};
  CHECK_OK(getresgid(&ids.real, &ids.effective, &ids.saved));
  return ids;
}

struct Capabilities {
  uint64_t effective, permitted, inheritable;
};

Capabilities capabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  CHECK_OK(syscall(SYS_capget, &header, data));
  auto join = [](uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; };
  return {join(data[0].effective, data[1].effective), join(data[0].permitted, data[1].permitted),
          join(data[0].inheritable, data[1].inheritable)};
}

int set_capabilities(const Capabilities& wanted) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {
      {static_cast<uint32_t>(wanted.effective), static_cast<uint32_t>(wanted.permitted),
       static_cast<uint32_t>(wanted.inheritable)},
      {static_cast<uint32_t>(wanted.effective >> 32), static_cast<uint32_t>(wanted.permitted >> 32),
       static_cast<uint32_t>(wanted.inheritable >> 32)}};
  return static_cast<int>(syscall(SYS_capset, &header, data));
}

// Whether this process may change ids at will, as root with CAP_SETUID and CAP_SETGID.
bool may_change_ids() {
  return guest::has_capability(CAP_SETUID) && guest::has_capability(CAP_SETGID) && geteuid() == 0;
}

constexpr uid_t kUser = 1234, kOther = 4321;

// glibc tells all threads; the kernel's own calls change one.
int raw_setresuid(uid_t real, uid_t effective, uid_t saved) {
  return static_cast<int>(syscall(SYS_setresuid, real, effective, saved));
}

}  // namespace

CASE(ids_agree) {
  CHECK_EQ(getuid(), uids().real);
  CHECK_EQ(geteuid(), uids().effective);
  CHECK_EQ(getgid(), gids().real);
  CHECK_EQ(getegid(), gids().effective);
  CHECK(uids() == (Ids{getuid(), getuid(), getuid()}));
}

CASE(an_ordinary_user_may_only_swap_his_own) {
  pid_t pid = guest::spawn([] {
    if (may_change_ids()) REQUIRE(setresuid(kUser, kUser, kUser) == 0);
    if (geteuid() == 0) return;  // root without capabilities is neither
    uid_t me = getuid();
    CHECK_OK(setuid(me));
    CHECK_OK(setresuid(me, me, me));
    CHECK_OK(setreuid(-1, me));
    CHECK_ERRNO(setuid(me + 1), EPERM);
    CHECK_ERRNO(setresuid(-1, me + 1, -1), EPERM);
    CHECK_ERRNO(setreuid(me + 1, -1), EPERM);
    CHECK_ERRNO(setgid(getgid() + 1), EPERM);
    CHECK_ERRNO(setresgid(-1, -1, getgid() + 1), EPERM);
    gid_t group = getgid();
    CHECK_ERRNO(setgroups(1, &group), EPERM);
    CHECK(uids() == (Ids{me, me, me}));
  });
  CHECK_EXIT(pid, 0);
}

CASE(root_gives_up_and_takes_back) {
  if (!may_change_ids()) return;
  pid_t pid = guest::spawn([] {
    CHECK_OK(seteuid(kUser));
    CHECK(uids() == (Ids{0, kUser, 0}));
    CHECK_EQ(capabilities().effective, 0);
    CHECK(capabilities().permitted != 0);
    CHECK_OK(seteuid(0));
    CHECK(capabilities().effective != 0);
    CHECK_OK(setresuid(kUser, kOther, 0));
    CHECK(uids() == (Ids{kUser, kOther, 0}));
    CHECK_OK(setresuid(-1, kUser, -1));
    CHECK_OK(setresuid(-1, 0, -1));  // the saved id
    CHECK_OK(setuid(kUser));         // privileged: all three
    CHECK(uids() == (Ids{kUser, kUser, kUser}));
    CHECK_EQ(capabilities().permitted, 0);
    CHECK_ERRNO(setuid(0), EPERM);
  });
  CHECK_EXIT(pid, 0);
}

CASE(setreuid_sets_the_saved_id) {
  if (!may_change_ids()) return;
  pid_t pid = guest::spawn([] {
    CHECK_OK(setreuid(kUser, kOther));
    CHECK(uids() == (Ids{kUser, kOther, kOther}));
  });
  CHECK_EXIT(pid, 0);
  pid = guest::spawn([] {
    CHECK_OK(setregid(kUser, kOther));
    CHECK(gids() == (Ids{kUser, kOther, kOther}));
    CHECK_OK(setgid(77));  // still root: all three
    CHECK(gids() == (Ids{77, 77, 77}));
  });
  CHECK_EXIT(pid, 0);
}

CASE(keepcaps) {
  int value = prctl(PR_GET_KEEPCAPS);
  CHECK_EQ(value, 0);
  CHECK_ERRNO(prctl(PR_SET_KEEPCAPS, 2), EINVAL);
  if (!may_change_ids()) return;
  pid_t pid = guest::spawn([] {
    uint64_t before = capabilities().permitted;
    CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
    CHECK_OK(raw_setresuid(kUser, kUser, kUser));
    CHECK_EQ(capabilities().permitted, before);
    CHECK_EQ(capabilities().effective, 0);
  });
  CHECK_EXIT(pid, 0);
}

CASE(supplementary_groups) {
  int count = getgroups(0, nullptr);
  CHECK(count >= 0);
  if (!may_change_ids()) return;
  pid_t pid = guest::spawn([] {
    gid_t groups[3] = {30, 10, 20}, back[4] = {};
    CHECK_OK(setgroups(3, groups));
    CHECK_EQ(getgroups(4, back), 3);
    CHECK_EQ(back[0], 10);  // kept sorted
    CHECK_EQ(back[2], 30);
    CHECK_ERRNO(getgroups(2, back), EINVAL);
    CHECK_OK(setgroups(0, nullptr));
    CHECK_EQ(getgroups(4, back), 0);
    CHECK_ERRNO(syscall(SYS_setgroups, 65537, groups), EINVAL);
  });
  CHECK_EXIT(pid, 0);
}

CASE(group_permission_by_supplementary_group) {
  if (!may_change_ids() || !guest::has_capability(CAP_CHOWN)) return;
  REQUIRE(guest::write_file("file", "x") && chown("file", 0, 555) == 0 && chmod("file", 0640) == 0);
  REQUIRE(chmod(".", 0755) == 0);
  for (bool member : {false, true}) {
    pid_t pid = guest::spawn([member] {
      gid_t group = 555;
      REQUIRE(setgroups(member ? 1 : 0, &group) == 0 && setgid(kUser) == 0 && setuid(kUser) == 0);
      CHECK_EQ(access("file", R_OK) == 0, member);
      CHECK_ERRNO(access("file", W_OK), EACCES);
    });
    CHECK_EXIT(pid, 0);
  }
}

CASE(fsuid) {
  uid_t me = getuid();
  CHECK_EQ(setfsuid(-1), me);
  if (!may_change_ids()) return;
  pid_t pid = guest::spawn([] {
    CHECK_EQ(setfsuid(kUser), 0);
    CHECK_EQ(setfsuid(-1), kUser);
    CHECK_EQ(geteuid(), 0);
    umask(0);
    REQUIRE(setfsuid(0) == kUser);
    REQUIRE(chmod(".", 0777) == 0);
    setfsuid(kUser);
    REQUIRE(guest::write_file("file", ""));
    struct stat info = {};
    CHECK_OK(stat("file", &info));
    CHECK_EQ(info.st_uid, kUser);
    CHECK_OK(seteuid(0));  // resets it
    CHECK_EQ(setfsuid(-1), 0);
  });
  CHECK_EXIT(pid, 0);
}

CASE(capget_and_capset_versions) {
  __user_cap_header_struct header = {0, 0};
  CHECK_ERRNO(syscall(SYS_capget, &header, 8), EINVAL);
  CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);  // answers with what it prefers
  header = {0, 0};
  CHECK_OK(syscall(SYS_capget, &header, nullptr));
  header = {_LINUX_CAPABILITY_VERSION_3, 0x3ffffffe};
  __user_cap_data_struct data[2] = {};
  CHECK_ERRNO(syscall(SYS_capget, &header, data), ESRCH);
  header = {_LINUX_CAPABILITY_VERSION_3, 1};
  CHECK_ERRNO(syscall(SYS_capset, &header, data), EPERM);  // only oneself
}

CASE(capabilities_only_shrink) {
  REQUIRE(guest::write_file("file", ""));
  pid_t pid = guest::spawn([] {
    Capabilities mine = capabilities();
    Capabilities less = mine;
    less.effective = 0;
    CHECK_OK(set_capabilities(less));
    CHECK_OK(set_capabilities({mine.permitted, mine.permitted, mine.inheritable}));
    CHECK_OK(set_capabilities({0, 0, 0}));
    CHECK_EQ(capabilities().permitted, 0);
    CHECK_ERRNO(set_capabilities({1, 1, 0}), EPERM);
    CHECK_ERRNO(set_capabilities({1, 0, 0}), EPERM);
    CHECK_ERRNO(chown("file", geteuid() + 1, -1), EPERM);
  });
  CHECK_EXIT(pid, 0);
}

CASE(bounding_set) {
  CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 0 || prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1);
  CHECK_ERRNO(prctl(PR_CAPBSET_READ, 99), EINVAL);
  if (!guest::has_capability(CAP_SETPCAP)) {
    CHECK_ERRNO(prctl(PR_CAPBSET_DROP, CAP_CHOWN), EPERM);
    return;
  }
  CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_CHOWN));
  CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 0);
}

CASE(ambient_set) {
  CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 0);
  CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  CHECK_ERRNO(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0),
              EPERM);  // not inheritable
  CHECK_ERRNO(prctl(PR_CAP_AMBIENT, 99, 0, 0, 0), EINVAL);
}

CASE(no_new_privs) {
  int before = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  CHECK(before == 0 || before == 1);
  CHECK_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
  CHECK_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0), EINVAL);
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  pid_t pid = guest::spawn([] { CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1); });
  CHECK_EXIT(pid, 0);
}

CASE(dumpable) {
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
  CHECK_OK(prctl(PR_SET_DUMPABLE, 0));
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
  CHECK_ERRNO(prctl(PR_SET_DUMPABLE, 2), EINVAL);
  CHECK_OK(prctl(PR_SET_DUMPABLE, 1));
}

CASE(securebits) {
  CHECK_EQ(prctl(PR_GET_SECUREBITS), 0);
  if (!guest::has_capability(CAP_SETPCAP)) {
    CHECK_ERRNO(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS), EPERM);
    return;
  }
  CHECK_OK(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP));
  CHECK_EQ(prctl(PR_GET_SECUREBITS), SECBIT_NO_SETUID_FIXUP);
  CHECK_ERRNO(prctl(PR_SET_SECUREBITS, 0x10000), EPERM);
}

CASE(other_prctls) {
  char name[16] = {};
  CHECK_OK(prctl(PR_SET_NAME, "short"));
  CHECK_OK(prctl(PR_GET_NAME, name));
  CHECK_EQ(std::string(name), "short");
  CHECK_ERRNO(prctl(PR_SET_NAME, 8), EFAULT);
  CHECK_OK(prctl(PR_SET_TIMERSLACK, 100000));
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 100000);
  CHECK_ERRNO(prctl(0x7fffffff), EINVAL);
  CHECK_EQ(prctl(PR_GET_SECCOMP) == 0 || prctl(PR_GET_SECCOMP) == 2, true);
}

CASE(prctls_about_the_machine) {
  int mode = 0;
  CHECK_OK(prctl(PR_GET_TSC, &mode));
  CHECK_EQ(mode, PR_TSC_ENABLE);
  CHECK_OK(prctl(PR_SET_TSC, PR_TSC_ENABLE));
  CHECK_ERRNO(prctl(PR_SET_TSC, 3), EINVAL);
  CHECK_ERRNO(prctl(PR_GET_TSC, 8), EFAULT);
  CHECK_EQ(prctl(PR_GET_TIMING), PR_TIMING_STATISTICAL);
  CHECK_OK(prctl(PR_SET_TIMING, PR_TIMING_STATISTICAL));
  CHECK_ERRNO(prctl(PR_SET_TIMING, PR_TIMING_TIMESTAMP), EINVAL);
  CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_DEFAULT);
  CHECK_ERRNO(prctl(PR_MCE_KILL_GET, 1, 0, 0, 0), EINVAL);
  CHECK_OK(prctl(PR_TASK_PERF_EVENTS_DISABLE));
  CHECK_OK(prctl(PR_TASK_PERF_EVENTS_ENABLE));
}

CASE(huge_pages_of_a_process) {
  const auto disabled = [] { return prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0); };
  CHECK_EQ(disabled(), 0);
  CHECK_ERRNO(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
  CHECK_ERRNO(prctl(PR_SET_THP_DISABLE, 1, 0, 1, 0), EINVAL);
  CHECK_ERRNO(prctl(PR_SET_THP_DISABLE, 0, 1, 0, 0), EINVAL);
  CHECK_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  CHECK_EQ(disabled(), 1);
  pid_t pid = guest::spawn([&] {
    CHECK_EQ(disabled(), 1);
    CHECK_OK(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
    CHECK_EQ(disabled(), 0);
  });
  CHECK_EXIT(pid, 0);
  CHECK_EQ(disabled(), 1);
  pid = guest::spawn([] {
    const char* argv[] = {"x", "--role", "huge_pages_after_exec", nullptr};
    execve(guest::self_path(), const_cast<char**>(argv), environ);
  });
  CHECK_EXIT(pid, 1);
}

ROLE(huge_pages_after_exec) { return prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0); }

CASE(speculation_controls) {
  constexpr int kHighest = PR_SPEC_DISABLE_NOEXEC;
  for (int feature : {PR_SPEC_STORE_BYPASS, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_L1D_FLUSH}) {
    int state = prctl(PR_GET_SPECULATION_CTRL, feature, 0, 0, 0);
    CHECK(state >= 0 && state < 2 * kHighest);
  }
  std::string status = guest::read_file("/proc/self/status");
  bool shown = status.find("Speculation_Store_Bypass:\tvulnerable\n") != std::string::npos;
  int state = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
  CHECK_EQ(state == PR_SPEC_ENABLE, shown);
  CHECK_ERRNO(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 1, 0, 0), EINVAL);
  CHECK_ERRNO(prctl(PR_GET_SPECULATION_CTRL, 99, 0, 0, 0), ENODEV);
  CHECK_ERRNO(prctl(PR_SET_SPECULATION_CTRL, 99, PR_SPEC_ENABLE, 0, 0), ENODEV);
  CHECK_ERRNO(prctl(PR_SET_SPECULATION_CTRL, 0, PR_SPEC_ENABLE, 1, 0), EINVAL);
}

CASE(permission_to_signal_others) {
  if (!may_change_ids()) return;
  pid_t victim = fork();
  if (victim == 0) {
    for (;;) pause();
  }
  pid_t pid = guest::spawn([victim] {
    REQUIRE(setuid(kUser) == 0);
    CHECK_ERRNO(kill(victim, SIGTERM), EPERM);
    CHECK_ERRNO(kill(victim, 0), EPERM);
    CHECK_ERRNO(kill(1, 0), EPERM);
  });
  CHECK_EXIT(pid, 0);
  kill(victim, SIGKILL);
  CHECK_KILLED(victim, SIGKILL);
}

CASE(exec_as_a_user_has_no_capabilities) {
  if (!may_change_ids()) return;
  pid_t pid = fork();
  if (pid == 0) {
    if (setresuid(kUser, kUser, kUser) != 0) _exit(8);
    execl(guest::self_path(), "x", "--role", "has_none", nullptr);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

ROLE(has_none) {
  Capabilities mine = capabilities();
  return mine.effective == 0 && mine.permitted == 0 && getuid() == kUser ? 0 : 1;
}
