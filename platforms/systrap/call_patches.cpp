#include "platforms/systrap/call_patches.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace boxrun::platform {
namespace {

constexpr uint64_t kSyscallSize = 2;
constexpr uint64_t kLongJump = 5;       // e9 rel32
constexpr uint64_t kShortJump = 2;      // eb rel8
constexpr uint64_t kReturnOffset = 48;  // of the return address in a trampoline

template <class T>
void put(std::span<std::byte> to, uint64_t offset, const T& value) {
  std::memcpy(&to[offset], &value, sizeof value);
}

template <size_t N>
bool has_at(std::span<const std::byte> page, uint64_t offset, const std::array<uint8_t, N>& bytes) {
  return offset + N <= page.size() && std::memcmp(&page[offset], bytes.data(), N) == 0;
}

uint8_t byte_at(std::span<const std::byte> page, uint64_t offset) {
  return offset < page.size() ? std::to_integer<uint8_t>(page[offset]) : 0;
}

// Whether the byte before what looks like an instruction may make it a part of another one: a REX
// or an operand size prefix, or an opcode that a ModRM byte follows (mov, lea, movslq).
bool may_belong_to_it(uint8_t byte) {
  return (byte & 0xf0) == 0x40 || byte == 0x66 || byte == 0x63 || (byte & 0xfc) == 0x88 ||
         byte == 0x8d;
}

void put_jump(std::span<std::byte> page, uint64_t page_address, uint64_t offset, uint64_t to) {
  put(page, offset, uint8_t{0xe9});
  put(page, offset + 1, static_cast<int32_t>(to - (page_address + offset + kLongJump)));
}

bool reaches(uint64_t from, uint64_t to) {
  const auto distance = static_cast<int64_t>(to - from);
  return distance > INT32_MIN + 4096 && distance < INT32_MAX - 4096;
}

// Code, put together byte by byte.
class Emitter {
 public:
  explicit Emitter(std::span<std::byte> to) : to_(to) {}
  void bytes(std::initializer_list<uint8_t> bytes) {
    for (const uint8_t byte : bytes) to_[size_++] = std::byte{byte};
  }
  void bytes(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) to_[size_++] = byte;
  }
  void word(uint32_t value) {
    put(to_, size_, value);
    size_ += sizeof value;
  }
  uint64_t size() const { return size_; }

 private:
  std::span<std::byte> to_;
  uint64_t size_ = 0;
};

StubCall unmap(uint64_t page) { return {SYS_munmap, {page, kPageSize}}; }

}  // namespace

Result<Ref<CodePage>> CodePage::create(ControlFile& file) {
  return adopt_ref(new CodePage(file, TRY(file.new_code())));
}

StubCall CodePage::map_at(uint64_t address) const {
  return {SYS_mmap,
          {address, kPageSize, PROT_READ | PROT_EXEC, kGuestMapFlags, kStubControlFd,
           ControlFile::code_offset(number_)}};
}

bool CallPatches::find_site(std::span<const std::byte> page, uint64_t end, uint64_t number,
                            Site& site) {
  constexpr std::array<uint8_t, 5> kLoadSixthArgument{0x4c, 0x8b, 0x4c, 0x24, 0x08};
  if (end < kSyscallSize || !has_at(page, end - kSyscallSize, std::array<uint8_t, 2>{0x0f, 0x05})) {
    return false;
  }
  site.end = end - kSyscallSize;
  if (site.end > kLongJump) {
    site.start = site.long_jump = site.end - kLongJump;
    if (has_at(page, site.start, kLoadSixthArgument)) return true;
    uint32_t moved;
    std::memcpy(&moved, &page[site.start + 1], sizeof moved);
    if (byte_at(page, site.start) == 0xb8 && moved == number &&
        !may_belong_to_it(byte_at(page, site.start - 1))) {
      return true;
    }
  }
  if (site.end <= kShortJump) return false;
  site.start = site.end - kShortJump;
  if (number != 0 || !has_at(page, site.start, std::array<uint8_t, 2>{0x31, 0xc0}) ||
      may_belong_to_it(byte_at(page, site.start - 1))) {
    return false;
  }
  // cmp $imm32,%rax; ja, by a short or a long jump; ret
  uint64_t at = end;
  if (!has_at(page, at, std::array<uint8_t, 2>{0x48, 0x3d})) return false;
  at += 6;
  if (byte_at(page, at) == 0x77) {
    at += 2;
  } else if (has_at(page, at, std::array<uint8_t, 2>{0x0f, 0x87})) {
    at += 6;
  } else {
    return false;
  }
  if (byte_at(page, at++) != 0xc3) return false;
  // A nop of five bytes and more: nopl with a displacement, with or without prefixes.
  for (int i = 0; i < 8 && byte_at(page, at) == 0x66; i++) at++;
  if (byte_at(page, at) == 0x2e) at++;
  if (!has_at(page, at, std::array<uint8_t, 2>{0x0f, 0x1f}) ||
      (byte_at(page, at + 2) != 0x44 && byte_at(page, at + 2) != 0x80 &&
       byte_at(page, at + 2) != 0x84) ||
      at + kLongJump > page.size()) {
    return false;
  }
  site.long_jump = at;
  return true;
}

