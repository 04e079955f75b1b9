// What a program finds at its entry: argv, envp, the auxiliary vector, registers and descriptors.
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/guest/guest_test.h"

extern char** environ;
extern "C" char __executable_start;

namespace {

const Elf64_Ehdr& self_header() {
  return *reinterpret_cast<const Elf64_Ehdr*>(&__executable_start);
}

}  // namespace

ROLE(show_arguments) {
  for (int i = 0; i < argc; ++i) guest::print("argv[%d]=<%s>\n", i, argv[i]);
  CHECK(argv[argc] == nullptr);
  for (char** entry = environ; *entry != nullptr; ++entry) guest::print("env <%s>\n", *entry);
  return guest::failures;
}

CASE(arguments_and_environment_arrive_byte_for_byte) {
  pid_t pid = fork();
  if (pid == 0) {
    const char* argv[] = {"zero",     "--role", "show_arguments", "", "two words",
                          "\xff\xfe", "-x",     nullptr};
    const char* envp[] = {"A=1", "EMPTY=", "NOVALUE", "=odd", "A=again", nullptr};
    execve(guest::self_path(), const_cast<char**>(argv), const_cast<char**>(envp));
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

CASE(empty_environment) {
  pid_t pid = fork();
  if (pid == 0) {
    const char* argv[] = {"x", "--role", "show_arguments", nullptr};
    execve(guest::self_path(), const_cast<char**>(argv), nullptr);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
}

CASE(long_argument) {
  // MAX_ARG_STRLEN is 32 pages, the terminating NUL included.
  std::string longest(131071, 'a');
  pid_t pid = fork();
  if (pid == 0) {
    const char* argv[] = {"x", "--role", "length", longest.c_str(), nullptr};
    execve(guest::self_path(), const_cast<char**>(argv), environ);
    _exit(9);
  }
  CHECK_EXIT(pid, 0);
  longest += 'a';
  const char* argv[] = {"x", "--role", "length", longest.c_str(), nullptr};
  CHECK_ERRNO(execve(guest::self_path(), const_cast<char**>(argv), environ), E2BIG);
}

ROLE(length) { return argc == 2 && strlen(argv[1]) == 131071 ? 0 : 1; }

CASE(auxv_describes_the_program) {
  const Elf64_Ehdr& header = self_header();
  CHECK_EQ(getauxval(AT_PAGESZ), 4096);
  CHECK_EQ(getauxval(AT_CLKTCK), 100);
  CHECK_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
  CHECK_EQ(getauxval(AT_PHNUM), header.e_phnum);
  CHECK_EQ(getauxval(AT_PHDR), reinterpret_cast<uint64_t>(&header) + header.e_phoff);
  CHECK_EQ(getauxval(AT_ENTRY), reinterpret_cast<uint64_t>(&header) + header.e_entry);
  CHECK_EQ(getauxval(AT_FLAGS), 0);
  CHECK_EQ(getauxval(AT_SECURE), 0);
  CHECK_EQ(getauxval(AT_UID), getuid());
  CHECK_EQ(getauxval(AT_EUID), geteuid());
  CHECK_EQ(getauxval(AT_GID), getgid());
  CHECK_EQ(getauxval(AT_EGID), getegid());
  CHECK(getauxval(AT_BASE) != 0);
  CHECK_EQ(getauxval(AT_BASE) % 4096, 0);
  CHECK(getauxval(AT_HWCAP) != 0);
}

CASE(auxv_strings) {
  CHECK_EQ(std::string(reinterpret_cast<const char*>(getauxval(AT_PLATFORM))), "x86_64");
  CHECK_EQ(std::string(reinterpret_cast<const char*>(getauxval(AT_EXECFN))), guest::self_path());
}

CASE(at_random_differs_between_processes) {
  auto* random = reinterpret_cast<const unsigned char*>(getauxval(AT_RANDOM));
  REQUIRE(random != nullptr);
  std::string mine(reinterpret_cast<const char*>(random), 16);
  CHECK(mine != std::string(16, '\0'));
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    execl(guest::self_path(), "x", "--role", "write_random", nullptr);
    _exit(9);
  }
  close(ends[1]);
  char theirs[16];
  CHECK_EQ(read(ends[0], theirs, 16), 16);
  CHECK(mine != std::string(theirs, 16));
  CHECK_EXIT(pid, 0);
}

ROLE(write_random) {
  return write(1, reinterpret_cast<const void*>(getauxval(AT_RANDOM)), 16) == 16 ? 0 : 1;
}

CASE(vdso_is_an_elf_image) {
  auto* vdso = reinterpret_cast<const Elf64_Ehdr*>(getauxval(AT_SYSINFO_EHDR));
  REQUIRE(vdso != nullptr);
  CHECK_EQ(memcmp(vdso->e_ident, ELFMAG, SELFMAG), 0);
  CHECK_EQ(vdso->e_type, ET_DYN);
  CHECK_EQ(vdso->e_machine, EM_X86_64);
}

CASE(stack_is_aligned_and_not_executable) {
  // System V: at entry rsp is a multiple of 16, so a main() frame with aligned locals works with
  // SSE.
  alignas(16) char aligned[16];
  CHECK_EQ(reinterpret_cast<uintptr_t>(aligned) % 16, 0);
  pid_t pid = guest::spawn([] {
    unsigned char code[] = {0xc3};  // ret
    reinterpret_cast<void (*)()>(reinterpret_cast<uintptr_t>(code))();
  });
  CHECK_KILLED(pid, SIGSEGV);
}

CASE(standard_descriptors_are_open) {
  CHECK_OK(fcntl(0, F_GETFD));
  CHECK_OK(fcntl(1, F_GETFD));
  CHECK_OK(fcntl(2, F_GETFD));
  CHECK_EQ(fcntl(0, F_GETFD), 0);
}

CASE(relro_is_read_only_after_start) {
  // A dynamic PIE's .dynamic section lies in PT_GNU_RELRO, which ld.so has protected by now.
  pid_t pid = guest::spawn([] { const_cast<Elf64_Dyn*>(_DYNAMIC)->d_tag = 7; });
  CHECK_KILLED(pid, SIGSEGV);
}
