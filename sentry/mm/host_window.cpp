#include "sentry/mm/host_window.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace boxrun::mm {

Result<Ref<HostWindow>> HostWindow::create(Ref<PageSource> source, int host_fd, uint64_t start,
                                           bool writable) {
  void* base = mmap(nullptr, kSize, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, host_fd,
                    static_cast<off_t>(start));
  if (base == MAP_FAILED) return last_error();
  return adopt_ref(
      new HostWindow(std::move(source), start, writable, static_cast<std::byte*>(base)));
}

HostWindow::HostWindow(Ref<PageSource> source, uint64_t start, bool writable, std::byte* base)
    : source_(std::move(source)), start_(start), writable_(writable), base_(base) {}

HostWindow::~HostWindow() { munmap(base_, kSize); }

Result<Ref<HostWindow>> WindowCache::get(const Ref<PageSource>& source, int host_fd,
                                         uint64_t file_offset, bool writable) {
  const uint64_t start = file_offset & ~(HostWindow::kSize - 1);
  for (auto at = windows_.rbegin(); at != windows_.rend(); ++at) {
    if (!(*at)->serves(source.get(), start, writable)) continue;
    std::rotate(windows_.rbegin(), at, std::next(at));
    return windows_.back();
  }
  Ref<HostWindow> window = TRY(HostWindow::create(source, host_fd, start, writable));
  // Dropping a window here drops no source: its vma still holds a reference.
  if (windows_.size() == kMost) windows_.erase(windows_.begin());
  windows_.push_back(window);
  return window;
}

void WindowCache::take(const PageSource* source, std::vector<Ref<HostWindow>>& out) {
  const auto ours = [&](const Ref<HostWindow>& w) { return w->source() == source; };
  std::ranges::copy_if(windows_, std::back_inserter(out), ours);
  std::erase_if(windows_, ours);
}

}  // namespace boxrun::mm
