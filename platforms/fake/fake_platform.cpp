#include "platforms/fake/fake_platform.h"

#include <sys/syscall.h>

#include <atomic>
#include <csignal>
#include <utility>

#include "platforms/fake/fake_context.h"
#include "src/base/bytes.h"
#include "src/base/check.h"

namespace boxrun::platform {

FakePlatform::FakePlatform() { install_fault_handlers(); }

void FakePlatform::add_program(uint64_t address, Program program) {
  Lock lock(mutex_);
  programs_[address] = std::move(program);
}

FakePlatform::Program FakePlatform::main(std::function<int(FakeGuest&)> body) {
  return [body = std::move(body)](FakeGuest& guest) {
    const int status = body(guest);
    for (;;) guest.syscall(SYS_exit_group, status);
  };
}

uint64_t FakePlatform::new_suspension() {
  Lock lock(mutex_);
  return std::exchange(next_suspension_, next_suspension_ + 16);
}

void FakePlatform::add_child(uint64_t suspension, Program child) {
  add_program(suspension, std::move(child));
}

FakePlatform::Program FakePlatform::program_at(uint64_t ip) {
  Lock lock(mutex_);
  auto it = programs_.find(ip);
  return it == programs_.end() ? Program() : it->second;
}

Result<std::unique_ptr<AddressSpace>> FakePlatform::new_address_space(AddressSpace* like) {
  if (like == nullptr) return std::unique_ptr<AddressSpace>(new FakeAddressSpace());
  return std::unique_ptr<AddressSpace>(new FakeAddressSpace(static_cast<FakeAddressSpace&>(*like)));
}

Result<std::unique_ptr<Context>> FakePlatform::new_context() {
  return std::unique_ptr<Context>(new FakeContext(*this));
}

int64_t FakeGuest::issue(Arch arch, uint64_t number, std::array<uint64_t, 6> args,
                         const std::function<void(FakeGuest&)>& child) {
  context_.take_interrupt();
  Registers& r = context_.registers();
  r.rax = r.orig_rax = number;
  r.rdi = args[0];
  r.rsi = args[1];
  r.rdx = args[2];
  r.r10 = args[3];
  r.r8 = args[4];
  r.r9 = args[5];
  const uint64_t suspension = context_.platform().new_suspension();
  if (child) context_.platform().add_child(suspension, child);
  context_.stop({.why = Why::kSyscall, .arch = arch}, suspension);
  return static_cast<int64_t>(r.rax);
}

void FakeGuest::access(uint64_t addr, size_t size, Access access,
                       const std::function<size_t(std::byte*, size_t)>& use) {
  context_.take_interrupt();
  while (const auto miss = context_.space().access(addr, size, access, use)) {
    size -= miss->addr - addr;
    addr = miss->addr;
    if (miss->bus_error) {
      context_.stop({.why = Why::kTrap, .signo = SIGBUS, .code = BUS_ADRERR, .addr = addr});
    } else {
      context_.stop({.why = Why::kFault, .addr = addr, .access = access});
    }
  }
}

void FakeGuest::copy_from(uint64_t addr, std::span<std::byte> out) {
  size_t done = 0;
  access(addr, out.size(), Access::kRead, [&](std::byte* from, size_t size) {
    const size_t copied = safe_copy(&out[done], from, size);
    done += copied;
    return copied;
  });
}

void FakeGuest::copy_to(uint64_t addr, std::span<const std::byte> from) {
  size_t done = 0;
  access(addr, from.size(), Access::kWrite, [&](std::byte* to, size_t size) {
    const size_t copied = safe_copy(to, &from[done], size);
    done += copied;
    return copied;
  });
}

namespace {

std::atomic_ref<uint32_t> word_at(std::byte* p) {
  CHECK(reinterpret_cast<uintptr_t>(p) % sizeof(uint32_t) == 0);
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(p));
}

}  // namespace

uint32_t FakeGuest::load_u32(uint64_t addr) {
  uint32_t value = 0;
  access(addr, sizeof value, Access::kRead, [&](std::byte* p, size_t size) {
    value = word_at(p).load();
    return size;
  });
  return value;
}

void FakeGuest::store_u32(uint64_t addr, uint32_t value) {
  access(addr, sizeof value, Access::kWrite, [&](std::byte* p, size_t size) {
    word_at(p).store(value);
    return size;
  });
}

bool FakeGuest::compare_exchange_u32(uint64_t addr, uint32_t expected, uint32_t desired) {
  bool stored = false;
  access(addr, sizeof expected, Access::kWrite, [&](std::byte* p, size_t size) {
    stored = word_at(p).compare_exchange_strong(expected, desired);
    return size;
  });
  return stored;
}

uint32_t FakeGuest::fetch_add_u32(uint64_t addr, uint32_t value) {
  uint32_t before = 0;
  access(addr, sizeof value, Access::kWrite, [&](std::byte* p, size_t size) {
    before = word_at(p).fetch_add(value);
    return size;
  });
  return before;
}

void FakeGuest::trap(int signo, int code, uint64_t addr) {
  context_.take_interrupt();
  context_.stop({.why = Why::kTrap, .signo = signo, .code = code, .addr = addr});
}

void FakeGuest::checkpoint() { context_.take_interrupt(); }
void FakeGuest::spin() { context_.wait_for_interrupt(); }
void FakeGuest::die() { context_.die(); }
Registers& FakeGuest::registers() { return context_.registers(); }
std::span<std::byte> FakeGuest::xstate() { return context_.xstate(); }

}  // namespace boxrun::platform
