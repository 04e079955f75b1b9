// The files of /proc that programs and libc read.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <map>
#include <sstream>
#include <vector>

#include "tests/guest/guest_test.h"

namespace {

std::vector<std::string> lines_of(const char* path) {
  std::istringstream stream(guest::read_file(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The value of `Name:\tvalue` in /proc/PID/status, blanks trimmed.
std::string status_field(const char* name, const char* path = "/proc/self/status") {
  for (const std::string& line : lines_of(path)) {
    if (line.rfind(std::string(name) + ":", 0) != 0) continue;
    size_t start = line.find_first_not_of(" \t", strlen(name) + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "(missing)";
}

std::string link_target(const char* path) {
  char target[4096] = {};
  ssize_t length = readlink(path, target, sizeof target - 1);
  return length < 0 ? "(" + guest::errno_text(errno) + ")"
                    : std::string(target, static_cast<size_t>(length));
}

struct Mapping {
  uintptr_t start, end;
  std::string permissions, name;
};

std::vector<Mapping> mappings() {
  std::vector<Mapping> all;
  for (const std::string& line : lines_of("/proc/self/maps")) {
    unsigned long start = 0, end = 0, offset = 0, inode = 0;
    unsigned major = 0, minor = 0;
    char permissions[5] = {}, name[1024] = {};
    int fields = sscanf(line.c_str(), "%lx-%lx %4s %lx %x:%x %lu %1023s", &start, &end, permissions,
                        &offset, &major, &minor, &inode, name);
    CHECK(fields >= 7);
    all.push_back({start, end, permissions, name});
  }
  return all;
}

const Mapping* mapping_of(const std::vector<Mapping>& all, const void* address) {
  auto value = reinterpret_cast<uintptr_t>(address);
  for (const Mapping& mapping : all) {
    if (mapping.start <= value && value < mapping.end) return &mapping;
  }
  return nullptr;
}

}  // namespace

CASE(self_is_a_link_to_the_pid) {
  CHECK_EQ(link_target("/proc/self"), std::to_string(getpid()));
  CHECK_EQ(link_target("/proc/thread-self"),
           std::to_string(getpid()) + "/task/" + std::to_string(syscall(SYS_gettid)));
  struct stat info = {};
  CHECK_OK(stat("/proc/self/", &info));
  CHECK(S_ISDIR(info.st_mode));
  CHECK_EQ(info.st_mode & 07777, 0555);
  CHECK_ERRNO(stat("/proc/999999999", &info), ENOENT);
}

CASE(links) {
  CHECK_EQ(link_target("/proc/self/exe"), guest::self_path());
  char cwd[4096];
  REQUIRE(getcwd(cwd, sizeof cwd) != nullptr);
  CHECK_EQ(link_target("/proc/self/cwd"), std::string(cwd));
  CHECK_EQ(link_target("/proc/self/root"), "/");
  CHECK_EQ(link_target("/proc/mounts"), "self/mounts");
  int fd = open("/proc/self/exe", O_RDONLY);
  char magic[4] = {};
  CHECK_EQ(read(fd, magic, 4), 4);
  CHECK_EQ(memcmp(magic, "\177ELF", 4), 0);
}

CASE(cmdline_and_comm) {
  std::string command = guest::read_file("/proc/self/cmdline");
  CHECK_EQ(command.substr(0, command.find('\0')), guest::self_path());
  CHECK_EQ(guest::read_file("/proc/self/comm"), "proc_files\n");
  prctl(PR_SET_NAME, "renamed");
  CHECK_EQ(guest::read_file("/proc/self/comm"), "renamed\n");
  REQUIRE(guest::write_file("/proc/self/comm", "by file"));
  char name[16] = {};
  prctl(PR_GET_NAME, name);
  CHECK_EQ(std::string(name), "by file");
}

CASE(environ_is_the_initial_one) {
  pid_t pid = fork();
  if (pid == 0) {
    const char* argv[] = {"x", "--role", "check_environment", nullptr};
    const char* envp[] = {"ONE=1", "TWO=2", nullptr};
    execve(guest::self_path(), const_cast<char**>(argv), const_cast<char**>(envp));
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

ROLE(check_environment) {
  setenv("ONE", "changed", 1);
  return guest::read_file("/proc/self/environ") == std::string("ONE=1\0TWO=2\0", 12) ? 0 : 1;
}

CASE(status_of_oneself) {
  CHECK_EQ(status_field("Name"), "proc_files");
  CHECK_EQ(status_field("State"), "R (running)");
  CHECK_EQ(status_field("Pid"), std::to_string(getpid()));
  CHECK_EQ(status_field("Tgid"), std::to_string(getpid()));
  CHECK_EQ(status_field("PPid"), std::to_string(getppid()));
  CHECK_EQ(status_field("TracerPid"), "0");
  CHECK_EQ(status_field("Threads"), "1");
  std::string uid = std::to_string(getuid());
  CHECK_EQ(status_field("Uid"), uid + "\t" + uid + "\t" + uid + "\t" + uid);
  CHECK(atol(status_field("VmRSS").c_str()) > 0);
  CHECK(atol(status_field("VmSize").c_str()) > 0);
  umask(027);
  CHECK_EQ(status_field("Umask"), "0027");
}

CASE(status_shows_signals) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  raise(SIGUSR1);
  signal(SIGUSR2, SIG_IGN);
  signal(SIGTERM, [](int) {});
  CHECK_EQ(status_field("SigBlk"), "0000000000000200");
  CHECK_EQ(strtoul(status_field("SigPnd").c_str(), nullptr, 16) & 0x200, 0x200);
  CHECK_EQ(strtoul(status_field("SigIgn").c_str(), nullptr, 16) & 0x800, 0x800);
  CHECK_EQ(strtoul(status_field("SigCgt").c_str(), nullptr, 16) & 0x4000, 0x4000);
}

CASE(stat_fields) {
  std::string stat = guest::read_file("/proc/self/stat");
  CHECK_EQ(stat.substr(0, stat.find(' ')), std::to_string(getpid()));
  size_t name_end = stat.rfind(')');
  REQUIRE(name_end != std::string::npos);
  CHECK_EQ(stat.substr(stat.find('('), name_end - stat.find('(') + 1), "(proc_files)");
  std::istringstream rest(stat.substr(name_end + 2));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  CHECK_EQ(fields.size(), 50);  // 52 in all
  CHECK_EQ(fields[0], "R");
  CHECK_EQ(fields[1], std::to_string(getppid()));
  CHECK_EQ(fields[2], std::to_string(getpgrp()));
  CHECK_EQ(fields[3], std::to_string(getsid(0)));
  CHECK_EQ(fields[17], "1");  // threads
  CHECK(atol(fields[20].c_str()) > 0);
}

CASE(a_zombie_in_proc) {
  pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t info = {};
  CHECK_OK(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT));
  std::string path = "/proc/" + std::to_string(pid) + "/status";
  CHECK_EQ(status_field("State", path.c_str()), "Z (zombie)");
  CHECK_EXIT(pid, 0);
  CHECK_ERRNO(access(path.c_str(), F_OK), ENOENT);
}

CASE(maps_follow_mmap) {
  char* area = static_cast<char*>(
      mmap(nullptr, 5 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(area != MAP_FAILED);
  mprotect(area + 4096, 4096, PROT_READ);
  mprotect(area + 2 * 4096, 4096, PROT_NONE);
  munmap(area + 3 * 4096, 4096);
  std::vector<Mapping> all = mappings();
  REQUIRE(mapping_of(all, area) != nullptr);
  CHECK_EQ(mapping_of(all, area)->permissions, "rw-p");
  CHECK_EQ(mapping_of(all, area + 4096)->permissions, "r--p");
  CHECK_EQ(mapping_of(all, area + 2 * 4096)->permissions, "---p");
  CHECK(mapping_of(all, area + 3 * 4096) == nullptr);
  int local = 0;
  REQUIRE(mapping_of(all, &local) != nullptr);
  CHECK_EQ(mapping_of(all, &local)->name, "[stack]");
  const Mapping* code = mapping_of(all, reinterpret_cast<void*>(&mapping_of));
  REQUIRE(code != nullptr);
  CHECK_EQ(code->permissions, "r-xp");
  CHECK_EQ(code->name, guest::self_path());
  bool heap = false, vdso = false;
  free(malloc(100));
  for (const Mapping& mapping : all) {
    heap |= mapping.name == "[heap]";
    vdso |= mapping.name == "[vdso]";
  }
  CHECK(heap);
  CHECK(vdso);
}

CASE(shared_mappings_in_maps) {
  REQUIRE(guest::write_file("file", "x"));
  int fd = open("file", O_RDWR);
  void* mapped = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  std::vector<Mapping> all = mappings();
  const Mapping* mapping = mapping_of(all, mapped);
  REQUIRE(mapping != nullptr);
  CHECK_EQ(mapping->permissions, "rw-s");
  CHECK_EQ(mapping->name.substr(mapping->name.rfind('/') + 1), "file");
}

CASE(fdinfo) {
  REQUIRE(guest::write_file("file", "0123456789"));
  int fd = open("file", O_RDONLY | O_CLOEXEC);
  CHECK_EQ(lseek(fd, 7, SEEK_SET), 7);
  std::string path = "/proc/self/fdinfo/" + std::to_string(fd);
  CHECK_EQ(status_field("pos", path.c_str()), "7");
  CHECK_EQ(
      strtol(status_field("flags", path.c_str()).c_str(), nullptr, 8) & (O_CLOEXEC | O_ACCMODE),
      O_CLOEXEC);
}

CASE(mounts_and_mountinfo) {
  bool root = false, proc = false;
  for (const std::string& line : lines_of("/proc/self/mounts")) {
    char device[256] = {}, point[256] = {}, type[64] = {};
    CHECK_EQ(sscanf(line.c_str(), "%255s %255s %63s", device, point, type), 3);
    root |= strcmp(point, "/") == 0;
    proc |= strcmp(point, "/proc") == 0 && strcmp(type, "proc") == 0;
  }
  CHECK(root);
  CHECK(proc);
  for (const std::string& line : lines_of("/proc/self/mountinfo"))
    CHECK(line.find(" - ") != std::string::npos);
}

CASE(system_wide_files) {
  CHECK(atof(guest::read_file("/proc/uptime").c_str()) > 0);
  CHECK(atol(status_field("MemTotal", "/proc/meminfo").c_str()) > 0);
  CHECK(atol(status_field("MemAvailable", "/proc/meminfo").c_str()) > 0);
  CHECK_EQ(guest::read_file("/proc/version").substr(0, 14), "Linux version ");
  CHECK_EQ(guest::read_file("/proc/stat").substr(0, 4), "cpu ");
  CHECK(guest::read_file("/proc/cpuinfo").find("processor\t: 0") != std::string::npos);
  CHECK(guest::read_file("/proc/filesystems").find("tmpfs") != std::string::npos);
  float load[3] = {-1, -1, -1};
  CHECK_EQ(sscanf(guest::read_file("/proc/loadavg").c_str(), "%f %f %f", load, load + 1, load + 2),
           3);
}

CASE(vmstat_counts_pages) {
  std::map<std::string, unsigned long> values;
  for (const std::string& line : lines_of("/proc/vmstat")) {
    char name[64] = {}, rest[2] = {};
    unsigned long value = 0;
    CHECK_EQ(sscanf(line.c_str(), "%63s %lu%1s", name, &value, rest), 2);
    values[name] = value;
  }
  unsigned long total = strtoul(status_field("MemTotal", "/proc/meminfo").c_str(), nullptr, 10);
  CHECK(values["nr_free_pages"] > 0 && values["nr_free_pages"] * 4 <= total);
  CHECK(values["nr_anon_pages"] > 0 && values["nr_anon_pages"] * 4 <= total);
  CHECK(values["pgfault"] > 0);
  for (const char* name : {"nr_file_pages", "nr_dirty", "pgpgin", "pgpgout", "pswpin", "pswpout"})
    CHECK(values.count(name) == 1);
}

CASE(sysctl_files) {
  CHECK(atol(guest::read_file("/proc/sys/kernel/pid_max").c_str()) >= 300);
  CHECK_EQ(guest::read_file("/proc/sys/kernel/ostype"), "Linux\n");
  CHECK(guest::read_file("/proc/sys/kernel/osrelease").size() > 3);
  CHECK(atol(guest::read_file("/proc/sys/fs/pipe-max-size").c_str()) >= 65536);
  CHECK(!guest::read_file("/proc/sys/vm/overcommit_memory").empty());
  CHECK_EQ(guest::read_file("/proc/sys/kernel/random/uuid").size(), 37);
}

CASE(small_reads_and_seeks) {
  int fd = open("/proc/self/status", O_RDONLY);
  std::string content;
  char piece[7];
  ssize_t got;
  while ((got = read(fd, piece, sizeof piece)) > 0) content.append(piece, static_cast<size_t>(got));
  CHECK_EQ(content.substr(0, 16), "Name:\tproc_files");
  CHECK(content.find("\nThreads:\t1\n") != std::string::npos);
  CHECK_EQ(lseek(fd, 6, SEEK_SET), 6);
  CHECK_EQ(read(fd, piece, 4), 4);
  CHECK_EQ(std::string(piece, 4), "proc");
}

CASE(limits_and_cgroup) {
  bool found = false;
  for (const std::string& line : lines_of("/proc/self/limits"))
    found |= line.rfind("Max open files", 0) == 0;
  CHECK(found);
  for (const std::string& line : lines_of("/proc/self/cgroup"))
    CHECK(line.find(':') != std::string::npos);
  CHECK(!guest::read_file("/proc/self/oom_score_adj").empty());
}

CASE(what_cannot_be_written) {
  CHECK_ERRNO(open("/proc/self/new", O_CREAT | O_WRONLY, 0600), ENOENT);
  CHECK_ERRNO(mkdir("/proc/new", 0755), ENOENT);
  CHECK_ERRNO(unlink("/proc/self/status"), EPERM);
  if (geteuid() != 0) CHECK_ERRNO(open("/proc/self/status", O_WRONLY), EACCES);
}
