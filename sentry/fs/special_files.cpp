#include "sentry/fs/special_files.h"

#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <utility>

namespace boxrun::fs {
namespace {

// makedev(3) for numbers that fit eight bits each.
constexpr uint64_t device_number(unsigned major, unsigned minor) { return major << 8 | minor; }

enum class Device : uint8_t { kNull, kZero, kFull, kRandom };

// drivers/char/mem.c and random.c.
class MemoryDevice final : public vfs::FileDescription {
 public:
  MemoryDevice(const vfs::OpenRequest& request, Ref<vfs::Inode> inode, Device device)
      : FileDescription(request, std::move(inode), Positioning::kSeekable), device_(device) {}

  WaitQueue* queue() override {
    // Only random can be polled, and so be watched by epoll; it is never notified.
    return device_ == Device::kRandom ? &queue_ : nullptr;
  }
  Result<Ref<mm::PageSource>> map() override {
    if (device_ == Device::kZero) return Ref<mm::PageSource>();  // anonymous memory
    return Errno::kNoDev;
  }
  Result<void> sync(bool) override { return Errno::kInval; }

 private:
  Result<size_t> do_read(IoBuffers& to, uint64_t) override {
    switch (device_) {
      case Device::kNull:
        return size_t{0};
      case Device::kZero:
      case Device::kFull:
        return to.put_zeros(to.remaining());
      case Device::kRandom:
        break;
    }
    std::array<std::byte, 256> some;
    size_t done = 0;
    while (!to.empty()) {
      const size_t size = std::min(to.remaining(), some.size());
      const auto got = ::getrandom(some.data(), size, 0);
      if (got < 0) break;
      const Result<size_t> put = to.put({some.data(), static_cast<size_t>(got)});
      if (!put.ok() && done == 0) return put.error();
      if (!put.ok()) break;
      done += *put;
    }
    return done;
  }

  Result<size_t> do_write(IoBuffers& from, uint64_t&, const vfs::WriteOptions&) override {
    if (device_ == Device::kFull) return Errno::kNoSpc;
    const size_t size = from.remaining();
    from.skip(size);
    return size;
  }

  Result<uint64_t> do_seek(uint64_t position, int64_t offset, int whence) override {
    // null_lseek answers 0 to everything; random has noop_llseek.
    return device_ == Device::kRandom && whence == SEEK_CUR && offset == 0 ? position : 0;
  }

  const Device device_;
  WaitQueue queue_;
};

}  // namespace

Result<Ref<vfs::FileDescription>> DeviceFiles::open(vfs::Inode& inode,
                                                    const vfs::OpenRequest& request) {
  if (inode.type() == vfs::FileType::kFifo) return open_fifo(pipes_, inode, request);
  if (inode.type() != vfs::FileType::kCharDevice) return Errno::kNxIo;
  const uint64_t number = TRY(inode.attributes()).rdev;
  const auto memory = [&](Device device) -> Result<Ref<vfs::FileDescription>> {
    return Ref<vfs::FileDescription>(
        make_ref<MemoryDevice>(request, Ref<vfs::Inode>(&inode), device));
  };
  switch (number) {
    case device_number(1, 3):
      return memory(Device::kNull);
    case device_number(1, 5):
      return memory(Device::kZero);
    case device_number(1, 7):
      return memory(Device::kFull);
    case device_number(1, 8):
    case device_number(1, 9):
      return memory(Device::kRandom);
    case device_number(5, 0):
      if (!request.terminal) return Errno::kNxIo;
      return request.terminal->open(request);
    default:
      return Errno::kNxIo;
  }
}

}  // namespace boxrun::fs
