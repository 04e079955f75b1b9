// What the tests of mm share: a memory file with a platform, and files to map.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>

#include <map>
#include <memory>
#include <string>

#include "sentry/mm/memory_manager.h"
#include "src/base/bytes.h"
#include "tests/unit/mm_fake.h"
#include "tests/unit/test.h"

namespace boxrun::mm::test {

inline constexpr Prot kRw = Prot::kRead | Prot::kWrite;
inline constexpr uint64_t kMiB = 1 << 20;
inline constexpr uint64_t kPage = kPageSize;

struct World {
  explicit World(uint64_t limit = 64 * kMiB) {
    install_fault_handlers();
    auto backing = MemoryFile::make_backing(-1);
    REQUIRE(backing.ok());
    auto made = MemoryFile::create(std::move(backing).take(), limit);
    REQUIRE(made.ok());
    file = std::move(made).take();
  }
  ~World() { CHECK(file->used() == 0); }
  Ref<MemoryManager> mm() {
    auto made = MemoryManager::create(platform, *file);
    REQUIRE(made.ok());
    return std::move(made).take();
  }

  FakePlatform platform;
  std::unique_ptr<MemoryFile> file;
};

inline uint64_t map(MemoryManager& mm, uint64_t length, Prot prot = kRw, uint64_t fixed = 0,
                    const Limits& limits = {}) {
  MapRequest request;
  request.length = length;
  request.prot = prot;
  if (fixed != 0) {
    request.addr = fixed;
    request.placement = MapRequest::Placement::kFixed;
  }
  auto mapped = mm.map(request, limits);
  REQUIRE(mapped.ok());
  return *mapped;
}

// A host file as a page source, or (host = false) one that gives memory-file pages.
class TestFile final : public PageSource {
 public:
  TestFile(std::string content, MemoryFile* pages = nullptr) : pages_(pages) {
    fd_ = UniqueFd(memfd_create("test", MFD_CLOEXEC));
    (void)!write(fd_.get(), content.data(), content.size());
    size_ = content.size();
  }
  ~TestFile() override {
    for (auto& [offset, page] : cache_) pages_->unref(page);
  }
  int host_fd(bool) override { return pages_ != nullptr ? -1 : fd_.get(); }
  Result<Range> page_in(Range range, bool for_write) override {
    page_ins++;
    last_for_write = for_write;
    if (range.start >= *page_up(size_)) return Errno::kNxIo;
    auto at = cache_.find(range.start);
    if (at == cache_.end()) {
      const Range page = TRY(pages_->allocate(kPageSize));
      (void)!pread(fd_.get(), pages_->data(page.start), kPageSize, static_cast<off_t>(range.start));
      at = cache_.emplace(range.start, page).first;
    }
    pages_->ref(at->second);
    return at->second;
  }
  uint64_t size() override { return size_; }
  Result<void> add_mapping(MappingObserver& observer, Range range, bool writable) override {
    if (refuse) return Errno::kPerm;
    mappings.add(observer, range, writable);
    return {};
  }
  void remove_mapping(MappingObserver& observer, Range range, bool writable) override {
    mappings.remove(observer, range, writable);
  }
  Identity identity() override { return {8, 42, "/test"}; }

  void truncate(uint64_t size) {
    (void)!ftruncate(fd_.get(), static_cast<off_t>(size));
    size_ = size;
    const Range gone{*page_up(size), UINT64_MAX};
    mappings.invalidate(*this, gone, MappingObserver::Gone::kTruncated);
    for (auto at = cache_.lower_bound(gone.start); at != cache_.end(); at = cache_.erase(at)) {
      pages_->unref(at->second);
    }
  }
  int fd() const { return fd_.get(); }

  MappingList mappings;
  bool refuse = false;
  int page_ins = 0;
  bool last_for_write = false;

 private:
  UniqueFd fd_;
  MemoryFile* pages_;
  uint64_t size_ = 0;
  std::map<uint64_t, Range> cache_;
};

inline uint64_t map_file(MemoryManager& mm, Ref<PageSource> source, uint64_t length, Prot prot,
                         bool shared, uint64_t offset = 0) {
  MapRequest request;
  request.length = length;
  request.prot = prot;
  request.shared = shared;
  request.source = std::move(source);
  request.offset = offset;
  auto mapped = mm.map(request, {});
  REQUIRE(mapped.ok());
  return *mapped;
}

inline std::string text_of_pages(int pages) {
  std::string text;
  for (int i = 0; i < pages; i++) text += std::string(kPageSize, static_cast<char>('a' + i));
  return text;
}

}  // namespace boxrun::mm::test
