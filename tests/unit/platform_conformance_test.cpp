// What every platform promises to the kernel above it: see platforms/platform.h.
#include <fcntl.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <latch>
#include <thread>
#include <vector>

#include "tests/unit/platform_suite.h"

using namespace boxrun;
using namespace boxrun::platform;
using namespace std::chrono_literals;

namespace {

constexpr uint64_t kFarAddress = 0x7000'0000'0000;
constexpr Range kFarPage{kFarAddress, kFarAddress + kPageSize};
constexpr uint64_t kOtherOffset = kDataOffset + (1 << 20);

Result<void> apply(AddressSpace& space, const Op& op) { return space.apply({&op, 1}); }

}  // namespace

TEST_CASE("system calls arrive with number and six arguments and get their result") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    Registers r = registers_at(guest_syscall);
    r.rax = 231;
    r.rdi = 1, r.rsi = 2, r.rdx = 3, r.r10 = 4, r.r8 = 5, r.r9 = UINT64_MAX;
    t.cpu.reset(r);
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 231);
    for (size_t i = 0; i < 5; i++) CHECK(t.cpu.syscall_arg(i) == i + 1);
    CHECK(t.cpu.syscall_arg(5) == UINT64_MAX);
    CHECK(t.cpu.sp() == r.rsp);
    const Stop next = t.run_with(62);
    REQUIRE(next.why == Why::kSyscall);
    CHECK(next.arch == Arch::kX86_64);
    CHECK(t.cpu.syscall_number() == 62);
    CHECK(t.cpu.registers().rdi == 1);
  });
}

TEST_CASE("written registers reach the guest, unwritten ones keep their values") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall, 0x1234);
    REQUIRE(t.run().why == Why::kSyscall);
    Registers& r = t.cpu.registers_for_write();
    CHECK(r.rbx == 0x1234);
    r.rax = 1007;
    r.rdi = 0xabcdef;
    r.r15 = 15;
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1007);
    CHECK(t.cpu.syscall_arg(0) == 0xabcdef);
    CHECK(t.cpu.registers().r15 == 15);
    CHECK(t.cpu.registers().rbx == 0x1234);
  });
}

TEST_CASE("a fault names its address and the access goes on once it is allowed") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    m.memory.set_word(kOtherOffset + 8, 77);
    t.start(guest_load, kFarAddress + 8);
    for (int i = 0; i < 2; i++) {  // the second time nothing was repaired
      const Stop stop = t.run();
      REQUIRE(stop.why == Why::kFault);
      CHECK(stop.addr == kFarAddress + 8);
      CHECK((stop.access == Access::kRead || stop.access == Access::kUnknown));
    }
    REQUIRE(apply(*m.space, map_page(kFarAddress, m.memory, kOtherOffset, Prot::kRead)).ok());
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 1000);
    CHECK(t.cpu.syscall_arg(0) == 77);

    t.start(guest_store, kFarAddress + 8, 78);
    const Stop stop = t.run();
    REQUIRE(stop.why == Why::kFault);
    CHECK(stop.addr == kFarAddress + 8);
    CHECK((stop.access == Access::kWrite || stop.access == Access::kUnknown));
    CHECK(m.memory.word(kOtherOffset + 8) == 77);
    REQUIRE(apply(*m.space, Op::protect(kFarPage, kReadWrite)).ok());
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(m.memory.word(kOtherOffset + 8) == 78);
  });
}

TEST_CASE("a jump to where nothing is faults as execution") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    Registers r = registers_at(guest_text);
    r.rip = kFarAddress + 3;
    t.cpu.reset(r);
    const Stop stop = t.run();
    REQUIRE(stop.why == Why::kFault);
    CHECK(stop.addr == kFarAddress + 3);
    CHECK(stop.access == Access::kExecute);
    CHECK(t.cpu.ip() == kFarAddress + 3);
  });
}

