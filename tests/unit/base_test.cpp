#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/edit_distance.h"
#include "src/base/errno_text.h"
#include "src/base/fd.h"
#include "src/base/path.h"
#include "src/base/range.h"
#include "src/base/ref.h"
#include "src/base/result.h"
#include "src/base/sync.h"
#include "tests/unit/test.h"

using namespace boxrun;

TEST_CASE("errno names go both ways") {
  CHECK(errno_name(Errno::kNoEnt) == "ENOENT");
  CHECK(errno_name(Errno::kAgain) == "EAGAIN");
  CHECK(errno_name(Errno::kRestartSys) == "ERESTARTSYS");
  CHECK(errno_from_name("EWOULDBLOCK") == Errno::kAgain);
  CHECK(errno_from_name("ENOTSUP") == Errno::kOpNotSupp);
  CHECK(errno_from_name("ENOSUCH") == Errno::kOk);
}

static Result<int> half(int v) {
  if (v % 2 != 0) return Errno::kInval;
  return v / 2;
}
static Result<int> quarter(int v) { return TRY(half(TRY(half(v)))); }

TEST_CASE("TRY propagates") {
  CHECK(quarter(8).value_or(-1) == 2);
  CHECK(quarter(6).error() == Errno::kInval);
}

TEST_CASE("sets of CPUs as text") {
  const unsigned some[] = {0, 1, 2, 4, 33};
  CHECK(cpu_list(some) == "0-2,4,33");
  CHECK(cpu_list({}).empty());
  const std::span<const unsigned> low = std::span(some).first(4);
  CHECK(cpu_mask(low, 5) == "17");
  CHECK(cpu_mask(low, 32) == "00000017");
  CHECK(cpu_mask(low, 33) == "0,00000017");
  CHECK(cpu_mask(some, 34) == "2,00000017");
  CHECK(cpu_mask({}, 4) == "0");
}

TEST_CASE("Ref counts") {
  struct Thing : RefCounted {
    explicit Thing(int* gone) : gone_(gone) {}
    ~Thing() override { ++*gone_; }
    int* gone_;
  };
  int gone = 0;
  {
    Ref<Thing> a = make_ref<Thing>(&gone);
    Ref<Thing> b = a;
    CHECK(a->ref_count() == 2);
    Ref<RefCounted> base = b;
    CHECK(gone == 0);
  }
  CHECK(gone == 1);
}

TEST_CASE("Range arithmetic does not wrap") {
  CHECK_FALSE(Range::make(UINT64_MAX - 1, 3).has_value());
  CHECK(page_up(UINT64_MAX) == std::nullopt);
  CHECK(Range{0, 10}.intersect({5, 20}) == Range{5, 10});
}

TEST_CASE("IoBuffers crosses pieces") {
  std::array<char, 3> a{};
  std::array<char, 5> b{};
  const iovec pieces[] = {{a.data(), a.size()}, {nullptr, 0}, {b.data(), b.size()}};
  IoBuffers buffers{std::span<const iovec>(pieces)};
  CHECK(buffers.put(as_bytes_of("hello", 5)).value_or(0) == 5);
  CHECK(buffers.remaining() == 3);
  CHECK(std::string(a.data(), 3) == "hel");
  CHECK(std::string(b.data(), 2) == "lo");
  iovec out[4];
  REQUIRE(buffers.iovecs(out, 2) == 1);
  CHECK(out[0].iov_base == b.data() + 2);
  CHECK(out[0].iov_len == 2);
}

// Before any test that installs the handlers in this process.
TEST_CASE("a fault outside safe_copy goes to whoever was there before") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    struct sigaction action = {};
    action.sa_handler = [](int) { _exit(7); };
    sigaction(SIGSEGV, &action, nullptr);
    install_fault_handlers();
    install_fault_handlers();
    void* nothing = mmap(nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *static_cast<volatile char*>(nothing) = 1;
    _exit(1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("safe_copy stops at memory that cannot be touched") {
  install_fault_handlers();
  char* two = static_cast<char*>(
      mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(mprotect(two + kPageSize, kPageSize, PROT_NONE) == 0);
  std::array<char, 64> to{};
  memset(two, 'x', kPageSize);
  CHECK(safe_copy(to.data(), two + kPageSize - 10, 64) == 10);
  CHECK(safe_zero(two + kPageSize - 4, 100) == 4);
  IoBuffers buffers{std::span(reinterpret_cast<std::byte*>(two + kPageSize), 16)};
  CHECK(buffers.put(as_bytes_of("abc", 3)).error() == Errno::kFault);
  munmap(two, 2 * kPageSize);
}

TEST_CASE("Lock2 takes equal ranks in address order, and one lock once") {
  Mutex a{Rank::kPipe};
  Mutex b{Rank::kPipe};
  { Lock2 both(b, a); }
  { Lock2 one(a, a); }
  Lock again(a);
}

TEST_CASE("a path is within a directory by whole names") {
  using boxrun::is_within;
  CHECK(is_within("/sys", "/sys"));
  CHECK(is_within("/sys/kernel", "/sys"));
  CHECK(is_within("/sys", "/"));
  for (const char* like : {"/sys-data", "/sys.old", "/sys+", "/sys ", "/system", "/sy", "/"})
    CHECK_FALSE(is_within(like, "/sys"));
}

TEST_CASE("every errno that the host may name has a text") {
  using boxrun::errno_text;
  CHECK(errno_text(boxrun::Errno::kNoEnt) == std::string_view("No such file or directory"));
  CHECK(errno_text(boxrun::from_host(4095)) == std::string_view("unknown error"));
  CHECK(errno_text(boxrun::Errno::kRestartSys) == std::string_view("unknown error"));
  for (int e = -1; e <= 4096; e++) CHECK(errno_text(boxrun::from_host(e)) != nullptr);
}

TEST_CASE("the edit distance counts letters missing, added, wrong or exchanged") {
  using boxrun::edit_distance;
  CHECK(edit_distance("", "") == 0);
  CHECK(edit_distance("open", "open") == 0);
  CHECK(edit_distance("", "open") == 4);
  CHECK(edit_distance("opn", "open") == 1);
  CHECK(edit_distance("oppen", "open") == 1);
  CHECK(edit_distance("oben", "open") == 1);
  CHECK(edit_distance("opne", "open") == 1);
  CHECK(edit_distance("ca", "abc") == 3);  // no place is changed twice
}
