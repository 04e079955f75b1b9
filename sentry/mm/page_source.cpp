#include "sentry/mm/page_source.h"

#include <algorithm>

namespace boxrun::mm {

Result<void> PageSource::sync(Range) { return {}; }

Result<void> PageSource::punch_hole(Range) { return Errno::kOpNotSupp; }

void MappingList::add(MappingObserver& observer, Range file_range, bool shared_writable) {
  Lock lock(mutex_);
  auto entry = std::ranges::find(entries_, &observer, &Entry::observer);
  if (entry == entries_.end()) entry = entries_.insert(entry, Entry{&observer, 0, 0});
  entry->bytes += file_range.size();
  if (shared_writable) entry->writable_bytes += file_range.size();
}

void MappingList::remove(MappingObserver& observer, Range file_range, bool shared_writable) {
  Lock lock(mutex_);
  auto entry = std::ranges::find(entries_, &observer, &Entry::observer);
  CHECK(entry != entries_.end() && entry->bytes >= file_range.size());
  entry->bytes -= file_range.size();
  if (shared_writable) entry->writable_bytes -= file_range.size();
  if (entry->bytes == 0) entries_.erase(entry);
}

void MappingList::invalidate(PageSource& source, Range file_range, MappingObserver::Gone gone) {
  Lock lock(mutex_);
  for (Entry& entry : entries_) entry.observer->invalidate(source, file_range, gone);
}

bool MappingList::mapped() {
  Lock lock(mutex_);
  return !entries_.empty();
}

bool MappingList::mapped_shared_writable() {
  Lock lock(mutex_);
  return std::ranges::any_of(entries_, [](const Entry& e) { return e.writable_bytes > 0; });
}

}  // namespace boxrun::mm
