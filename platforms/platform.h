// The one seam below the kernel. Nothing above it knows ptrace, seccomp or KVM; nothing below it
// knows tasks, files or signals. Three small interfaces: a Platform makes AddressSpaces and
// Contexts; a Context runs one guest thread in an AddressSpace until the next event.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "platforms/cpu_state.h"
#include "src/base/range.h"
#include "src/base/result.h"

namespace boxrun::platform {

enum class Why : uint8_t {
  kSyscall,      // a system call: see CpuState::syscall_number
  kFault,        // a memory access that the installed mappings do not allow: addr, access
  kTrap,         // any other synchronous exception: signo, code, addr as Linux would report them
  kInterrupted,  // interrupt() was called; nothing else happened
  kLost,         // the host side of this guest thread is gone for good (killed from outside, or it
                 // broke the stub protocol): its process must die
};

// What the faulting access wanted. A platform that cannot tell says kUnknown.
enum class Access : uint8_t { kUnknown, kRead, kWrite, kExecute };

struct Stop {
  Why why = Why::kInterrupted;
  Arch arch = Arch::kX86_64;  // of a kSyscall
  int signo = 0;              // of a kTrap: SIGFPE, SIGILL, SIGTRAP, SIGSEGV, SIGBUS
  int code = 0;               // si_code of a kTrap
  uint64_t addr = 0;          // si_addr of a kTrap or kFault
  Access access = Access::kUnknown;
  // Of a kSyscall: this call instruction stops often enough for AddressSpace::improve() to pay.
  bool hot = false;
};

// Protection of a guest page; the values of PROT_READ, PROT_WRITE, PROT_EXEC.
enum class Prot : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kExec = 4 };
constexpr Prot operator|(Prot a, Prot b) {
  return static_cast<Prot>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr Prot operator&(Prot a, Prot b) {
  return static_cast<Prot>(static_cast<uint8_t>(a) & static_cast<uint8_t>(b));
}
constexpr bool has(Prot set, Prot bit) { return (set & bit) != Prot::kNone; }

// One change to an address space. Ranges are page-aligned and inside user_addresses().
struct Op {
  enum class Kind : uint8_t { kMap, kProtect, kUnmap };
  Kind kind;
  Range guest;
  Prot prot = Prot::kNone;  // kMap, kProtect
  int host_fd = -1;     // kMap: the memory file or a donated host file, shared mapping; borrowed
  uint64_t offset = 0;  // kMap: of the first page in host_fd

  static Op map(Range guest, int host_fd, uint64_t offset, Prot prot) {
    return {Kind::kMap, guest, prot, host_fd, offset};
  }
  static Op protect(Range guest, Prot prot) { return {Kind::kProtect, guest, prot}; }
  static Op unmap(Range guest) { return {Kind::kUnmap, guest}; }
};

// The mappings of one guest process. Thread-safe; callers hold the mm's lock (rank kMmMaps), so
// an implementation takes only locks of rank kAddressSpace and greater.
class AddressSpace {
 public:
  // A place that makes system calls: the instruction that ends at `ip`, and a number it was seen
  // with.
  struct CallSite {
    uint64_t ip = 0;
    uint64_t number = 0;
    // The bytes of the page around it, which the guest can execute but not write.
    std::span<const std::byte, kPageSize> page;
    // Nothing is mapped there. The platform may map code of its own, until apply() is told
    // otherwise.
    Range spare;
  };

  virtual ~AddressSpace() = default;

  // Applies the operations in order. On return no guest thread can use a translation that they
  // withdrew, attested by something the guest cannot forge, so backing pages may be reused.
  // kMap replaces what was there. kUnmap and kProtect skip holes. Errors: ENOMEM (host limits),
  // EACCES or EPERM (the host refuses PROT_EXEC of this file), ENODEV, ESRCH (the address space
  // is lost). After an error the operations from the failed one on were not applied. Without
  // operations it only asks whether the address space is lost.
  virtual Result<void> apply(std::span<const Op> ops) = 0;

  // May make calls from `site` cheaper, by mapping another version of its page. Guest code that
  // reads its own text can see that, until apply() changes something there.
  virtual void improve(const CallSite& site) { (void)site; }
  // Withdraws other versions of pages in `guest`, which can leave nothing mapped there. Errors as
  // apply().
  virtual Result<void> restore(Range guest) {
    (void)guest;
    return {};
  }
};

// One guest thread. Created by, and used only from, the host thread that serves it, except
// interrupt().
class Context {
 public:
  virtual ~Context() = default;

  // Writes back what is dirty in `cpu`, runs guest code until the next event and returns it.
  // A Context may run in another address space than before (execve).
  virtual Stop run(AddressSpace& address_space, CpuState& cpu) = 0;

  // Makes the current or, if none, the next run return kInterrupted; latched, so never lost, and
  // idempotent until it has been returned once. Any thread; async-signal-safe is not required.
  virtual void interrupt() = 0;
};

// One host system call that a platform needs in the sealed Sentry: a row of the seccomp table.
struct HostSyscall {
  int number;
  std::string_view user;  // who needs it, for the comment and the report
};

// What a platform counted since it was made, for `--stats`.
struct Counter {
  std::string_view name;
  uint64_t value = 0;
};

class Platform {
 public:
  virtual ~Platform() = default;

  virtual std::string_view name() const = 0;
  // Where guest mappings may be: page-aligned, below the 47-bit limit.
  virtual Range user_addresses() const = 0;
  // An empty address space, or a copy of `like` with the same mappings (fork). With `like` it is
  // called on a host thread whose Context last ran in `like`.
  virtual Result<std::unique_ptr<AddressSpace>> new_address_space(AddressSpace* like) = 0;
  // Called on the host thread that will run it.
  virtual Result<std::unique_ptr<Context>> new_context() = 0;
  virtual std::span<const HostSyscall> host_syscalls() const = 0;
  // Of contexts that still run it may lack the last few. Any thread.
  virtual std::vector<Counter> counters() const { return {}; }
};

}  // namespace boxrun::platform