void CallPatches::write_trampoline(std::span<const std::byte> displaced, uint64_t ip) const {
  const std::span<std::byte> page = next_trampolines_->bytes();
  const uint64_t at = uint64_t{used_} * kTrampolineSize;
  const auto upper_half = static_cast<uint32_t>(layout_.slots().start >> 32);
  Emitter code(page.subspan(at, kTrampolineSize));
  code.bytes(displaced);
  // Flags stay as they are.
  code.bytes({0xf3, 0x48, 0x0f, 0xae, 0xc9});  // rdgsbase %rcx
  code.bytes({0x48, 0x0f, 0xc9});              // bswap %rcx
  code.bytes({0x89, 0xc9});                    // mov %ecx,%ecx
  code.bytes({0x48, 0x8d, 0x89});              // lea -bswap(upper_half)(%rcx),%rcx
  code.word(-__builtin_bswap32(upper_half));
  code.bytes({0x89, 0xc9});             // mov %ecx,%ecx
  code.bytes({0xe3, kLongJump, 0xe9});  // jrcxz over the jump: to the `syscall`
  code.word(
      static_cast<uint32_t>(ip - kSyscallSize - (next_trampolines_at_ + at + code.size() + 4)));
  code.bytes({0x48, 0x8d, 0x0d});  // lea return address(%rip),%rcx
  code.word(static_cast<uint32_t>(kReturnOffset - (code.size() + 4)));
  code.bytes({0xff, 0x25});  // jmp *entry(%rip)
  code.word(static_cast<uint32_t>(-(at + code.size() + 4)));
  put(page, at + kReturnOffset, ip);
}

Result<void> CallPatches::prepare(ControlFile& file, const AddressSpace::CallSite& where,
                                  const Site& site) {
  next_trampolines_at_ = trampolines_ ? trampolines_at_ : where.spare.start;
  const uint64_t trampoline = next_trampolines_at_ + uint64_t{used_} * kTrampolineSize;
  if (!reaches(where.ip, trampoline)) return Errno::kRange;
  next_at_ = page_down(where.ip - 1);
  const auto old = pages_.find(next_at_);
  next_page_ = TRY(CodePage::create(file));
  const std::span<std::byte> page = next_page_->bytes();
  std::ranges::copy(old == pages_.end() ? where.page : old->second->bytes(), page.begin());
  next_trampolines_ = trampolines_;
  // A forked process shares the page, but not what is added to it.
  if (!trampolines_ || trampolines_->ref_count() > 1) {
    next_trampolines_ = TRY(CodePage::create(file));
    if (trampolines_) std::ranges::copy(trampolines_->bytes(), next_trampolines_->bytes().begin());
    put(next_trampolines_->bytes(), 0, layout_.address_of(boxrun_systrap_call));
  }
  write_trampoline(page.subspan(site.start, site.end - site.start), where.ip);
  put_jump(page, next_at_, site.long_jump, trampoline);
  if (site.long_jump != site.start) {
    put(page, site.start, uint8_t{0xeb});
    put(page, site.start + 1, static_cast<uint8_t>(site.long_jump - site.end));
  }
  return {};
}

std::vector<StubCall> CallPatches::plan(ControlFile& file, const AddressSpace::CallSite& where) {
  next_page_ = next_trampolines_ = nullptr;
  const uint64_t address = page_down(where.ip - 1);
  const auto old = pages_.find(address);
  const bool room = old != pages_.end() || pages_.size() < kMaxPages;
  if (!room || retired_ || used_ == kMaxTrampolines || where.spare.size() < kPageSize) return {};
  // The patched version where there is one: a site cannot be patched twice.
  const std::span<const std::byte> page = old == pages_.end() ? where.page : old->second->bytes();
  Site site;
  if (!find_site(page, where.ip - address, where.number, site) || !prepare(file, where, site).ok())
    return {};
  std::vector<StubCall> calls;
  if (next_trampolines_ != trampolines_) {
    calls.push_back(next_trampolines_->map_at(next_trampolines_at_));
  }
  calls.push_back(next_page_->map_at(next_at_));
  return calls;
}

void CallPatches::done(std::span<const StubCall> calls) {
  for (const StubCall& call : calls) {
    if (call.args[0] == next_trampolines_at_) {
      trampolines_ = next_trampolines_;
      trampolines_at_ = next_trampolines_at_;
    } else {
      pages_[next_at_] = std::move(next_page_);
      used_++;
    }
  }
}

std::vector<StubCall> CallPatches::make_way(std::span<const Op> ops) {
  std::vector<StubCall> calls;
  const bool all = trampolines_ && std::ranges::any_of(ops, [this](const Op& op) {
                     return op.guest.contains(trampolines_at_);
                   });
  for (const auto& [address, page] : pages_) {
    const bool protects = std::ranges::any_of(ops, [at = address](const Op& op) {
      return op.kind == Op::Kind::kProtect && op.guest.contains(at);
    });
    if (all || protects) calls.push_back(unmap(address));
  }
  if (all) {
    calls.push_back(unmap(trampolines_at_));
    retired_ = true;
  }
  return calls;
}

void CallPatches::unmapped(std::span<const StubCall> calls) {
  if (pages_.empty() && !trampolines_) return;
  for (const StubCall& call : calls) {
    if (call.number != SYS_mmap && call.number != SYS_munmap) continue;
    const Range range{call.args[0], call.args[0] + call.args[1]};
    pages_.erase(pages_.lower_bound(range.start), pages_.lower_bound(range.end));
    if (trampolines_ && range.contains(trampolines_at_)) trampolines_ = nullptr;
  }
}

}  // namespace boxrun::platform
