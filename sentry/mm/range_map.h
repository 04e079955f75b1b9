#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "src/base/check.h"
#include "src/base/range.h"

namespace boxrun::mm {

// What a RangeMap stores: a value that says something about each address of a range.
template <class V>
concept RangeValue = requires(V v, const V& next, uint64_t bytes) {
  v.advance(bytes);  // v, seen from `bytes` further on: what the second half of a split gets
  {
    v.continued_by(next, bytes)
    } -> std::same_as<bool>;  // `next`, `bytes` further on, says the same
};

// A map from disjoint, non-empty ranges to values. Ranges are split when part of them is erased or
// changed, and joined with neighbours that continue them. Not thread-safe.
template <RangeValue V>
class RangeMap {
  struct Rest {
    uint64_t end;
    V value;
  };
  using Map = std::map<uint64_t, Rest>;

 public:
  // One entry: its range and its value. `value` belongs to the map.
  struct Item {
    Range range;
    const V& value;
  };
  class Iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = Item;
    Iterator() = default;
    explicit Iterator(typename Map::const_iterator at) : at_(at) {}
    Item operator*() const { return {{at_->first, at_->second.end}, at_->second.value}; }
    Range range() const { return {at_->first, at_->second.end}; }
    const V& value() const { return at_->second.value; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    Iterator operator++(int) { return Iterator(at_++); }
    Iterator& operator--() {
      --at_;
      return *this;
    }
    bool operator==(const Iterator&) const = default;

   private:
    typename Map::const_iterator at_;
  };

  Iterator begin() const { return Iterator(map_.begin()); }
  Iterator end() const { return Iterator(map_.end()); }
  size_t size() const { return map_.size(); }
  bool empty() const { return map_.empty(); }

  // The entry that holds `address`, or end().
  Iterator find(uint64_t address) const {
    const Iterator at = first_after(address);
    return at != end() && at.range().start <= address ? at : end();
  }
  // The first entry that ends above `address`: it holds it or comes after it.
  Iterator first_after(uint64_t address) const {
    auto at = map_.upper_bound(address);
    if (at != map_.begin() && std::prev(at)->second.end > address) --at;
    return Iterator(at);
  }
  bool overlaps(Range range) const {
    if (range.empty()) return false;
    const Iterator at = first_after(range.start);
    return at != end() && at.range().start < range.end;
  }
  // True when every address of `range` is in some entry.
  bool covers(Range range) const {
    uint64_t at = range.start;
    for (Iterator it = first_after(at); at < range.end; ++it) {
      if (it == end() || it.range().start > at) return false;
      at = it.range().end;
    }
    return true;
  }

  // Calls f(Range, V) for each entry that overlaps `range`, clipped to it, in order.
  template <class F>
  void for_each(Range range, F&& f) const {
    if (range.empty()) return;
    for (Iterator at = first_after(range.start); at != end() && at.range().start < range.end;
         ++at) {
      const Range clipped = at.range().intersect(range);
      V value = at.value();
      value.advance(clipped.start - at.range().start);
      f(clipped, value);
    }
  }
  // The same as a list, for callers that change the map meanwhile.
  std::vector<std::pair<Range, V>> slices(Range range) const {
    std::vector<std::pair<Range, V>> list;
    for_each(range, [&](Range r, const V& v) { list.emplace_back(r, v); });
    return list;
  }
  std::vector<Range> gaps(Range range) const {
    std::vector<Range> list;
    for_each_gap(range, [&](Range r) { list.push_back(r); });
    return list;
  }
  // Calls f(Range) for each maximal piece of `range` that no entry covers, in order.
  template <class F>
  void for_each_gap(Range range, F&& f) const {
    uint64_t at = range.start;
    for (Iterator it = first_after(at); it != end() && it.range().start < range.end; ++it) {
      if (it.range().start > at) f(Range{at, it.range().start});
      at = it.range().end;
    }
    if (at < range.end) f(Range{at, range.end});
  }

  // Adds an entry where there is none; joins it with its neighbours.
  void insert(Range range, V value) {
    CHECK(!range.empty() && !overlaps(range));
    auto at = map_.emplace_hint(map_.lower_bound(range.start), range.start,
                                Rest{range.end, std::move(value)});
    join(at);
  }
  // Removes what overlaps `range`, calling f(Range, V&) for each piece removed.
  template <class F>
  void erase(Range range, F&& f) {
    if (range.empty()) return;
    split(range.start);
    split(range.end);
    auto at = map_.lower_bound(range.start);
    while (at != map_.end() && at->first < range.end) {
      f(Range{at->first, at->second.end}, at->second.value);
      at = map_.erase(at);
    }
  }
  void erase(Range range) {
    erase(range, [](Range, V&) {});
  }
  // Calls f(Range, V&) for each piece in `range`, split off from what is outside, then joins again.
  template <class F>
  void update(Range range, F&& f) {
    if (range.empty()) return;
    split(range.start);
    split(range.end);
    auto at = map_.lower_bound(range.start);
    const auto first = at;
    for (; at != map_.end() && at->first < range.end; ++at) {
      f(Range{at->first, at->second.end}, at->second.value);
    }
    join_between(first, at);
  }
  void clear() { map_.clear(); }

 private:
  using MapIterator = typename Map::iterator;

  void split(uint64_t address) {
    auto at = map_.upper_bound(address);
    if (at == map_.begin()) return;
    --at;
    if (at->first == address || at->second.end <= address) return;
    V upper = at->second.value;
    upper.advance(address - at->first);
    map_.emplace_hint(std::next(at), address, Rest{at->second.end, std::move(upper)});
    at->second.end = address;
  }
  // Joins `at` with the entry after it when that continues it.
  bool join_next(MapIterator at) {
    const auto next = std::next(at);
    if (next == map_.end() || next->first != at->second.end) return false;
    if (!at->second.value.continued_by(next->second.value, at->second.end - at->first))
      return false;
    at->second.end = next->second.end;
    map_.erase(next);
    return true;
  }
  void join(MapIterator at) {
    join_next(at);
    if (at != map_.begin()) join_next(std::prev(at));
  }
  // Joins the entries [first, last) with each other and with the neighbours of the whole.
  void join_between(MapIterator first, MapIterator last) {
    const uint64_t stop = last == map_.end() ? UINT64_MAX : last->first;
    if (first == map_.end()) return;
    auto at = first == map_.begin() ? first : std::prev(first);
    while (at != map_.end() && at->first < stop) {
      if (!join_next(at)) ++at;
    }
  }

  Map map_;
};

}  // namespace boxrun::mm
