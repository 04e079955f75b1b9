// The vDSO image runs in this very process: one page of time, then the image, as in a guest.
#include <elf.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <thread>

#include "sentry/time/calibrated_clock.h"
#include "src/base/range.h"
#include "tests/unit/test.h"

using namespace boxrun;

extern "C" const char boxrun_vdso_begin[];
extern "C" const char boxrun_vdso_end[];

namespace {

class MappedVdso {
 public:
  MappedVdso() {
    const size_t size = *page_up(static_cast<uint64_t>(boxrun_vdso_end - boxrun_vdso_begin));
    total_ = kPageSize + size;
    base_ = static_cast<char*>(
        mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    image_ = base_ + kPageSize;
    memcpy(image_, boxrun_vdso_begin, static_cast<size_t>(boxrun_vdso_end - boxrun_vdso_begin));
    mprotect(image_, size, PROT_READ | PROT_EXEC);
  }
  ~MappedVdso() { munmap(base_, total_); }
  TimePage& page() { return *reinterpret_cast<TimePage*>(base_); }

  template <class Function>
  Function* symbol(std::string_view name) const {
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image_);
    const auto* phdrs = reinterpret_cast<const Elf64_Phdr*>(image_ + header->e_phoff);
    const Elf64_Sym* symbols = nullptr;
    const char* strings = nullptr;
    uint32_t count = 0;
    for (int i = 0; i < header->e_phnum; i++) {
      if (phdrs[i].p_type != PT_DYNAMIC) continue;
      for (auto* d = reinterpret_cast<const Elf64_Dyn*>(image_ + phdrs[i].p_vaddr); d->d_tag != 0;
           d++) {
        if (d->d_tag == DT_SYMTAB)
          symbols = reinterpret_cast<const Elf64_Sym*>(image_ + d->d_un.d_ptr);
        if (d->d_tag == DT_STRTAB) strings = image_ + d->d_un.d_ptr;
        if (d->d_tag == DT_HASH)
          count = reinterpret_cast<const uint32_t*>(image_ + d->d_un.d_ptr)[1];
      }
    }
    for (uint32_t i = 0; i < count; i++) {
      if (name == strings + symbols[i].st_name) {
        return reinterpret_cast<Function*>(image_ + symbols[i].st_value);
      }
    }
    return nullptr;
  }

 private:
  char* base_;
  char* image_;
  size_t total_;
};

int64_t host_now(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return from_timespec(t);
}

}  // namespace

TEST_CASE("without a valid page the vDSO makes the system call") {
  MappedVdso vdso;
  auto* get = vdso.symbol<int(clockid_t, timespec*)>("__vdso_clock_gettime");
  REQUIRE(static_cast<bool>(get != nullptr));
  const int64_t before = host_now(CLOCK_MONOTONIC);
  timespec t{};
  CHECK(get(CLOCK_MONOTONIC, &t) == 0);
  CHECK(from_timespec(t) >= before);
  CHECK(get(9999, &t) == -EINVAL);
}

TEST_CASE("a calibrated page tells the host's time, and system calls agree") {
  MappedVdso vdso;
  auto* get = vdso.symbol<int(clockid_t, timespec*)>("__vdso_clock_gettime");
  auto* seconds = vdso.symbol<time_t(time_t*)>("__vdso_time");
  REQUIRE(static_cast<bool>(get != nullptr));
  REQUIRE(static_cast<bool>(seconds != nullptr));
  CalibratedClock clock(vdso.page());
  clock.monotonic();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  clock.monotonic();
  if (vdso.page().valid == 0) {
    MESSAGE("SKIP: no invariant TSC");
    return;
  }
  int64_t last = 0;
  for (int i = 0; i < 20000; i++) {
    timespec t{};
    CHECK(get(CLOCK_MONOTONIC, &t) == 0);
    const int64_t by_vdso = from_timespec(t);
    const int64_t by_call = clock.monotonic();
    if (by_vdso < last || by_call < by_vdso) FAIL("time went back");
    last = by_call;
  }
  const int64_t error = host_now(CLOCK_MONOTONIC) - clock.monotonic();
  CHECK(error < kSecond / 1000);
  CHECK(error > -kSecond / 1000);
  CHECK(seconds(nullptr) - time(nullptr) <= 1);
}

TEST_CASE("getcpu names a CPU that exists") {
  MappedVdso vdso;
  auto* get = vdso.symbol<long(unsigned*, unsigned*, void*)>("__vdso_getcpu");
  REQUIRE(static_cast<bool>(get != nullptr));
  unsigned cpu = UINT32_MAX;
  CHECK(get(&cpu, nullptr, nullptr) == 0);
  CHECK(cpu < static_cast<unsigned>(sysconf(_SC_NPROCESSORS_CONF)));
}
