// Any bytes as a program and as the dynamic linker or script interpreter that it names: execve's
// second half, up to a memory image whose code and data can be touched. The input is the length of
// the program (2 bytes), the program /p, and the file /i.
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <string>

#include "platforms/fake/fake_platform.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/loader/elf.h"
#include "sentry/vfs/fd_table.h"
#include "sentry/vfs/file_description.h"
#include "src/base/check.h"
#include "tests/fuzz/input.h"
#include "tests/unit/test_sandbox.h"

using namespace boxrun;

namespace {

constexpr uint64_t kMemory = uint64_t{16} << 20;

class TextReader final : public loader::ImageReader {
 public:
  explicit TextReader(std::string_view text) : text_(text) {}
  Result<size_t> read_at(uint64_t offset, std::span<std::byte> to) override {
    if (offset >= text_.size()) return size_t{0};
    const std::string_view found = text_.substr(offset, to.size());
    std::memcpy(to.data(), found.data(), found.size());
    return found.size();
  }

 private:
  std::string_view text_;
};

// What elf.h promises of a file that it takes.
void check_headers(std::string_view program) {
  TextReader reader(program);
  const auto elf = loader::parse_elf(reader);
  if (!elf.ok()) return;
  CHECK(!elf->segments.empty() && elf->alignment >= kPageSize &&
        std::has_single_bit(elf->alignment));
  uint64_t before = 0;
  for (const loader::LoadSegment& segment : elf->segments) {
    CHECK(segment.filesz <= segment.memsz && segment.memsz > 0);
    CHECK(segment.vaddr <= UINT64_MAX - segment.memsz);
    CHECK(segment.vaddr + segment.memsz <= uint64_t{1} << 47);
    CHECK(segment.vaddr % kPageSize == segment.offset % kPageSize);
    CHECK(page_down(segment.vaddr) >= before);
    before = page_down(segment.vaddr);
  }
  CHECK(elf->lowest() < elf->highest() && elf->interpreter.find('\0') == std::string::npos);
}

class LoaderFuzz {
 public:
  LoaderFuzz()
      : sandbox_(platform_, mm::MemoryFile::make_backing(-1).take(), {.memory = kMemory}),
        process_(make_ref<kernel::ThreadGroup>(sandbox_.kernel(), 2,
                                               make_ref<kernel::SignalHandlers>())),
        task_(make_ref<kernel::Task>(
            sandbox_.kernel(), process_, 2,
            kernel::TaskResources{nullptr, make_ref<vfs::FdTable>(), sandbox_.context(),
                                  sandbox_.root_user()})) {
    replace("", "");
    used_ = sandbox_.memory().used();
  }

  void run(std::string_view program, std::string_view interpreter) {
    check_headers(program);
    if (!replace(program, interpreter)) return;
    if (auto image = sandbox_.loader().load(*task_, {AT_FDCWD, "/p", 0, {"/p", "a"}, {"E=1"}});
        image.ok()) {
      touch(*image);
    }
    // What the image had is free again.
    CHECK(replace("", ""));
    CHECK(sandbox_.memory().used() == used_);
  }

 private:
  bool replace(std::string_view program, std::string_view interpreter) {
    return sandbox_.put("/p", program).ok() && sandbox_.put("/i", interpreter).ok();
  }

  // What the first instructions would do.
  static void touch(kernel::ExecImage& image) {
    CHECK(image.exe && image.mm);
    const uint64_t stack = image.registers.rsp;
    CHECK(stack % 16 == 0);
    CHECK(image.mm->fault(stack, mm::Access::kWrite, {}) == mm::FaultResult::kResolved);
    uint64_t argc = 0;
    CHECK(image.mm->copy_in(stack, std::as_writable_bytes(std::span(&argc, 1))).ok());
    CHECK(argc >= 2);
    (void)image.mm->fault(image.registers.rip, mm::Access::kExecute, {});
    std::array<std::byte, 64> bytes{};
    for (const mm::VmaInfo& vma : image.mm->vmas()) {
      (void)image.mm->fault(vma.range.start, mm::Access::kRead, {});
      (void)image.mm->copy_in(vma.range.start, bytes);
      (void)image.mm->copy_out(vma.range.end - bytes.size(), bytes);
    }
  }

  platform::FakePlatform platform_;
  test::TestSandbox sandbox_;
  const Ref<kernel::ThreadGroup> process_;
  const Ref<kernel::Task> task_;
  uint64_t used_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static LoaderFuzz fuzz;
  fuzz::Input input(data, size);
  const size_t length = input.take<uint16_t>();
  const std::string_view program = input.text(length);
  fuzz.run(program, input.rest());
  return 0;
}
