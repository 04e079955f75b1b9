#include "platforms/fake/fake_address_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <utility>

namespace boxrun::platform {

class FakeAddressSpace::HostMapping final : public RefCounted {
 public:
  static Result<Ref<HostMapping>> create(const Op& op) {
    const bool writable = has(op.prot, Prot::kWrite);
    void* p = ::mmap(nullptr, op.guest.size(), writable ? PROT_READ | PROT_WRITE : PROT_READ,
                     MAP_SHARED | MAP_NORESERVE, op.host_fd, static_cast<off_t>(op.offset));
    if (p == MAP_FAILED) return last_error();
    return adopt_ref(new HostMapping(static_cast<std::byte*>(p), op.guest.size(), writable));
  }
  ~HostMapping() override { ::munmap(data_, size_); }

  std::byte* data() const { return data_; }
  Result<void> make_writable() {
    if (writable_) return {};
    if (::mprotect(data_, size_, PROT_READ | PROT_WRITE) != 0) return last_error();
    writable_ = true;
    return {};
  }

 private:
  HostMapping(std::byte* data, size_t size, bool writable)
      : data_(data), size_(size), writable_(writable) {}
  std::byte* const data_;
  const size_t size_;
  std::atomic<bool> writable_;  // several address spaces may share this object
};

FakeAddressSpace::FakeAddressSpace(FakeAddressSpace& like) NO_THREAD_SAFETY_ANALYSIS {
  Lock lock(like.mutex_);
  pieces_ = like.pieces_;
}

FakeAddressSpace::FakeAddressSpace() = default;
FakeAddressSpace::~FakeAddressSpace() = default;

Result<void> FakeAddressSpace::apply(std::span<const Op> ops) {
  if (lost()) return Errno::kSrch;
  Lock lock(mutex_);
  for (const Op& op : ops) {
    switch (op.kind) {
      case Op::Kind::kMap:
        TRY(map(op));
        break;
      case Op::Kind::kProtect:
        TRY(protect(op));
        break;
      case Op::Kind::kUnmap:
        unmap(op.guest);
        break;
    }
  }
  return {};
}

void FakeAddressSpace::split(uint64_t addr) {
  auto it = pieces_.upper_bound(addr);
  if (it == pieces_.begin()) return;
  --it;
  if (it->first == addr || it->second.end <= addr) return;
  Piece upper = it->second;
  upper.offset += addr - it->first;
  it->second.end = addr;
  pieces_.emplace(addr, std::move(upper));
}

void FakeAddressSpace::unmap(Range range) {
  split(range.start);
  split(range.end);
  pieces_.erase(pieces_.lower_bound(range.start), pieces_.lower_bound(range.end));
}

Result<void> FakeAddressSpace::map(const Op& op) {
  Ref<HostMapping> memory = TRY(HostMapping::create(op));
  unmap(op.guest);
  pieces_.emplace(op.guest.start, Piece{op.guest.end, op.prot, std::move(memory), 0});
  return {};
}

Result<void> FakeAddressSpace::protect(const Op& op) {
  split(op.guest.start);
  split(op.guest.end);
  for (auto it = pieces_.lower_bound(op.guest.start);
       it != pieces_.end() && it->first < op.guest.end; ++it) {
    if (has(op.prot, Prot::kWrite)) TRY(it->second.memory->make_writable());
    it->second.prot = op.prot;
  }
  return {};
}

std::optional<FakeAddressSpace::Miss> FakeAddressSpace::access(
    uint64_t addr, size_t size, Access access,
    const std::function<size_t(std::byte*, size_t)>& use) {
  Lock lock(mutex_);
  while (size > 0) {
    auto it = pieces_.upper_bound(addr);
    if (it == pieces_.begin()) return Miss{addr, false};
    --it;
    const Piece& piece = it->second;
    // x86 without protection keys: whatever is accessible at all can be read.
    const bool allowed =
        access == Access::kWrite ? has(piece.prot, Prot::kWrite) : piece.prot != Prot::kNone;
    if (addr >= piece.end || !allowed) return Miss{addr, false};
    const size_t here = std::min<uint64_t>(size, piece.end - addr);
    const size_t done = use(piece.memory->data() + piece.offset + (addr - it->first), here);
    if (done < here) return Miss{addr + done, true};
    addr += here;
    size -= here;
  }
  return std::nullopt;
}

}  // namespace boxrun::platform