TEST_CASE("protect and unmap skip holes and replace nothing else") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    m.memory.set_word(kOtherOffset, 5);
    std::vector<Op> ops;
    for (uint64_t i = 0; i < 200; i += 2) {
      ops.push_back(map_page(kFarAddress + i * kPageSize, m.memory, kOtherOffset, kReadWrite));
    }
    ops.push_back(Op::protect({kFarAddress, kFarAddress + 200 * kPageSize}, Prot::kRead));
    ops.push_back(Op::unmap({kFarAddress + 100 * kPageSize, kFarAddress + 105 * kPageSize}));
    REQUIRE(m.space->apply(ops).ok());
    t.start(guest_load, kFarAddress + 198 * kPageSize);
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_arg(0) == 5);
    t.start(guest_store, kFarAddress + 198 * kPageSize, 6);
    CHECK(t.run().why == Why::kFault);
    for (const uint64_t page : {uint64_t{1}, uint64_t{102}}) {
      t.start(guest_load, kFarAddress + page * kPageSize);
      CHECK(t.run().why == Why::kFault);
    }
  });
}

TEST_CASE("an operation that the host refuses names its error and leaves earlier ones done") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    UniqueFd read_only(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    m.memory.set_word(kOtherOffset, 9);
    const Op ops[] = {
        map_page(kFarAddress, m.memory, kOtherOffset, Prot::kRead),
        Op::map({kFarAddress + kPageSize, kFarAddress + 2 * kPageSize}, read_only.get(), 0,
                kReadWrite),
    };
    CHECK(m.space->apply(ops).error() == Errno::kAcces);
    t.start(guest_load, kFarAddress);
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_arg(0) == 9);
    const Op bad = Op::map(kFarPage, -1, 0, Prot::kRead);
    CHECK(apply(*m.space, bad).error() == Errno::kBadF);
  });
}

TEST_CASE("an interrupt ends the run that it meets, or the next one, exactly once") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_spin);
    t.context->interrupt();
    t.context->interrupt();
    CHECK(t.run().why == Why::kInterrupted);
    CHECK(t.cpu.registers().rip == guest_address(guest_spin));

    std::thread during([&] {
      std::this_thread::sleep_for(20ms);
      t.context->interrupt();
    });
    CHECK(t.run().why == Why::kInterrupted);
    during.join();

    t.start(guest_syscall);
    REQUIRE(t.run().why == Why::kSyscall);
    t.context->interrupt();
    CHECK(t.run_with(3).why == Why::kInterrupted);
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_number() == 3);  // the result was not lost on the way
    CHECK(t.run_with(4).why == Why::kSyscall);
  });
}

TEST_CASE("no interrupt is lost however it races with the run") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_spin);
    constexpr int kRounds = 500;
    std::atomic<int> asked{0};
    std::atomic<int> taken{0};
    std::thread other([&] {
      for (int i = 1; i <= kRounds; i++) {
        while (taken.load() < i - 1) std::this_thread::yield();
        for (int spin = 0; spin < i % 64 * 50; spin++) asked.load();
        asked.store(i);
        t.context->interrupt();
      }
    });
    while (taken.load() < kRounds) {
      REQUIRE(t.run().why == Why::kInterrupted);
      if (asked.load() > taken.load()) taken++;
    }
    other.join();
  });
}

TEST_CASE("a change of mappings is seen by all guest threads, whoever makes it") {
  on_platforms(Which::kAll, [](Machine& m) {
    AddressSpace& space = m.add_program();
    m.memory.set_word(kDataOffset, 1);
    m.memory.set_word(kOtherOffset, 2);
    std::atomic<uint64_t> seen{0};
    std::atomic<bool> end{false};
    std::thread guest([&] {
      GuestThread t(*m.platform, space);
      t.start(guest_load, kDataAddress);
      while (!end.load() && t.run().why == Why::kSyscall) {
        seen.store(t.cpu.syscall_arg(0));
        t.cpu.set_result(0);
      }
    });
    const auto wait_for = [&seen](uint64_t value) {
      const auto deadline = std::chrono::steady_clock::now() + 10s;
      while (seen.load() != value && std::chrono::steady_clock::now() < deadline)
        std::this_thread::yield();
      CHECK(seen.load() == value);
    };
    wait_for(1);
    for (const uint64_t value : {2, 1, 2}) {  // this thread has no Context of its own
      const uint64_t offset = value == 1 ? kDataOffset : kOtherOffset;
      REQUIRE(apply(space, map_page(kDataAddress, m.memory, offset, kReadWrite)).ok());
      wait_for(value);
    }
    end.store(true);
    guest.join();
  });
}

