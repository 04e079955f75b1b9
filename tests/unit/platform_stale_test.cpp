// Attested withdrawal: when apply() has returned, no guest thread can reach what it withdrew,
// however hard it tries. BOXRUN_ROUNDS says how often each platform is tried (5,000).
#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <thread>

#include "tests/unit/platform_suite.h"

using namespace boxrun;
using namespace boxrun::platform;

namespace {

int rounds() {
  const char* text = std::getenv("BOXRUN_ROUNDS");
  return text != nullptr ? std::atoi(text) : 5'000;
}

constexpr uint64_t kPages = 64;
constexpr uint64_t kFirstOffset = 1 << 20;

// A guest thread that counts in the page at kDataAddress whenever it can, in whichever address
// space it is told to.
class Hammer {
 public:
  Hammer(Machine& m, AddressSpace& space) : space_(&space), thread_([this, &m] { run(m); }) {
    while (context_.load() == nullptr) std::this_thread::yield();
  }
  ~Hammer() {
    end_.store(true);
    context_.load()->interrupt();
    thread_.join();
  }
  // Returns once it has run in the new one (execve).
  void move_to(AddressSpace& space) {
    space_.store(&space);
    while (ran_in_.load() != &space) {
      context_.load()->interrupt();
      std::this_thread::yield();
    }
  }
  uint64_t faults() const { return faults_.load(); }

 private:
  void run(Machine& m) {
    GuestThread t(*m.platform, *space_.load());
    context_.store(t.context.get());
    t.start(guest_hammer, kDataAddress);
    while (!end_.load()) {
      t.space = space_.load();
      const Why why = t.run().why;
      if (why == Why::kFault) faults_++;
      REQUIRE(why != Why::kLost);
      ran_in_.store(t.space);
    }
  }

  std::atomic<AddressSpace*> space_;
  std::atomic<Context*> context_{nullptr};
  std::atomic<bool> end_{false};
  std::atomic<AddressSpace*> ran_in_{nullptr};
  std::atomic<uint64_t> faults_{0};
  std::thread thread_;
};

// Pages that were withdrawn hold a value that nobody may change, for as many rounds as there are
// such pages; then they are used again.
class Retired {
 public:
  explicit Retired(const TestMemory& memory) : memory_(memory) {
    for (uint64_t i = 0; i < kPages; i++) free_.push_back(kFirstOffset + i * kPageSize);
  }
  uint64_t take() {
    const uint64_t offset = free_.front();
    free_.pop_front();
    return offset;
  }
  void put(uint64_t offset, uint64_t value) {
    memory_.set_word(offset, value);
    held_.push_back({offset, value});
    if (held_.size() < kPages / 2) return;
    free_.push_back(held_.front().offset);
    held_.pop_front();
  }
  bool untouched() const {
    return std::ranges::all_of(held_,
                               [this](const Held& h) { return memory_.word(h.offset) == h.value; });
  }

 private:
  struct Held {
    uint64_t offset, value;
  };
  const TestMemory& memory_;
  std::deque<uint64_t> free_;
  std::deque<Held> held_;
};

Op map_at_data(const Machine& m, uint64_t offset, Prot prot = kReadWrite) {
  return map_page(kDataAddress, m.memory, offset, prot);
}

// What another process reads from a page that it has now.
uint64_t read_elsewhere(Machine& m, AddressSpace& other, uint64_t offset) {
  REQUIRE(other.apply(std::array{map_at_data(m, offset, Prot::kRead)}).ok());
  return guest_word(m, other, kDataAddress);
}

}  // namespace

TEST_CASE("what was withdrawn is out of reach: unmapped, protected, replaced") {
  on_platforms(Which::kAll, [](Machine& m) {
    AddressSpace& space = m.add_program();
    auto other = m.platform->new_address_space(nullptr).take();
    REQUIRE(map_program(*other, m.memory).ok());
    Retired pages(m.memory);
    uint64_t offset = pages.take();
    REQUIRE(space.apply(std::array{map_at_data(m, offset)}).ok());
    const Hammer hammer(m, space);
    uint64_t reached = 0;
    for (int round = 0; round < rounds(); round++) {
      CAPTURE(round);
      m.memory.set_word(offset, 0);
      const uint64_t next = pages.take();
      // Now and then the thread is given time to get there.
      for (int i = 0; i < 1000 && round % 8 == 0 && m.memory.word(offset) == 0; i++) {
        std::this_thread::yield();
      }
      switch (round % 4) {
        case 0:
          REQUIRE(
              space.apply(std::array{Op::unmap({kDataAddress, kDataAddress + kPageSize})}).ok());
          break;
        case 1:
          REQUIRE(space
                      .apply(std::array{
                          Op::protect({kDataAddress, kDataAddress + kPageSize}, Prot::kRead)})
                      .ok());
          break;
        case 2:  // a copy-on-write break
          REQUIRE(space.apply(std::array{map_at_data(m, next)}).ok());
          break;
        default:
          REQUIRE(space
                      .apply(std::array{
                          Op::protect({kDataAddress, kDataAddress + kPageSize}, Prot::kNone),
                          map_at_data(m, next, Prot::kRead)})
                      .ok());
          break;
      }
      reached += m.memory.word(offset) != 0 ? 1 : 0;
      const uint64_t mark = (uint64_t{1} << 63) | static_cast<uint64_t>(round);
      pages.put(offset, mark);
      if (round % 256 == 0) CHECK(read_elsewhere(m, *other, offset) == mark);
      REQUIRE(pages.untouched());
      REQUIRE(space.apply(std::array{map_at_data(m, next)}).ok());
      offset = next;
    }
    CHECK(reached > 0);
    CHECK(hammer.faults() > 0);
  });
}

TEST_CASE("what was withdrawn is out of reach: other processes, exec and exit") {
  on_platforms(Which::kAll, [](Machine& m) {
    Retired pages(m.memory);
    m.add_program();
    uint64_t offset = pages.take();
    REQUIRE(m.space->apply(std::array{map_at_data(m, offset)}).ok());
    Hammer hammer(m, *m.space);
    uint64_t reached = 0;
    for (int round = 0; round < rounds() / 25; round++) {
      CAPTURE(round);
      m.memory.set_word(offset, 0);
      for (int i = 0; i < 1000 && m.memory.word(offset) == 0; i++) std::this_thread::yield();
      // execve: the thread goes on in a new address space, the old one ends.
      auto next_space = m.platform->new_address_space(nullptr).take();
      REQUIRE(map_program(*next_space, m.memory).ok());
      const uint64_t next = pages.take();
      REQUIRE(next_space->apply(std::array{map_at_data(m, next)}).ok());
      hammer.move_to(*next_space);
      m.space = std::move(next_space);
      reached += m.memory.word(offset) != 0 ? 1 : 0;
      pages.put(offset, (uint64_t{1} << 63) | static_cast<uint64_t>(round));
      REQUIRE(pages.untouched());
      offset = next;
    }
    CHECK(reached > 0);
  });
}
