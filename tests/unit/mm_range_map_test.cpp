#include "sentry/mm/range_map.h"

#include <array>
#include <random>
#include <vector>

#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::mm;

namespace {

// A value like the pages of a mapping: an offset that moves along, and a colour.
struct Value {
  uint64_t offset = 0;
  int colour = 0;
  void advance(uint64_t by) { offset += by; }
  bool continued_by(const Value& next, uint64_t by) const {
    return colour == next.colour && offset + by == next.offset;
  }
};

constexpr uint64_t kSpan = 64;
// One value per address; colour 0 means that there is none.
using Model = std::array<Value, kSpan>;

void check_equal(const RangeMap<Value>& map, const Model& model) {
  uint64_t at = 0;
  const Value* last = nullptr;
  uint64_t last_end = 0;
  uint64_t last_size = 0;
  for (const auto& [range, value] : map) {
    for (; at < range.start; at++) REQUIRE(model[at].colour == 0);
    for (; at < range.end; at++) {
      REQUIRE(model[at].colour == value.colour);
      REQUIRE(model[at].offset == value.offset + (at - range.start));
    }
    // Neighbours that continue each other must have been joined.
    if (last != nullptr && last_end == range.start) {
      REQUIRE_FALSE(last->continued_by(value, last_size));
    }
    last = &value;
    last_end = range.end;
    last_size = range.size();
  }
  for (; at < kSpan; at++) REQUIRE(model[at].colour == 0);
}

}  // namespace

TEST_CASE("RangeMap behaves like one value per address") {
  std::mt19937 random(7);
  RangeMap<Value> map;
  Model model{};
  for (int step = 0; step < 20000; step++) {
    const uint64_t start = random() % kSpan;
    const Range range{start, start + 1 + random() % std::min<uint64_t>(12, kSpan - start)};
    const int colour = 1 + static_cast<int>(random() % 2);
    switch (random() % 4) {
      case 0: {
        if (map.overlaps(range)) break;
        // Often the same offset relation, so that neighbours join.
        const uint64_t shift = random() % 4 == 0 ? 1000 : 0;
        map.insert(range, {range.start + shift, colour});
        for (uint64_t a = range.start; a < range.end; a++) model[a] = {a + shift, colour};
        break;
      }
      case 1: {
        uint64_t removed = 0;
        map.erase(range, [&](Range piece, Value& value) {
          REQUIRE(range.contains(piece));
          REQUIRE(model[piece.start].offset == value.offset);
          removed += piece.size();
        });
        for (uint64_t a = range.start; a < range.end; a++) {
          removed -= model[a].colour != 0 ? 1 : 0;
          model[a] = {};
        }
        REQUIRE(removed == 0);
        break;
      }
      case 2:
        map.update(range, [&](Range, Value& value) { value.colour = colour; });
        for (uint64_t a = range.start; a < range.end; a++) {
          if (model[a].colour != 0) model[a].colour = colour;
        }
        break;
      default: {
        uint64_t seen = 0;
        map.for_each(range, [&](Range piece, const Value& value) {
          REQUIRE(model[piece.start].offset == value.offset);
          seen += piece.size();
        });
        map.for_each_gap(range, [&](Range gap) {
          for (uint64_t a = gap.start; a < gap.end; a++) REQUIRE(model[a].colour == 0);
          seen += gap.size();
        });
        REQUIRE(seen == range.size());
        bool all = true;
        for (uint64_t a = range.start; a < range.end; a++) all = all && model[a].colour != 0;
        REQUIRE(map.covers(range) == all);
        const auto found = map.find(start);
        REQUIRE((found != map.end()) == (model[start].colour != 0));
      }
    }
    map.for_each({start, start}, [](Range, const Value&) { FAIL("an empty range has no pieces"); });
    check_equal(map, model);
  }
}