TEST_CASE("after a withdrawal no guest thread can write to the page") {
  on_platforms(Which::kAll, [](Machine& m) {
    AddressSpace& space = m.add_program();
    std::atomic<bool> end{false};
    std::atomic<Context*> context{nullptr};
    std::thread guest([&] {
      GuestThread t(*m.platform, space);
      t.start(guest_hammer, kDataAddress);
      context.store(t.context.get());
      while (!end.load()) {
        const Why why = t.run().why;
        if (why != Why::kFault && why != Why::kInterrupted) break;
      }
      while (!end.load()) std::this_thread::yield();
    });
    while (context.load() == nullptr) std::this_thread::yield();
    const Range page{kDataAddress, kDataAddress + kPageSize};
    const Op withdrawals[] = {Op::unmap(page), Op::protect(page, Prot::kRead),
                              Op::protect(page, Prot::kNone),
                              map_page(kDataAddress, m.memory, kOtherOffset, kReadWrite)};
    for (int round = 0; round < 60; round++) {
      REQUIRE(apply(space, map_page(kDataAddress, m.memory, kDataOffset, kReadWrite)).ok());
      const uint64_t before = m.memory.word(kDataOffset);
      const auto deadline = std::chrono::steady_clock::now() + 10s;
      while (m.memory.word(kDataOffset) == before && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
      }
      REQUIRE(m.memory.word(kDataOffset) != before);
      REQUIRE(apply(space, withdrawals[round % 4]).ok());
      const uint64_t after = m.memory.word(kDataOffset);
      for (int i = 0; i < 200; i++) REQUIRE(m.memory.word(kDataOffset) == after);
    }
    end.store(true);
    context.load()->interrupt();
    guest.join();
  });
}

TEST_CASE("a forked address space has the same mappings and its own life") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_load, kDataAddress);
    m.memory.set_word(kDataOffset, 10);
    m.memory.set_word(kOtherOffset, 20);
    REQUIRE(t.run().why == Why::kSyscall);
    auto forked = m.platform->new_address_space(m.space.get());
    REQUIRE(forked.ok());
    CpuState copy(host_xstate_size());
    t.start(guest_load, kDataAddress);
    copy.copy_from(t.cpu);
    REQUIRE(apply(**forked, map_page(kFarAddress, m.memory, kOtherOffset, Prot::kRead)).ok());
    std::thread child([&] {
      GuestThread c(*m.platform, **forked);
      c.cpu.copy_from(copy);
      REQUIRE(c.run().why == Why::kSyscall);
      CHECK(c.cpu.syscall_arg(0) == 10);
      // Two operations: the list page of the child is its own, too.
      const Op ops[] = {map_page(kDataAddress, m.memory, kOtherOffset, Prot::kRead),
                        Op::unmap(kFarPage)};
      REQUIRE(c.space->apply(ops).ok());
      REQUIRE(c.run().why == Why::kSyscall);
      CHECK(c.cpu.syscall_arg(0) == 20);
      auto grandchild = m.platform->new_address_space(forked->get());
      REQUIRE(grandchild.ok());
      c.space = grandchild->get();
      c.start(guest_load, kDataAddress);
      REQUIRE(c.run().why == Why::kSyscall);
      CHECK(c.cpu.syscall_arg(0) == 20);
      c.context.reset();
    });
    child.join();
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_arg(0) == 10);
    t.start(guest_load, kFarAddress);
    CHECK(t.run().why == Why::kFault);
  });
}

