#include "sentry/loader/vdso_pages.h"

#include <cstring>

extern "C" const char boxrun_vdso_begin[];
extern "C" const char boxrun_vdso_end[];

namespace boxrun::loader {

// Offset 0 is the time page, the image follows.
class VdsoPages::Source final : public mm::PageSource {
 public:
  Source(mm::MemoryFile& file, Range extent) : file_(file), extent_(extent) {}
  ~Source() override { file_.unref(extent_); }

  int host_fd(bool) override { return -1; }
  Result<Range> page_in(Range wanted, bool) override {
    const Range inside = wanted.intersect({0, extent_.size()});
    if (inside.empty()) return Errno::kNxIo;
    const Range pages{extent_.start + inside.start, extent_.start + inside.end};
    file_.ref(pages);
    return pages;
  }
  uint64_t size() override { return extent_.size(); }
  // Nothing here ever goes away.
  Result<void> add_mapping(mm::MappingObserver&, Range, bool) override { return {}; }
  void remove_mapping(mm::MappingObserver&, Range, bool) override {}
  Identity identity() override { return {}; }

  std::byte* data() const { return file_.data(extent_.start); }

 private:
  mm::MemoryFile& file_;
  const Range extent_;
};

VdsoPages::VdsoPages(Ref<Source> source) : source_(std::move(source)) {}
VdsoPages::~VdsoPages() = default;

Result<std::unique_ptr<VdsoPages>> VdsoPages::create(mm::MemoryFile& memory_file) {
  const auto image_size = static_cast<uint64_t>(boxrun_vdso_end - boxrun_vdso_begin);
  const Range extent = TRY(memory_file.allocate(kPageSize + *page_up(image_size)));
  auto source = make_ref<Source>(memory_file, extent);
  memcpy(source->data() + kPageSize, boxrun_vdso_begin, image_size);
  return std::unique_ptr<VdsoPages>(new VdsoPages(std::move(source)));
}

TimePage& VdsoPages::time_page() { return *reinterpret_cast<TimePage*>(source_->data()); }

Result<uint64_t> VdsoPages::map_into(mm::MemoryManager& mm, const mm::Limits& limits) const {
  using mm::Prot;
  mm::MapRequest image;
  image.length = source_->size();
  image.prot = image.max_prot = Prot::kRead | Prot::kExec;
  image.source = source_;
  image.name = "[vdso]";
  const uint64_t base = TRY(mm.map(image, limits));

  // Shared, so that every process sees what the Sentry writes; never writable.
  mm::MapRequest time;
  time.addr = base;
  time.placement = mm::MapRequest::Placement::kFixed;
  time.length = kPageSize;
  time.prot = time.max_prot = Prot::kRead;
  time.shared = true;
  time.source = source_;
  time.name = "[vvar]";
  TRY(mm.map(time, limits));
  return base + kPageSize;
}

}  // namespace boxrun::loader
