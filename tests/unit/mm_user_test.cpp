#include "sentry/mm/memory_manager.h"

#include <array>
#include <string>

#include "tests/unit/mm_world.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;
using namespace boxrun::mm::test;

TEST_CASE("pinned memory outlives its mapping") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage);
  auto pinned = mm->pin(addr + 10, 2 * kPage, Access::kWrite);
  REQUIRE(pinned.ok());
  CHECK(pinned->size() == 2 * kPage);
  CHECK(mm->unmap(addr, 4 * kPage).ok());
  const uint64_t again = map(*mm, 4 * kPage);
  IoBuffers buffers = pinned->buffers();
  const std::string text(2 * kPage, 'x');
  CHECK(*buffers.put(as_bytes_of(text.data(), text.size())) == text.size());
  CHECK(load(*mm, again) == 0);
  CHECK(load(*mm, again + kPage) == 0);
}

TEST_CASE("pin gives the prefix that can be touched") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 4 * kPage);
  CHECK(mm->protect(addr + 3 * kPage, kPage, Prot::kRead, false).ok());
  CHECK(mm->pin(addr, 4 * kPage, Access::kWrite)->size() == 3 * kPage);
  CHECK(mm->pin(addr, 4 * kPage, Access::kRead)->size() == 4 * kPage);
  CHECK(mm->pin(addr + 3 * kPage, kPage, Access::kWrite).error() == Errno::kFault);
  CHECK(mm->pin(addr, UINT64_MAX, Access::kRead).error() == Errno::kFault);
  CHECK(mm->pin(addr, 0, Access::kRead).ok());
  const std::array<iovec, 3> list{{{reinterpret_cast<void*>(addr), 10},
                                   {nullptr, 0},
                                   {reinterpret_cast<void*>(addr + 3 * kPage - 5), 20}}};
  CHECK(mm->copy_out(addr + 100, bytes_of(list)).ok());
  CHECK(mm->pin_iovec(addr + 100, 3, Access::kRead)->size() == 30);
  CHECK(mm->pin_iovec(addr + 100, 3, Access::kWrite)->size() == 15);
  CHECK(mm->pin_iovec(addr + 100, 1025, Access::kRead).error() == Errno::kInval);
  CHECK(mm->pin_iovec(8, 1, Access::kRead).error() == Errno::kFault);
}

TEST_CASE("copies, strings and atomics") {
  World world;
  auto mm = world.mm();
  const uint64_t addr = map(*mm, 2 * kPage);
  CHECK(mm->copy_out(addr + kPage - 3, as_bytes_of("abcdef", 7)).ok());
  CHECK(*mm->copy_in_string(addr + kPage - 3, 6) == "abcdef");
  CHECK(mm->copy_in_string(addr + kPage - 3, 5).error() == Errno::kNameTooLong);
  // A string that ends with the last mapped byte.
  CHECK(mm->copy_out(addr + 2 * kPage - 3, as_bytes_of("xy", 3)).ok());
  CHECK(*mm->copy_in_string(addr + 2 * kPage - 3, 4095) == "xy");
  CHECK(mm->copy_out(addr + 2 * kPage - 1, as_bytes_of("z", 1)).ok());
  CHECK(mm->copy_in_string(addr + 2 * kPage - 1, 4095).error() == Errno::kFault);
  std::array<std::byte, 16> bytes{};
  CHECK(mm->copy_in(addr + 2 * kPage - 8, bytes).error() == Errno::kFault);
  CHECK(mm->copy_in(UINT64_MAX - 4, bytes).error() == Errno::kFault);
  CHECK(mm->copy_in(0, bytes).error() == Errno::kFault);
  CHECK(mm->zero(addr, 2 * kPage).ok());
  CHECK(load(*mm, addr + 2 * kPage - 1) == 0);
  CHECK(mm->write(UserOut<uint32_t>{addr + 4}, 41U).ok());
  CHECK(*mm->load_u32(addr + 4) == 41);
  CHECK(*mm->exchange_u32(addr + 4, 42) == 41);
  uint32_t expected = 1;
  CHECK_FALSE(*mm->compare_exchange_u32(addr + 4, expected, 9));
  CHECK(expected == 42);
  CHECK(*mm->compare_exchange_u32(addr + 4, expected, 9));
  CHECK(*mm->load_u32(addr + 4) == 9);
  CHECK(mm->load_u32(addr + 5).error() == Errno::kInval);
  CHECK(mm->load_u32(addr + 2 * kPage).error() == Errno::kFault);
  CHECK(mm->protect(addr, kPage, Prot::kRead, false).ok());
  CHECK(mm->exchange_u32(addr, 1).error() == Errno::kFault);
  CHECK(mm->copy_out(addr, bytes).error() == Errno::kFault);
  // A debugger may.
  CHECK(mm->poke(addr, as_bytes_of("Q", 1)).ok());
  CHECK(load(*mm, addr) == 'Q');
  CHECK(mm->protect(addr, kPage, Prot::kNone, false).ok());
  CHECK(mm->peek(addr, std::span(bytes).first(1)).ok());
  CHECK(bytes[0] == std::byte{'Q'});
}

TEST_CASE("futex keys: private by address, shared by the page behind it") {
  World world;
  auto mm = world.mm();
  MapRequest request;
  request.length = 2 * kPage;
  request.prot = kRw;
  request.shared = true;
  const uint64_t shared = *mm->map(request, {});
  auto child = std::move(*&*mm->fork());
  CHECK(*mm->futex_key(shared + 8, true) == *child->futex_key(shared + 8, true));
  CHECK_FALSE(*mm->futex_key(shared + 8, false) == *child->futex_key(shared + 8, false));
  const uint64_t own = map(*mm, kPage);
  CHECK_FALSE(*mm->futex_key(own, true) == *mm->futex_key(own, false));
  CHECK(mm->futex_key(own - kPage, true).error() == Errno::kFault);
  CHECK(mm->futex_key(own + 2, true).error() == Errno::kInval);
  // Shared memory is shared.
  CHECK(store(*mm, shared, 5) == Touch::kDone);
  CHECK(load(*child, shared) == 5);
  CHECK(store(*child, shared + kPage, 6) == Touch::kDone);
  CHECK(load(*mm, shared + kPage) == 6);
}