TEST_CASE("a Context moves to a new address space, and the old one may go first") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    t.start(guest_syscall);
    for (int i = 0; i < 5; i++) {
      REQUIRE(t.run().why == Why::kSyscall);
      auto next = std::move(m.platform->new_address_space(nullptr)).take();
      REQUIRE(map_program(*next, m.memory).ok());
      m.space = std::move(next);  // destroys the old one
      t.space = m.space.get();
      t.start(guest_load, kDataAddress);
      m.memory.set_word(kDataOffset, static_cast<uint64_t>(i));
      REQUIRE(t.run().why == Why::kSyscall);
      CHECK(t.cpu.syscall_arg(0) == static_cast<uint64_t>(i));
    }
  });
}

TEST_CASE("host files are mapped next to the memory file, whoever maps them") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    std::vector<UniqueFd> files;
    std::vector<Op> ops;
    for (uint64_t i = 0; i < 10; i++) {
      files.emplace_back(::memfd_create("file", MFD_CLOEXEC));
      const uint64_t words[512] = {100 + i};
      REQUIRE(::pwrite(files[i].get(), words, sizeof words, 0) == sizeof words);
      const uint64_t at = kFarAddress + i * kPageSize;
      ops.push_back(Op::map({at, at + kPageSize}, files[i].get(), 0, Prot::kRead));
    }
    REQUIRE(m.space->apply(ops).ok());
    for (uint64_t i = 0; i < 10; i++) {
      t.start(guest_load, kFarAddress + i * kPageSize);
      REQUIRE(t.run().why == Why::kSyscall);
      CHECK(t.cpu.syscall_arg(0) == 100 + i);
    }
    // Another file under a descriptor number that was used before.
    REQUIRE(::dup2(files[3].get(), files[4].get()) >= 0);
    REQUIRE(apply(*m.space, Op::map(kFarPage, files[4].get(), 0, Prot::kRead)).ok());
    t.start(guest_load, kFarAddress);
    REQUIRE(t.run().why == Why::kSyscall);
    CHECK(t.cpu.syscall_arg(0) == 103);
    // The host truncates: a bus error of the guest.
    REQUIRE(::ftruncate(files[3].get(), 0) == 0);
    t.start(guest_load, kFarAddress);
    const Stop stop = t.run();
    REQUIRE(stop.why == Why::kTrap);
    CHECK(stop.signo == SIGBUS);
    CHECK(stop.code == BUS_ADRERR);
    CHECK(stop.addr == kFarAddress);
  });
}

TEST_CASE("more files than the stubs keep open at a time") {
  on_platforms(Which::kAll, [](Machine& m) {
    GuestThread t(*m.platform, m.add_program());
    for (uint64_t i = 0; i < 300; i++) {
      UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
      REQUIRE(::pwrite(file.get(), &i, sizeof i, 0) == sizeof i);
      REQUIRE(apply(*m.space, Op::map(kFarPage, file.get(), 0, Prot::kRead)).ok());
      t.start(guest_load, kFarAddress);
      REQUIRE(t.run().why == Why::kSyscall);
      CHECK(t.cpu.syscall_arg(0) == i);
    }
  });
}

TEST_CASE("a thousand contexts") {
  on_platforms(Which::kAll, [](Machine& m) {
    constexpr size_t kContexts = 1000;
    AddressSpace& space = m.add_program();
    std::latch all_ran(kContexts);
    std::atomic<size_t> good{0};
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kContexts; i++) {
      threads.emplace_back([&, i] {
        GuestThread t(*m.platform, space);
        t.start(guest_syscall, i);
        bool ok = t.run().why == Why::kSyscall;
        all_ran.arrive_and_wait();
        ok = ok && t.run_with(i).why == Why::kSyscall && t.cpu.syscall_number() == i;
        if (ok && t.cpu.registers().rbx == i) good++;
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(good.load() == kContexts);
    // The address space still serves.
    GuestThread t(*m.platform, space);
    t.start(guest_syscall);
    CHECK(t.run().why == Why::kSyscall);
  });
}
